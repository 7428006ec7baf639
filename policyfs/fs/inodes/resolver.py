"""The resolver finds the directory descriptor and the name that lead to a node now.

One call opens a directory at any depth, from the nearest one with a kept descriptor (a bounded LRU), without
following symlinks, and the inode is compared. A directory that was moved elsewhere is found by its file
handle. Each step from one directory to the next is checked by a call of its own, once, and again after an
event about it (docs/decisions/0030-bounded-paths.md)."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from policyfs.domain import FileType
from policyfs.fs.inodes.directory_handles import DirectoryHandles
from policyfs.fs.inodes.node import ROOT_ID, Node, StaleNodeError
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.path_bounds import MAX_LEVELS, PathTooLongError
from policyfs.linux.statx import Stat, fstatx_of_new
from policyfs.store.facts import directory_folds_by_flag
from policyfs.store.tree import Tree

_REMOVED: Final = 64
"""The limit of removed directories kept for processes in them: at most a quarter of *capacity*, or 16."""

UNWATCHED_S: Final = 1.0
"""The time (s) for which a directory's descriptor needs no check if no watch reports moves."""


_BELOW_S: Final = 1.0
"""The time (s) without a use after which a directory of a file system mounted below the store is closed:
umount(8) would say that it is busy."""
_MOVES: Final = 3
"""The number of times that a directory may be moved while one request looks for it."""
_NAMES_TRIED: Final = 16
"""The number of a node's names that one request looks at."""
_LONG: Final = 16
"""After a walk through more directories, the parent of the last is kept open, too, for requests soon."""

_ON_THE_WAY_S: Final = 5.0
"""The longest time that a walk along a path takes from one name to the next."""


class DirectoryGoneError(OSError):
    """The error (ESTALE) for a directory that was removed or moved, if no other directory has its name."""

    def __init__(self, node: Node) -> None:
        super().__init__(errno.ESTALE, "the directory was removed or moved", node.name)


class DirectoryMovedError(OSError):
    """The error (ESTALE) for a request that was decided by the old path of a directory: it begins again
    (error_boundary.py), or the kernel looks the path up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "a directory was moved to a path with other rules")


class _Kept(NamedTuple):
    """A directory's descriptor. seen_s, moves: time and Resolver.moves of the last check of the way."""

    fd: int
    seen_s: float
    moves: int


