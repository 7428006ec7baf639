"""Access vectors of nodes: a vector lets the bridge answer repeats of a decided request without Python.

The gate decides, and kernel_cache/repeats.py chooses the decisions that may be repeated. This module installs
and drops vectors. INVARIANT: code that may change an answer calls drop() or drop_all() before its own reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from policyfs.domain import FileType
from policyfs.kernel import vectors
from policyfs.store.frozen import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from policyfs.fs.inodes.node import Node
    from policyfs.linux.statx import Stat

MAX_NODES: Final = 1 << 16
MAX_DIRECTORIES: Final = 1024


class OpenVectors(Protocol):
    """The part of the mount that lets the bridge answer opens (opening/bridge_handles.py)."""

    def end(self, node: Node) -> None:
        """Let the bridge answer no more opens of a node, and put its handles of it into the table."""

    def end_all(self) -> None:
        """Let the bridge answer no more opens of any node. Put all its handles into the handle table."""

    def learned(self, node: Node, backing_id: int) -> None:
        """Take over a node that the bridge has open, with this backing id."""


class AccessVectors:
    """The part of a mount that installs and drops access vectors. in_use: False if the mount has no vectors.

    of_names: False if only opens of files get vectors, because the kernel itself keeps names and directories.

    INVARIANT: a node to which the kernel has no reference (Node.lookups is 0) has no vectors. So look-ups
    that the bridge has answered, and that Node.lookups does not count yet, only add to a number above 0.
    """

    __slots__ = ("_opens", "counted", "in_use", "of_names")

    def __init__(self, *, in_use: bool, of_names: bool = True) -> None:
        self.in_use = in_use
        self.of_names = of_names
        self.counted: Callable[[Node], object] = lambda _node: None
        """Called with a node right after Node.lookups has got look-ups that the bridge had answered."""
        self._opens: OpenVectors | None = None

    def tell_of_drops(self, opens: OpenVectors) -> None:
        """Register *opens*, which is called before vectors of nodes are dropped."""
        self._opens = opens

    def install(
        self, node: Node, parent: int, directory_fd: int, name: bytes, uid: int, grant: int, device: int,
        format_bits: int, kept_s: float, *opened: int,
    ) -> bool:  # fmt: skip
        """Let the bridge answer repeats of a decided request. Return False if there is no room.

        name: the node's in the directory *parent*, with the descriptor *directory_fd*. grant: the rights of
        *uid*, as bits (kernel/vectors.py). device, format_bits: device number and type (S_IFMT) that the file
        must have. kept_s: for a file's GETATTR, the seconds for which the kernel may keep an answer
        (attributes.cold). opened: only for an open: the caller's gid; for a file also the flags and the
        backing id; for a copy also the file's version (size, mtime_ns, ctime_ns)."""
        if kept_s:
            node.told_by_bridge()
        return vectors.install(
            node.nodeid, parent, directory_fd, name, uid, grant, device, node.ino, node.btime_ns, format_bits,
            int(kept_s * 1000), *opened,
        )  # fmt: skip

    def see_all(self, directory: Node, directory_fd: int, uid: int, *, keeps: bool) -> bool:
        """Let the bridge answer a uid's LOOKUPs of absent names in a directory. Return False if the bridge
        has no room. keeps: False if the kernel may keep no such name."""
        return vectors.see_all(directory.nodeid, directory_fd, uid, keeps)

    def taken(self, node: Node, backing_id: int) -> None:
        """Take over the handles of a node that was the bridge's own. backing_id: 0 if it has none."""
        if backing_id and self._opens is not None:
            self._opens.learned(node, backing_id)
        vectors.drop(node.nodeid)

    def is_full(self) -> bool:
        """Return True if the bridge has no room for another node."""
        return vectors.stats().nodes >= MAX_NODES

    def clear(self) -> list[tuple[int, int]]:
        """Drop all vectors. Return pairs: a node's number, and the number of look-ups to add to its
        Node.lookups. The bridge has answered these look-ups, and Node.lookups does not count them yet."""
        if self._opens is not None:
            self._opens.end_all()
        return vectors.clear()

    def drop(self, node: Node) -> int:
        """Let the bridge answer no more about a node, nor about the nodes in a directory, from the return on.
        It closes its descriptor of the directory, which could not leave the disk otherwise. Return the number
        of look-ups that it had answered, after adding it to Node.lookups."""
        if not self.in_use:
            return 0
        if node.ftype is FileType.DIRECTORY:
            vectors.leave(node.nodeid)
        if self._opens is not None:
            self._opens.end(node)
        lookups = vectors.drop(node.nodeid)
        node.lookups += lookups
        if lookups:
            self.counted(node)
        return lookups

    def check_copy(self, node: Node, stat: Stat) -> None:
        """Drop a node's vectors if its copy shows another version of the file than *stat* does. The vectors
        keep the copy and the node's attributes, even if no app has the node open."""
        state = node.open if self.in_use else None
        if state is None or state.copy is None:
            return
        if state.version != Version(stat.size, stat.mtime_ns, stat.ctime_ns):
            self.drop(node)

    def drop_nodes(self, nodes: Iterable[Node]) -> None:
        """Drop the vectors of several nodes."""
        if self.in_use:
            for node in nodes:
                self.drop(node)

    def drop_beside(self, node: Node) -> None:
        """Drop the vectors of the directories in which the node has, or may have, names. From then on, Python
        answers look-ups and opens of files in these directories."""
        directories = {directory for directory, _ in node.all_names()}
        if not directories or node.is_beyond:
            self.drop_all()
        else:
            self.drop_nodes(directories)

    def drop_all(self) -> None:
        """Let the bridge answer no more requests about any node, from the return of this call on."""
        if self.in_use:
            if self._opens is not None:
                self._opens.end_all()
            vectors.drop_all()


NO_VECTORS: Final = AccessVectors(in_use=False)
