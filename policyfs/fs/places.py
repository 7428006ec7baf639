"""Places: from a node to the directory descriptor and name that lead to it now.

Every step is one openat(O_PATH|O_NOFOLLOW) from the directory above and is checked against the
node's identity, so that what was swapped in the store meanwhile is ESTALE and nothing else.
Descriptors of directories are kept in a bounded LRU; no file has one.
"""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from policyfs.domain import FileType
from policyfs.fs.nodes import ROOT_ID, Node, NodeTable, StaleNodeError
from policyfs.store.facts import directory_folds_by_flag
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree

_REMOVED: Final = 64
"""How many removed directories stay within reach of those who still are in them, at most (at least a
quarter of it, and otherwise a quarter of the descriptors that directories may have)."""

_UNWATCHED_S: Final = 1.0
"""How long a directory descriptor is believed when no watch reports moves in the store."""


_ON_THE_WAY_S: Final = 5.0
"""How long a walk along a path may take from one name to the next."""


class DirectoryGoneError(OSError):
    """A directory was removed or moved, and another has not its name: ESTALE."""

    def __init__(self, node: Node) -> None:
        super().__init__(errno.ESTALE, "the directory was removed or moved", node.name)


class Places:
    """Finds nodes in the store.

    on_open is told of each directory when it gets a descriptor (the watch learns its handle),
    on_folding of each that gets none since it finds names whatever their case: no rule would hold
    in it (docs/decisions/0009-no-case-insensitive-stores.md).
    INVARIANT: a descriptor returned by dirfd() is valid until the next await of the caller, for
    the LRU may close it then.
    """

    def __init__(
        self,
        tree: Tree,
        nodes: NodeTable,
        *,
        capacity: int,
        watched: Callable[[], bool],
        on_open: Callable[[Node, int], None],
        on_folding: Callable[[Node], None] = lambda _: None,
    ) -> None:
        self._tree = tree
        self._nodes = nodes
        self._capacity = capacity
        self._kept = max(_REMOVED // 4, min(_REMOVED, capacity // 4))
        self._watched = watched
        self._on_open = on_open
        self._on_folding = on_folding
        self._fds: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._removed: OrderedDict[int, int] = OrderedDict()
        nodes.tell_of_gone(self._gone)

    def _gone(self, node: Node) -> None:
        fd, _ = self._fds.pop(node.nodeid, (-1, 0.0))
        for number in (fd, self._removed.pop(node.nodeid, -1)):
            if number >= 0:
                os.close(number)

    def __len__(self) -> int:
        return len(self._fds)

    def close(self) -> None:
        """Close every descriptor."""
        self.drop_all()
        self._forget_removed(0)

    def drop(self, nodeid: int) -> None:
        """Forget the descriptor of a directory that may have moved. If it was removed, the descriptor
        is all that leads there, and is kept for those who are in it.
        """
        entry = self._fds.pop(nodeid, None)
        if entry is None:
            return
        if self._is_removed(entry[0]) and nodeid not in self._removed:
            self._removed[nodeid] = entry[0]
            self._forget_removed(self._kept)
        else:
            os.close(entry[0])

    def _is_removed(self, fd: int) -> bool:
        try:
            return self._tree.fstat(fd).nlink == 0
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return True  # network and FUSE stores have no answer for what is gone

    def drop_all(self) -> None:
        """Forget all that may lead elsewhere now: after the watch lost events."""
        for nodeid in list(self._fds):
            self.drop(nodeid)

    def keep_removed(self, node: Node, fd: int) -> None:
        """A directory is about to be removed: *fd* (ours from now on) reaches it while it is known,
        so that who works in it sees what is natively seen there: nothing.
        """
        for nodeid in list(self._removed):
            if not self._is_removed(self._removed[nodeid]):  # it was not, after all
                os.close(self._removed.pop(nodeid))
        if node.nodeid in self._removed:
            os.close(self._removed[node.nodeid])
        self._removed[node.nodeid] = fd
        self._forget_removed(self._kept)

    def removed_fd(self, node: Node) -> int:
        """O_PATH descriptor of a directory that was removed while somebody may be in it, until the next
        await; -1 if it was not, or nothing leads there.
        """
        entry = self._fds.get(node.nodeid)
        fd = self._removed.get(node.nodeid, -1) if entry is None else entry[0]
        return fd if fd >= 0 and self._is_removed(fd) else -1

    def _forget_removed(self, keep: int) -> None:
        while len(self._removed) > keep:
            os.close(self._removed.popitem(last=False)[1])

    def dirfd(self, node: Node) -> int:
        """O_PATH descriptor of a directory node. ESTALE if its path no longer leads to it."""
        if node.nodeid == ROOT_ID:
            return self._tree.root_fd
        entry = self._fds.get(node.nodeid)
        if entry is not None:
            if self._watched() or time.monotonic() - entry[1] < _UNWATCHED_S:
                self._fds.move_to_end(node.nodeid)
                return entry[0]
            self.drop(node.nodeid)
        if node.nodeid in self._removed and (fd := self.removed_fd(node)) >= 0:
            return fd
        return self._reach(node)

    def dirfd_on_the_way(self, node: Node) -> int:
        """As dirfd(), for a step along a path. FileNotFoundError if the directory was there when the
        path led to it, a moment ago, and is gone before anybody was in it.

        As natively; with ESTALE the kernel walks the path once more, and the app would see it if
        another directory went away meanwhile. Whoever asks later may be in a directory that was moved,
        and must not be told that its files are gone.
        """
        try:
            return self.dirfd(node)
        except DirectoryGoneError:
            if node.reached or time.monotonic() - node.named_s > _ON_THE_WAY_S:
                raise
            raise FileNotFoundError(errno.ENOENT, "the directory has just gone", node.name) from None

    def _reach(self, node: Node) -> int:
        """Open the missing part of the chain of directories, root side first."""
        missing: list[Node] = []
        at: Node | None = node
        while at is not None and at.nodeid != ROOT_ID and at.nodeid not in self._fds:
            missing.append(at)
            at = at.parent
        if at is None:  # some directory on the way was removed
            raise DirectoryGoneError(node)
        fd = self.dirfd(at)
        for directory in reversed(missing):
            fd = self._step(fd, directory)
        return fd

    def _step(self, parent_fd: int, node: Node) -> int:
        try:
            fd = self._tree.open_dir(parent_fd, node.name)
        except (FileNotFoundError, NotADirectoryError):
            raise DirectoryGoneError(node) from None
        try:
            if not self._nodes.is_same(node, self._tree.fstat(fd)):
                raise OSError(errno.ESTALE, "another directory has the name now", node.name)
            if directory_folds_by_flag(fd):
                self._on_folding(node)
                raise OSError(errno.EACCES, "a directory that finds names whatever their case", node.name)
        except OSError:
            os.close(fd)
            raise
        node.reached = True
        above = self._fds.get(node.parent.nodeid) if node.parent is not None else None
        # It leads here only as long as what is above does, and is believed no longer than that.
        self._fds[node.nodeid] = (fd, time.monotonic() if above is None else above[1])
        self._on_open(node, fd)
        while len(self._fds) > self._capacity:
            _, (oldest, _) = self._fds.popitem(last=False)
            os.close(oldest)
        return fd

    def still(self, parent: Node, name: bytes, decided: Stat | None) -> None:
        """INVARIANT: the name still is what was decided on (finding facts may have let others in),
        and nothing awaits between this and the change. ESTALE makes the kernel look again.
        """
        try:
            now = self._tree.stat(self.dirfd(parent), name)
        except FileNotFoundError:
            now = None
        if decided is None and now is not None and now.ftype is FileType.SPECIAL:
            raise OSError(errno.EEXIST, "exists, hidden from everyone")
        if (now is None) != (decided is None):
            raise StaleNodeError
        if now is not None and decided is not None and not now.same_inode(decided):
            raise StaleNodeError

    def locate(self, node: Node) -> tuple[int, bytes, Stat]:
        """Directory descriptor, name and attributes of a node by the first name that still leads to it.

        Names that lead elsewhere now are dropped from the node. Not for the root. Raises
        OSError(ESTALE) if none is left.
        """
        for parent, name, _ in list(node.names()):
            if found := self._found(node, parent, name):
                return found[0], name, found[1]
            if len(node.more) or node.ftype is not FileType.DIRECTORY:
                self._nodes.drop_name(node, parent, name)
        raise OSError(errno.ESTALE, "no name leads to this file any more")

    def renamed(self, node: Node) -> bool:
        """Has a file another name than those it is known by; they are brought up to date.

        Names that lead elsewhere are dropped; one that has none left takes those by which other nodes
        of the same file were found since.
        """
        before = set(node.names())
        for parent, name, _ in before:
            if self._found(node, parent, name) is None:
                self._nodes.drop_name(node, parent, name)
        if node.parent is None:
            for other in list(self._nodes.same_inode(node.ino)):
                for parent, name, state in list(other.names()):
                    if other.btime_ns == node.btime_ns and self._found(node, parent, name):
                        self._nodes.add_name(node, parent, name, state)
        return node.parent is not None and set(node.names()) != before

    def _found(self, node: Node, parent: Node, name: bytes) -> tuple[int, Stat] | None:
        """Directory descriptor and attributes, if the name leads to the node."""
        try:
            dirfd = self.dirfd(parent)
            stat = self._tree.stat(dirfd, name)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return None
        return (dirfd, stat) if self._nodes.is_same(node, stat) else None
