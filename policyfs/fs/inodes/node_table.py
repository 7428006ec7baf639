"""Nodes: what the kernel knows by number, and every name each was reached by.

One directory has one node. A regular file has one node for each view of it and path class
(design: "Views of one file must be separate nodeids"), and in a redacted view one for each
version that somebody holds open. Node numbers are never used twice in the life of a mount.

A node costs a few hundred bytes and no descriptor: it is found again through its parent.
"""

from __future__ import annotations

import enum
import errno
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import RAW_VIEW, FileType, View
from policyfs.fs.inodes.hard_links import HardLinks
from policyfs.fs.inodes.placement import PlacedNode, Placement
from policyfs.fs.path_bounds import PathTooLongError
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState

if TYPE_CHECKING:
    from policyfs.fs.inodes.handles import OpenState
    from policyfs.store.frozen import Version

ROOT_ID: Final = 1
_NEVER: Final = -math.inf  # one object: a float of each node's own would be 32 bytes of each file's


class StaleNodeError(OSError):
    """The node is not the one for this open: the kernel is to look the name up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "look the name up again")


class BytePath(enum.Enum):
    """How an app gets the bytes of a node (opening/byte_paths.py); part of its identity, never changed."""

    RAW = "raw"
    """The store's bytes: in passthrough, or mediated where the kernel refuses."""
    LIVE = "live"
    """The file itself, mediated: an app's own under redaction, checked writes."""
    COPY = "copy"
    """A frozen copy with hidden parts neutral, in passthrough."""
    LEASED = "leased"
    """The file, patched while it is read, mediated under a read lease: too large to copy."""

    @property
    def finds_kind(self) -> bool:
        """Whether the kind is found in the very bytes that are shown. Such nodes are for reading only."""
        return self is BytePath.COPY or self is BytePath.LEASED


class Name(NamedTuple):
    """One name of a node: the directory, the name in it, and the policy's state for that path."""

    parent: Node
    name: bytes
    state: PathState