class Resolver:
    """A resolver that finds the objects of nodes in the store.

    on_open: called with the first descriptor of each directory, to learn its file handle. request: returns an
    object for the present request, or None. on_folding: called with each directory that is refused because it
    ignores the case of names (docs/decisions/0009-no-case-insensitive-stores.md). INVARIANT: a descriptor
    from dirfd() is valid until the caller's next await, when the LRU may close it."""

    def __init__(
        self, tree: Tree, nodes: NodeTable, handles: DirectoryHandles, *, capacity: int,
        watched: Callable[[], bool], on_open: Callable[[Node, int], None],
        on_folding: Callable[[Node], None] = lambda _: None,
        request: Callable[[], object | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._request = request
        self._outdated = weakref.WeakSet[object]()  # the requests with an outdated decision
        self._capacity = capacity
        self._kept = max(_REMOVED // 4, min(_REMOVED, capacity // 4))
        self._watched = watched
        self._on_open = on_open
        self._on_folding = on_folding
        self._fds: OrderedDict[int, _Kept] = OrderedDict()
        self._below: dict[int, float] = {}  # on other file systems: the time of their last use
        self._moves = 0
        self._losses = 0
        self._removed: OrderedDict[int, int] = OrderedDict()
        nodes.tell_of_gone(self._gone)

    def _gone(self, node: Node) -> None:
        self._below.pop(node.nodeid, None)
        kept = self._fds.pop(node.nodeid, None)
        for number in (-1 if kept is None else kept.fd, self._removed.pop(node.nodeid, -1)):
            if number >= 0:
                os.close(number)

    def __len__(self) -> int:
        return len(self._fds)

    def close(self) -> None:
        """Close every descriptor."""
        while self._fds:
            os.close(self._fds.popitem()[1].fd)
        self._forget_removed(0)

    def expire(self) -> bool:
        """Close unused directories of file systems mounted below the store. Return True if some are left."""
        oldest = time.monotonic() - _BELOW_S
        for nodeid in [nodeid for nodeid, used_s in self._below.items() if used_s < oldest]:
            del self._below[nodeid]
            if (kept := self._fds.pop(nodeid, None)) is not None:
                os.close(kept.fd)
        return bool(self._below)

    def drop(self, nodeid: int) -> None:
        """Forget the descriptor of a directory that may have moved, but not of a removed one in use."""
        if (entry := self._fds.pop(nodeid, None)) is None:
            return
        try:
            is_kept = nodeid not in self._removed and self._is_removed(entry.fd)
        except OSError:
            os.close(entry.fd)
            raise
        if is_kept:
            self._removed[nodeid] = entry.fd
            self._forget_removed(self._kept)
        else:
            os.close(entry.fd)

    def _is_removed(self, fd: int) -> bool:
        try:
            return self._tree.fstat(fd).nlink == 0
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return True  # network and FUSE stores fail for a removed directory

    def drop_all(self) -> None:
        """Have each descriptor checked before its next use, because the watch has lost events."""
        self._losses += 1
        self._moves += 1
        self._nodes.vectors.drop_all()

    def moved(self, node: Node) -> None:
        """Find the new place of a moved directory. All kept descriptors are checked before use."""
        node.linked = -1
        self._moves += 1
        self._nodes.vectors.drop_all()
        with contextlib.suppress(OSError):
            self.dirfd(node)

    @property
    def moves(self) -> int:
        """The number of events that may have moved directories."""
        return self._moves

    def keep_removed(self, node: Node, fd: int) -> None:
        """Keep the descriptor of a directory about to be removed, as long as it has a node: a process in it
        sees no entries, as natively. The Resolver owns *fd*."""
        if node.nodeid in self._removed:
            os.close(self._removed.pop(node.nodeid))
        for nodeid in list(self._removed):
            with contextlib.suppress(OSError):  # the store does not answer: the descriptor stays
                if not self._is_removed(self._removed[nodeid]):  # its removal failed
                    os.close(self._removed.pop(nodeid))
        self._removed[node.nodeid] = fd
        self._forget_removed(self._kept)

    def removed_fd(self, node: Node) -> int:
        """Return the O_PATH descriptor of a removed directory in use, until the next await; or -1."""
        entry = self._fds.get(node.nodeid)
        fd = self._removed.get(node.nodeid, -1) if entry is None else entry.fd
        return fd if fd >= 0 and self._is_removed(fd) else -1

    def _forget_removed(self, keep: int) -> None:
        while len(self._removed) > keep:
            os.close(self._removed.popitem(last=False)[1])

    def dirfd(self, node: Node) -> int:
        """Return the O_PATH descriptor of a directory node, at its new place if it was moved elsewhere. Raise
        OSError (ESTALE) if it is not found, DirectoryMovedError for a place with other rules. INVARIANT: also
        at each further call for the request: none goes on by the old decision."""
        if node.nodeid == ROOT_ID:
            return self._tree.root_fd
        if self._outdated and self._request() in self._outdated:
            raise DirectoryMovedError
        entry = self._fds.get(node.nodeid)
        if entry is not None and self._is_current(entry):
            self._fds.move_to_end(node.nodeid)
            if node.nodeid in self._below:
                self._below[node.nodeid] = time.monotonic()
            return entry.fd
        if node.nodeid in self._removed and (fd := self.removed_fd(node)) >= 0:
            return fd
        try:
            return self._reach(node)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            if not self._find(node):
                self.drop(node.nodeid)
                if node.nodeid in self._removed:
                    return self._removed[node.nodeid]
                raise
        return self._reach(node)

    def learn(self, node: Node, parent: Node, name: bytes) -> Stat | None:
        """Learn a directory's file handle, once: a process can enter it without any further request. Return
        its attributes then: the watch reports no change before. None if the handle was known."""
        if self._handles.has_asked(node):
            return None
        with contextlib.suppress(OSError):
            fd = self.open_if_same(node, parent, name, self._tree.open_dir)
            if fd is not None:
                try:
                    self._on_open(node, fd)
                    return self._tree.fstat(fd)
                finally:
                    os.close(fd)
        return None

    def _find(self, node: Node) -> bool:
        """Give a moved directory its new place; False if it is gone. Raise DirectoryMovedError."""
        entry, unlike = self._fds.get(node.nodeid), self._nodes.unlike
        for _ in range(_MOVES):
            names = self._handles.path_of(node, -1 if entry is None else entry.fd)
            if names is None:
                return False
            if self._place(names) is node:
                break
        else:
            return False
        if self._nodes.unlike != unlike:
            if (request := self._request()) is not None:
                self._outdated.add(request)
            raise DirectoryMovedError
        return True

    def _place(self, names: Sequence[bytes]) -> Node:
        """Return the node of the last directory on this path now, or of the one before a step that fails."""
        at, fd = self._nodes.root, os.dup(self._tree.root_fd)
        try:
            for name in names:
                try:
                    inner = self._tree.open_dir(fd, name)
                except OSError:
                    break
                os.close(fd)
                fd = inner
                at = self._nodes.directory_at(at, name, self._tree.fstat(fd))
        finally:
            os.close(fd)
            self._nodes.closed(at)  # drops the node if nobody uses it
        return at

    def dirfd_on_the_way(self, node: Node) -> int:
        """Return a directory's descriptor as dirfd(), for a step along a path. Raise FileNotFoundError, as
        natively, if it has gone since a LOOKUP just now, before its first use: after ESTALE the kernel walks
        once more, and may meet the next removal. Other directories: OSError (ESTALE), since a process may be
        in them."""
        try:
            return self.dirfd(node)
        except DirectoryGoneError:
            if node.reached or time.monotonic() - node.named_s > _ON_THE_WAY_S:
                raise
            raise FileNotFoundError(errno.ENOENT, "the directory has just gone", node.name) from None

    def _is_current(self, kept: _Kept) -> bool:
        if kept.moves != self._moves:
            return False
        return self._watched() or time.monotonic() - kept.seen_s < UNWATCHED_S

    def _reach(self, node: Node) -> int:
        chain: list[Node] = []
        at, start = node, None
        while start is None:
            chain.append(at)
            if at.parent is None:  # some directory on the way was removed
                raise DirectoryGoneError(node)
            if len(chain) > MAX_LEVELS:
                raise PathTooLongError(node.name)
            at = at.parent
            if at.nodeid in self._fds or at.nodeid == ROOT_ID:
                start = self._start(at)
        # The new descriptor is trusted for as long as the descriptor from which the walk starts, and no
        # longer.
        return self._walk(start.fd, chain[::-1], start.seen_s)

    def _start(self, node: Node) -> _Kept | None:
        if node.nodeid == ROOT_ID:
            return _Kept(self._tree.root_fd, time.monotonic(), self._moves)
        kept = self._fds.get(node.nodeid)
        return kept if kept is not None and self._is_current(kept) else None

    def _walk(self, fd: int, chain: list[Node], seen_s: float) -> int:
        """Open the last of a chain of directories below *fd*. Steps checked before share a call."""
        together: list[Node] = []
        losses = self._losses
        for node in chain:
            if node.linked == losses:
                together.append(node)
                continue
            if together:
                fd = self._step(fd, together, seen_s)
            fd = self._step(fd, [node], seen_s)
            node.linked, together = losses, []
        if len(together) > _LONG:
            fd, together = self._step(fd, together[:-1], seen_s), together[-1:]
        return self._step(fd, together, seen_s) if together else fd

    def _step(self, parent_fd: int, nodes: list[Node], seen_s: float) -> int:
        """Open the last directory of a chain of nodes that begins in *parent_fd*, and keep its descriptor."""
        node = nodes[-1]
        try:
            fd = self._tree.open_below(parent_fd, [on_the_way.name for on_the_way in nodes])
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
            raise DirectoryGoneError(node) from None
        try:
            if not self._nodes.is_same(node, self._tree.fstat(fd)):
                raise OSError(errno.ESTALE, "another directory has the name now", node.name)
            if directory_folds_by_flag(fd):
                self._on_folding(node)
                raise OSError(errno.EACCES, "the directory ignores the case of names", node.name)
        except OSError:
            os.close(fd)
            raise
        if not node.reached and not self._handles.knows(node):
            self._on_open(node, fd)
        node.reached = True
        if (old := self._fds.pop(node.nodeid, None)) is not None:
            # INVARIANT: the number stays. The request may have it from a call before, for a second name.
            os.dup2(fd, old.fd, inheritable=False)
            os.close(fd)
            fd = old.fd
        self._fds[node.nodeid] = _Kept(fd, seen_s, self._moves)
        if self._nodes.dev_in(node.ino):
            self._below[node.nodeid] = time.monotonic()
        while len(self._fds) > self._capacity:
            _, oldest = self._fds.popitem(last=False)
            os.close(oldest.fd)
        return fd

    def still(self, parent: Node, name: bytes, decided: Stat | None) -> None:
        """Raise StaleNodeError if a name no longer leads to the object (*decided*, or none) of the decision,
        OSError (EEXIST) if now to a special file, hidden from all. INVARIANT: no await between this and the
        change."""
        try:
            now = self._tree.stat(self.dirfd(parent), name)
        except FileNotFoundError:
            now = None
        if decided is None and now is not None and now.ftype is FileType.SPECIAL:
            raise OSError(errno.EEXIST, "the name exists, but is hidden from everyone")
        if (now is None) != (decided is None):
            raise StaleNodeError
        if now is not None and decided is not None and not now.same_inode(decided):
            raise StaleNodeError

    def locate(self, node: Node) -> tuple[int, bytes, Stat]:
        """Return directory descriptor, name and attributes of a node, not the root, by the first of
        _NAMES_TRIED names that leads to it. Names that lead elsewhere are dropped. Raise OSError (ESTALE),
        PathTooLongError."""
        for _ in range(_NAMES_TRIED):
            parent, name = node.parent, node.name
            if parent is None:
                break
            if node.out_of_reach:
                if not self._nodes.turn(node):
                    raise PathTooLongError(name)
            elif found := self._found(node, parent, name):
                return found[0], name, found[1]
            elif node.links or node.ftype is not FileType.DIRECTORY:
                self._nodes.drop_name(node, parent, name)
            elif not self._find(node):
                break
        raise OSError(errno.ESTALE, "the file has no name any more")

    def renamed(self, node: Node) -> bool:
        """Check _NAMES_TRIED of a file's known names: the first, and those checked longest ago. Drop those
        that lead elsewhere; without one left, take over names of the file's other nodes that still lead
        there. Return True if the names have changed, and at least one is left."""
        changed = False
        for parent, name in list(itertools.islice(node.all_names(), _NAMES_TRIED)):
            if not parent.out_of_reach and self._found(node, parent, name) is None:
                self._nodes.drop_name(node, parent, name)
                changed = True
            elif node.links is not None and node.links.has(parent, name):
                node.links.turn(parent, name)
        if node.parent is None:
            others = (
                (other, name)
                for other in list(self._nodes.same_inode(node.ino))
                if other.btime_ns == node.btime_ns
                for name in other.names()
            )
            for _, known in list(itertools.islice(others, _NAMES_TRIED)):
                if self._found(node, known.parent, known.name):
                    self._nodes.add_name(node, known.parent, known.name)
                    changed = True
        return node.parent is not None and changed

    def open_checked(self, node: Node) -> int:
        """Open a node's object by one of its names (O_PATH). The caller closes the descriptor. Raise
        StaleNodeError if another object takes the name during this call."""
        dirfd, name, _ = self.locate(node)
        fd = self._tree.open_path(dirfd, name)
        if not self._nodes.is_same(node, fstatx_of_new(fd)):
            os.close(fd)
            raise StaleNodeError
        return fd

    def open_if_same(
        self, node: Node, parent: Node, name: bytes, open_at: Callable[[int, bytes], int]
    ) -> int | None:
        """Open the object that has a name now; None if not the node's. The caller closes it."""
        fd = open_at(self.dirfd(parent), name)
        if self._nodes.is_same(node, fstatx_of_new(fd)):
            return fd
        os.close(fd)
        return None

    def _found(self, node: Node, parent: Node, name: bytes) -> tuple[int, Stat] | None:
        try:
            dirfd = self.dirfd(parent)
            stat = self._tree.stat(dirfd, name)
        except DirectoryMovedError:
            raise
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return None
        return (dirfd, stat) if self._nodes.is_same(node, stat) else None
