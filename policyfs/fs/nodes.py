"""Nodes: what the kernel knows by number, and every name each was reached by.

One directory has one node. A regular file has one node for each view of it and path class
(design: "Views of one file must be separate nodeids"), and in a redacted view one for each
version that somebody holds open. Node numbers are never used twice in the life of a mount.

A node costs a few hundred bytes and no descriptor: it is found again through its parent.
"""

from __future__ import annotations

import enum
import errno
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import RAW_VIEW, FileType, View
from policyfs.policy.decide import PathState
from policyfs.store.statx import Stat

if TYPE_CHECKING:
    from policyfs.fs.openfile import OpenState
    from policyfs.store.frozen import Version

ROOT_ID: Final = 1
_NEVER: Final = -math.inf  # one object: a float of each node's own would be 32 bytes of each file's


class StaleNodeError(OSError):
    """The node is not the one for this open: the kernel is to look the name up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "look the name up again")


class Flavor(enum.Enum):
    """Which road a node's bytes take; part of its identity, never changed."""

    RAW = "raw"  # the store's bytes: passthrough, or mediated where the kernel refuses
    LIVE = "live"  # restricted and mediated: own files under redaction, checked writes
    COPY = "copy"  # redacted: one frozen copy, in passthrough
    LEASED = "leased"  # redacted, too large to copy: mediated under a read lease


class Name(NamedTuple):
    """One name of a node: the directory, the name in it, and the policy's state for that path."""

    parent: Node
    name: bytes
    state: PathState


class Node:
    """One inode as the kernel knows it.

    names: every name it was reached by and has not lost (none: unlinked, then *name* is the path
    it had; the root has none).
    state: the policy's state for the node's path (of the first name). lookups: the kernel's
    references (FUSE lookup count). children: nodes that name this one as parent. next: the next
    node of the same backing inode. open: state of open handles, None while nobody has it open.
    mediated: once served through the daemon, always (kernel-side pages and mappings may outlive
    the last close, and passthrough beside them is EIO). cached: the version whose pages the
    kernel may hold. _told: the hash of the version whose attributes it was told last (a version
    itself would be 150 bytes of each file's). whose: the principal that
    alone may use the node (see views.py), or None. named_s: when the kernel was last told that a
    directory has its name (of time.monotonic()). reached: a directory that had a descriptor once.
    """

    __slots__ = (
        "_told", "btime_ns", "cached", "children", "flavor", "ftype", "ino", "lookups", "mediated", "more",
        "name", "named_s", "next", "nodeid", "open", "parent", "reached", "state", "view", "whose",
    )  # fmt: skip

    def __init__(
        self,
        nodeid: int,
        ino: int,
        btime_ns: int,
        ftype: FileType,
        view: View,
        flavor: Flavor,
        state: PathState,
    ) -> None:
        self.nodeid = nodeid
        self.ino = ino
        self.btime_ns = btime_ns
        self.ftype = ftype
        self.view = view
        self.flavor = flavor
        self.state = state
        self.parent: Node | None = None
        self.name = b""
        self.more: tuple[Name, ...] = ()
        self.lookups = 0
        self.children = 0
        self.next: Node | None = None
        self.open: OpenState | None = None
        self.mediated = False
        self.cached: Version | None = None
        self._told: int | None = None
        self.whose: str | int | None = None
        self.named_s = _NEVER
        self.reached = False

    def tell(self, version: Version) -> None:
        """The kernel is being told the attributes of this version."""
        self._told = hash(version)

    def was_told(self, version: Version) -> bool:
        """Whether the kernel was told this version's attributes last."""
        return self._told == hash(version)

    def was_told_another(self, version: Version) -> bool:
        """Whether the kernel was told attributes at all, and another version's last."""
        return self._told is not None and not self.was_told(version)

    def names(self) -> Iterator[Name]:
        """Every known name, the first first."""
        if self.parent is not None:
            yield Name(self.parent, self.name, self.state)
        yield from self.more

    def states(self) -> tuple[PathState, ...]:
        """The distinct states of all its names; what arrives by number must satisfy each."""
        if not self.more:
            return (self.state,)
        return tuple(dict.fromkeys([self.state, *(name.state for name in self.more)]))

    def path(self) -> bytes:
        """The path within the mount by its first name, for the trail; ``/`` for the root.

        Of what lost its last name, the path it had.
        """
        parts: list[bytes] = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        top = node.name  # empty for the root, else the path that what is gone had
        return b"/".join([top, *reversed(parts)]) or b"/"


NamesForgotten = Callable[[Node], None]
"""Told a node whose names the kernel must ask for again: we changed what they answer."""


SizeForgotten = Callable[[int], Awaitable[None]]
"""Makes the kernel ask for a node's attributes again; returns when it will."""