class Node(PlacedNode):
    """One inode as the kernel knows it."""

    __slots__ = (
        "_told", "btime_ns", "byte_path", "cached", "children", "ftype", "ino", "linked", "links", "lookups",
        "mediated", "named_s", "next", "nodeid", "open", "reached", "view", "whose",
    )  # fmt: skip

    def __init__(
        self,
        nodeid: int,
        ino: int,
        btime_ns: int,
        ftype: FileType,
        view: View,
        byte_path: BytePath,
        state: PathState,
        placement: Placement,
    ) -> None:
        super().__init__(state, placement)
        self.nodeid = nodeid
        """The number that the kernel knows it by; never used twice."""
        self.ino = ino
        """Key of the backing inode (NodeTable.key_of)."""
        self.btime_ns = btime_ns
        """Birth time of the backing inode: a number that is used again has another."""
        self.ftype = ftype
        self.view = view
        """The obligations under which its bytes are shown."""
        self.byte_path = byte_path
        """The way of its bytes; part of its identity."""
        self.links: HardLinks | None = None
        """Names besides the first, if there are any."""
        self.lookups = 0
        """The kernel's references (FUSE lookup count)."""
        self.children = 0
        """Nodes that name this one as parent, or had their last name in it."""
        self.next: Node | None = None
        """The next node of the same backing inode."""
        self.open: OpenState | None = None
        """What its open handles share; None while it is not open."""
        self.mediated = False
        """Once served through the daemon, always: pages and mappings in the kernel may outlive the last
        close, and passthrough beside them is EIO."""
        self.cached: Version | None = None
        """The version whose pages the kernel may hold."""
        self._told: int | None = None
        """Hash of the version whose attributes the kernel was told last (a version would be 150 bytes)."""
        self.whose: str | int | None = None
        """The principal that alone may use the node (access/views.py), or None."""
        self.named_s = _NEVER
        """When the kernel was last told that a directory has its name, of time.monotonic()."""
        self.reached = False
        """True for a directory that had a descriptor once."""
        self.linked = -1
        """As of which loss of events the step from the directory above led to it (Resolver)."""

    def tell(self, version: Version) -> None:
        """The kernel is being told the attributes of this version."""
        self._told = hash(version)

    def was_told(self, version: Version) -> bool:
        """Whether the kernel was told this version's attributes last."""
        return self._told == hash(version)

    def was_told_another(self, version: Version) -> bool:
        """Whether the kernel was told attributes at all, and another version's last."""
        return self._told is not None and not self.was_told(version)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has it open, as far as is known here; the kernel knows who else uses it."""
        return self.lookups > 0 and self.open is None and self.nodeid != ROOT_ID

    # -- its names --------------------------------------------------------------------------

    def all_names(self) -> Iterator[tuple[Node, bytes]]:
        """Every name that is kept, the first first, in reach or not: directory and name."""
        if self.parent is not None:
            yield self.parent, self.name
        if self.links is not None:
            yield from self.links

    def names(self) -> Iterator[Name]:
        """Every name that is kept and in reach, the first first."""
        for parent, name in self.all_names():
            if not parent.out_of_reach and parent.has_room(name):
                yield Name(parent, name, self._placement.child(parent.state, name))

    def states(self) -> tuple[PathState, ...]:
        """The distinct states of all its names; what arrives by number must satisfy each.

        Raises StaleNodeError if what became of names that are not kept cannot be said any more,
        PathTooLongError if none is in reach.
        """
        if self.links is None:
            return (self.state,)
        if self.links.lost:
            raise StaleNodeError
        first = () if self.out_of_reach else (self.last_state,)
        found = tuple(dict.fromkeys((*first, *self.links.states())))
        if not found:
            raise PathTooLongError(self.name)
        return found

    def is_all(self, state: PathState) -> bool:
        """True if every name it has is of this state, as far as can be said."""
        links = self.links
        if links is not None and (links.lost or any(one is not state for one in links.states())):
            return False
        return not self.out_of_reach and self.last_state is state

    def directories(self, state: PathState) -> list[Node]:
        """The directories in which it has a name of this state.

        Raises StaleNodeError if it may have one that is not kept.
        """
        if self.links is None:
            return [] if self.parent is None else [self.parent]
        if state in self.links.beyond:
            raise StaleNodeError
        return list(dict.fromkeys(name.parent for name in self.names() if name.state is state))

    @property
    def is_beyond(self) -> bool:
        """True if it may have names that are not kept."""
        return self.links is not None and bool(self.links.beyond)

    def is_named(self, parent: Node, name: bytes) -> bool:
        """True if it has a name, or may have it since not all are kept."""
        if self.parent is parent and self.name == name:
            return True
        return self.links is not None and (self.is_beyond or self.links.has(parent, name))


NamesForgotten = Callable[[Node], None]
"""Told a node whose names the kernel must ask for again: we changed what they answer."""


SizeForgotten = Callable[[int], Awaitable[None]]
"""Makes the kernel ask for a node's attributes again; returns when it will."""


class NodeTable:
    """All nodes of a mount, by number and by backing inode.

    several_devices: were files of another device number met (btrfs subvolumes have their own). gone: counts
    the nodes that were dropped.
    """

    def __init__(self, root: Stat, state: PathState, child: Callable[[PathState, bytes], PathState]) -> None:
        """state: of the root's path; child: the policy's step from a directory's state to a name's in it."""
        self._root_dev = root.dev
        self.several_devices = False
        self.gone = 0
        self._placement = Placement(child)
        self.root = Node(
            ROOT_ID, root.ino, root.btime_ns, FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, state,
            self._placement,
        )  # fmt: skip
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
        """The node of a number that the kernel sent.

        Raises KeyError if it was forgotten, PathTooLongError if it is out of reach.
        """
        node = self._by_id[nodeid]
        if node.out_of_reach and not self.turn(node):
            raise PathTooLongError(node.name)
        return node

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

    def oldest(self, count: int) -> list[Node]:
        """So many of those that nobody was given by this for longest; they are the youngest from now on."""
        taken = list(itertools.islice(self._by_id.values(), count))
        for node in taken:
            self._by_id[node.nodeid] = self._by_id.pop(node.nodeid)
        return taken

    def is_same(self, node: Node, stat: Stat) -> bool:
        """Is *stat* the very inode of *node* (number, file system and birth)."""
        return node.ino == self.key_of(stat) and node.btime_ns == stat.btime_ns

    def add(self, stat: Stat, ftype: FileType, view: View, byte_path: BytePath, state: PathState) -> Node:
        """A new node for a backing inode, without a name yet."""
        self._last_id += 1
        key = self.key_of(stat)
        node = Node(self._last_id, key, stat.btime_ns, ftype, view, byte_path, state, self._placement)
        node.next = self._by_ino.get(key)
        self._by_ino[key] = node
        self._by_id[node.nodeid] = node
        return node

    def tell_of_gone(self, told: Callable[[Node], None]) -> None:
        """*told* hears of every directory's node that is dropped: nothing will ask for it again."""
        self._told.append(told)

    # -- names ------------------------------------------------------------------------------

    def add_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *node* was reached as *name* in *parent*; says nothing new for a known name."""
        if node.parent is parent and node.name == name:
            return
        if node.parent is None:
            self._set_first(node, parent, name)
        else:
            if node.links is None:
                node.links = HardLinks(self._placement)
            if node.links.has(parent, name) or not node.links.add(parent, name):
                return
        if node.ftype is FileType.DIRECTORY:
            self._directories[parent.nodeid, name] = node
        parent.children += 1

    def _set_first(self, node: Node, parent: Node, name: bytes) -> None:
        """Let a node that has no name have this one. What is below finds out by itself."""
        was_in, node.was_in = node.was_in, None
        node.parent, node.name = parent, name
        if node.children:
            self._count_move()
        node.find_out(elsewhere=True)
        if was_in is not None:
            was_in.children -= 1
            self._collect(was_in)

    def _count_move(self) -> None:
        self._placement.moved += 1
        self.root.place()

    def drop_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* is no longer *node*; unknown names are ignored."""
        if node.parent is parent and node.name == name:
            self._unlist(node, parent, name)
            node.parent = None
            other = None if node.links is None else node.links.pop()
            if other is None:
                node.was_in = parent  # its path stays that which it had
                return
            self._set_first(node, *other)
        elif node.links is None or not node.links.drop(parent, name):
            return
        else:
            self._unlist(node, parent, name)
        if node.links is not None and not node.links and not node.links.beyond:
            node.links = None
        parent.children -= 1
        self._collect(parent)

    def turn(self, node: Node) -> bool:
        """Let another of its names be the first. True if that one is in reach, False if there is none."""
        first = node.parent, node.name
        other = None if node.links is None or node.parent is None else node.links.pop()
        if other is None or node.links is None or first[0] is None:
            return False
        node.parent = None
        self._set_first(node, *other)
        node.links.add(first[0], first[1])
        return not node.out_of_reach

    def _unlist(self, node: Node, parent: Node, name: bytes) -> None:
        if self._directories.get((parent.nodeid, name)) is node:
            del self._directories[parent.nodeid, name]

    def found_at(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that a directory was found by a name: if it was known by another, the store moved it."""
        if node.parent is parent and node.name == name:
            return
        before = node.last_state
        for known in list(node.all_names()):
            self.drop_name(node, *known)
        self.add_name(node, parent, name)
        if node.children and node.last_state is not before:
            self._placement.unlike += 1

    def keep_in(self, node: Node, parent: Node, name: bytes) -> None:
        """Let a node without a name be known as *name* in a directory, as if it had had it."""
        node.was_in, node.name = parent, name
        parent.children += 1
        node.find_out(elsewhere=True)

    @property
    def moves(self) -> int:
        """Counts what changed the path of nodes that are known."""
        return self._placement.moved

    def directory(self, parent: Node, name: bytes) -> Node | None:
        """The directory that is known as *name* in *parent*, without a look at the store."""
        return self._directories.get((parent.nodeid, name))

    def named(self, ino_key: int, parent: Node, name: bytes) -> list[Node]:
        """The nodes of a backing inode that are known as *name* in *parent*, or may be."""
        return [node for node in self.same_inode(ino_key) if node.is_named(parent, name)]

    def use(self, state: PathState, child: Callable[[PathState, bytes], PathState]) -> None:
        """Go by another policy from now on: its state of the root, and its step to a name."""
        self._placement.child = child
        self._placement.unlike += 1
        self.root.last_state = state
        self._count_move()

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
            self.gone += 1
            self._unchain(node)
            for parent, name in node.all_names():
                self._unlist(node, parent, name)
                parent.children -= 1
                unused.append(parent)
            if node.parent is None and node.was_in is not None:
                node.was_in.children -= 1
                unused.append(node.was_in)
            node.parent, node.was_in, node.links = None, None, None
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