class NodeTable:
    """All nodes of a mount, by number and by backing inode.

    several_devices: were files of another device number met (btrfs subvolumes have their own).
    """

    def __init__(self, root: Stat, state: PathState) -> None:
        self._root_dev = root.dev
        self.several_devices = False
        self.root = Node(ROOT_ID, root.ino, root.btime_ns, FileType.DIRECTORY, RAW_VIEW, Flavor.RAW, state)
        self.root.lookups = 1
        self._by_id: dict[int, Node] = {ROOT_ID: self.root}
        self._by_ino: dict[int, Node] = {root.ino: self.root}
        self._directories: dict[tuple[int, bytes], Node] = {}
        self._last_id = ROOT_ID
        self._told: list[Callable[[Node], None]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._by_id.values()))

    def get(self, nodeid: int) -> Node:
        """The node of a number that the kernel sent. Raises KeyError if it was forgotten."""
        return self._by_id[nodeid]

    def find(self, nodeid: int) -> Node | None:
        """The node of a number, or None."""
        return self._by_id.get(nodeid)

    def key_of(self, stat: Stat) -> int:
        """The inode number, made distinct where another file system is mounted in the store."""
        if stat.dev == self._root_dev:
            return stat.ino
        self.several_devices = True
        return (stat.dev << 64) | stat.ino

    def same_inode(self, ino_key: int) -> Iterator[Node]:
        """Every node of a backing inode."""
        node = self._by_ino.get(ino_key)
        while node is not None:
            yield node
            node = node.next

    def is_same(self, node: Node, stat: Stat) -> bool:
        """Is *stat* the very inode of *node* (number, file system and birth)."""
        return node.ino == self.key_of(stat) and node.btime_ns == stat.btime_ns

    def add(self, stat: Stat, ftype: FileType, view: View, flavor: Flavor, state: PathState) -> Node:
        """A new node for a backing inode, without a name yet."""
        self._last_id += 1
        key = self.key_of(stat)
        node = Node(self._last_id, key, stat.btime_ns, ftype, view, flavor, state)
        node.next = self._by_ino.get(key)
        self._by_ino[key] = node
        self._by_id[node.nodeid] = node
        return node

    def tell_of_gone(self, told: Callable[[Node], None]) -> None:
        """*told* hears of every directory's node that is dropped: nothing will ask for it again."""
        self._told.append(told)

    # -- names ------------------------------------------------------------------------------

    def add_name(self, node: Node, parent: Node, name: bytes, state: PathState) -> None:
        """Note that *node* was reached as *name* in *parent*; says nothing new for a known name."""
        if node.parent is parent and node.name == name:
            node.state = state
            return
        if node.parent is None:
            node.parent, node.name, node.state = parent, name, state
        elif any(known.parent is parent and known.name == name for known in node.more):
            return
        else:
            node.more += (Name(parent, name, state),)
        if node.ftype is FileType.DIRECTORY:
            self._directories[parent.nodeid, name] = node
        parent.children += 1

    def drop_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* is no longer *node*; unknown names are ignored."""
        if node.parent is parent and node.name == name:
            if node.more:
                first, *rest = node.more
                node.parent, node.name, node.state = first
                node.more = tuple(rest)
            else:
                node.name, node.parent = node.path(), None
        else:
            kept = tuple(n for n in node.more if not (n.parent is parent and n.name == name))
            if len(kept) == len(node.more):
                return
            node.more = kept
        parent.children -= 1
        self._unlist(node, parent, name)
        self._collect(parent)

    def _unlist(self, node: Node, parent: Node, name: bytes) -> None:
        if self._directories.get((parent.nodeid, name)) is node:
            del self._directories[parent.nodeid, name]

    def directory(self, parent: Node, name: bytes) -> Node | None:
        """The directory that is known as *name* in *parent*, without a look at the store."""
        return self._directories.get((parent.nodeid, name))

    def named(self, ino_key: int, parent: Node, name: bytes) -> list[Node]:
        """The nodes of a backing inode that are known as *name* in *parent*."""
        return [
            node
            for node in self.same_inode(ino_key)
            if any(known.parent is parent and known.name == name for known in node.names())
        ]

    def restate(self, child: Callable[[PathState, bytes], PathState], below: Node | None = None) -> None:
        """Give every node (or those below a directory) the state of its path anew.

        Of what has no name any more (and what is below it) it is the state of the path it had.
        """
        fresh: set[int] = {ROOT_ID if below is None else below.nodeid}
        if below is None:
            for node in self:
                if node.parent is None and node is not self.root:
                    node.state = self.root.state
                    for name in filter(None, node.name.split(b"/")):
                        node.state = child(node.state, name)
                    fresh.add(node.nodeid)
        for node in self:
            chain: list[Node] = []
            at: Node | None = node
            while at is not None and at.nodeid not in fresh:
                chain.append(at)
                at = at.parent
            if at is None:
                continue  # not below, or without a name
            for known in reversed(chain):
                if known.parent is not None:
                    known.state = child(known.parent.state, known.name)
                fresh.add(known.nodeid)
        for node in self:
            if node.more:
                node.more = tuple(Name(p, name, child(p.state, name)) for p, name, _ in node.more)

    # -- life ---------------------------------------------------------------------------------

    def forget(self, nodeid: int, lookups: int) -> None:
        """The kernel gave up *lookups* references to a node."""
        node = self._by_id.get(nodeid)
        if node is not None and nodeid != ROOT_ID:
            node.lookups = max(0, node.lookups - lookups)
            self._collect(node)

    def closed(self, node: Node) -> None:
        """A node's last handle was released."""
        self._collect(node)

    def _collect(self, node: Node) -> None:
        """Drop a node that nothing refers to any more, and then maybe the directories above."""
        unused = [node]
        while unused:
            node = unused.pop()
            if node.lookups or node.children or node.open is not None or node.nodeid == ROOT_ID:
                continue
            if self._by_id.pop(node.nodeid, None) is None:
                continue
            self._unchain(node)
            for known in node.names():
                self._unlist(node, known.parent, known.name)
                known.parent.children -= 1
                unused.append(known.parent)
            node.parent, node.more = None, ()
            if node.ftype is FileType.DIRECTORY:
                for told in self._told:
                    told(node)

    def _unchain(self, node: Node) -> None:
        head = self._by_ino.get(node.ino)
        if head is node:
            if node.next is None:
                del self._by_ino[node.ino]
            else:
                self._by_ino[node.ino] = node.next
            return
        while head is not None and head.next is not node:
            head = head.next
        if head is not None:
            head.next = node.next
