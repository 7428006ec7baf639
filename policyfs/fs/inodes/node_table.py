"""The table of a mount's nodes, by number and by backing inode. Numbers are never used twice.

One directory has one node, a regular file one for each view in use, and more: for another byte path, lane,
path state or open version (docs/architecture/views.md)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from policyfs.domain import RAW_VIEW, FileType, Lane, View
from policyfs.fs.inodes.node import ROOT_ID, BytePath, HardLinks, Node, StaleNodeError
from policyfs.fs.inodes.placement import Placement
from policyfs.fs.inodes.saved_nodes import NOBODY, FoundNodes, SavedNode
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.inodes.vectors import NO_VECTORS, AccessVectors
from policyfs.fs.path_bounds import PathTooLongError
from policyfs.fs.sharing.shares import Holder
from policyfs.kernel import vectors
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState

_NUMBER: Final = (1 << 64) - 1
Seen: TypeAlias = Callable[[SavedNode, PathState], tuple[View, Lane] | None]
"""Returns the view and the lane of a saved node that is not raw; None if these are not known any more."""
PHANTOMS: Final = 2 * vectors.OWN_NODES
"""The first number of a phantom, an object that only the announcer finds. INVARIANT: no node has such a
number: the kernel would take it for the same file, and give up both."""


class NodeTable:
    """The table that finds nodes. several_devices: True once a file had another device number (as btrfs
    subvolumes have). gone: the number of dropped nodes."""

    def __init__(
        self, root: Stat, state: PathState, child: Callable[[PathState, bytes], PathState],
        vectors: AccessVectors = NO_VECTORS,
    ) -> None:  # fmt: skip
        """state: the path state of the root. child: returns that of a name, from the directory's."""
        self.root_dev = root.dev
        self.vectors = vectors
        self.several_devices = False
        self.gone = 0
        self.follows = False
        """True if this daemon has taken over from another one, so that the kernel may send lost numbers."""
        self.saved: SavedState | None = None
        """The state in which each change is saved for the next daemon; None if there will be none."""
        self._placement = Placement(child)
        self.root = Node(
            ROOT_ID, root.ino, root.btime_ns, FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, state,
            self._placement,
        )  # fmt: skip
        self.root.lookups = 1
        if vectors.in_use:
            vectors.counted = self._save
        self._by_id: dict[int, Node] = {ROOT_ID: self.root}
        self._by_ino: dict[int, Node] = {root.ino: self.root}
        self._directories: dict[tuple[int, bytes], Node] = {}
        self._last_id = ROOT_ID
        self._told: list[Callable[[Node], None]] = []
        self._unread = FoundNodes(lambda _nodeid: None)
        self._seen: Seen = _not_seen
        self.lost: list[int] = []
        """The numbers of nodes of the daemon before that could not be restored, and others."""
        self.unsaved: frozenset[int] = frozenset()
        """The numbers of nodes that were lost because there was no room for them."""
        self.found_elsewhere: Callable[[], None] = _no_one_to_tell
        """A function that is called when a directory is found at a path with other rules than before."""

    def __len__(self) -> int:
        return len(self._by_id) + vectors.own_nodes() + len(self._unread.parents)

    def __iter__(self) -> Iterator[Node]:
        self.read_all()
        return iter(list(self._by_id.values()))

    def numbers(self) -> list[int]:
        """Return the numbers of the nodes that the kernel may know, but not of the bridge's own."""
        return [*self._by_id, *self._unread.parents, *self.lost]

    def get(self, nodeid: int) -> Node:
        """Return the node of a number that the kernel sent. Raise KeyError, or PathTooLongError;
        StaleNodeError for a node that a take-over has lost, and for a phantom, whose announcer was killed
        (kernel_cache/announcements.py)."""
        node = self.find(nodeid)
        if node is None:
            raise StaleNodeError if self.follows or nodeid >= PHANTOMS else KeyError(nodeid)
        if node.out_of_reach and not self.turn(node):
            raise PathTooLongError(node.name)
        return node

    def find(self, nodeid: int) -> Node | None:
        """Return the node of a number, or None."""
        node = self._by_id.get(nodeid)
        if node is None:
            self._read(nodeid)
            self._learn(vectors.take_node(nodeid))
            node = self._by_id.get(nodeid)
        return node

    def read_some(self) -> bool:
        """Make a few nodes of which the table knows little but numbers. Return False if there were none."""
        return self._read_some(16)  # a small part of a slice (in_slices)

    def read_all(self) -> None:
        """Make all such nodes, before the policy changes: their records are of the policy in force."""
        self._read_some(len(self))

    def _read_some(self, most: int) -> bool:
        unread = list(itertools.islice(self._unread.parents, most))
        for nodeid in unread:
            self._read(nodeid)
        return self._learn(vectors.take_some(most - len(unread))) or bool(unread)

    def _read(self, nodeid: int) -> None:
        if nodeid not in self._unread.parents:
            return
        parent, saved = self._by_id[self._unread.parents[nodeid]], self._unread.take(nodeid)
        parent.children -= 1  # _restored() counts it again, and so below
        if saved is not None:
            vectors.know_inode(saved.key & _NUMBER, False)
        if saved is None or not saved.whole or self._restored(saved, parent) is None:
            self._lose(nodeid)
            self._collect(parent)

    def _lose(self, nodeid: int) -> None:
        self.lost.append(nodeid)
        if self.saved is not None:
            self.saved.nodes.gone(nodeid)

    def _learn(self, found: list[vectors.OwnNode]) -> bool:
        """Add nodes that the bridge has made (opening/raw_directories.py) and that were its own until now.
        Return False if there are none."""
        for own in found:
            parent = self._by_id.get(own.parent)
            if parent is None:  # lost at a take-over
                self._lose(own.nodeid)
                continue
            node = Node(
                own.nodeid, own.ino, own.btime_ns, FileType.REGULAR, RAW_VIEW, BytePath.RAW,
                parent.last_state, self._placement,
            )  # fmt: skip
            self._put_below(node, parent, own.name)
            node.lookups, node.kept = own.lookups, True
            node.told_by_bridge()
            if self.saved is not None:
                # With its backing id at once: without it, the daemon after has lost its handles.
                self.saved.learned(node, own.backing_id)
        for own in found:  # only now: this may take handles of all of them over
            if own.nodeid in self._by_id:
                self.vectors.taken(self._by_id[own.nodeid], own.backing_id)
            else:
                vectors.drop(own.nodeid)
        return bool(found)

    def key_of(self, stat: Stat) -> int:
        """Return the key of an inode, unique in the mount: its number, and its device if not the root's."""
        if stat.dev != self.root_dev:
            self.several_devices = True
        return self.key_of_inode(stat.dev, stat.ino)

    def key_of_inode(self, dev: int, ino: int) -> int:
        """Return the key of an inode by its device and its number."""
        return ino if dev == self.root_dev else (dev << 64) | ino

    @staticmethod
    def dev_in(ino_key: int) -> int:
        """Return the device in the key of an inode. Return 0 for the root's device."""
        return ino_key >> 64

    def same_inode(self, ino_key: int) -> Iterator[Node]:
        """Yield every node of a backing inode."""
        node = self._by_ino.get(ino_key)
        is_regular = node is not None and node.ftype is FileType.REGULAR  # else the bridge may have made one
        if not is_regular and not self.dev_in(ino_key):
            self._learn(vectors.take_inode(ino_key))
            node = self._by_ino.get(ino_key)
        if ino_key in self._unread.by_key:
            self._read(self._unread.by_key[ino_key])
            node = self._by_ino.get(ino_key)
        while node is not None:
            yield node
            node = node.next

    def oldest(self, count: int) -> list[Node]:
        """Return at most *count* nodes: those that were added, or returned by this method, longest ago."""
        self._read_some(count)
        taken = list(itertools.islice(self._by_id.values(), count))
        for node in taken:
            self._by_id[node.nodeid] = self._by_id.pop(node.nodeid)
        return taken

    def is_same(self, node: Node, stat: Stat) -> bool:
        """Return True if *stat* is of the same inode as the node (number, device and birth time)."""
        return node.ino == self.key_of(stat) and node.btime_ns == stat.btime_ns

    def add(self, stat: Stat, ftype: FileType, view: View, byte_path: BytePath, state: PathState) -> Node:
        """Add and return a new node for a backing inode, without a name yet."""
        self._last_id += 1
        if self.saved is not None:
            self.saved.numbered(self._last_id)
        key = self.key_of(stat)
        self.vectors.drop_nodes(self.same_inode(key))  # the next look-up of the file may lead to the new node
        node = Node(self._last_id, key, stat.btime_ns, ftype, view, byte_path, state, self._placement)
        self._put(node)
        return node

    def _put_below(self, node: Node, parent: Node, name: bytes) -> None:
        """Add a node with a name. Its place is found at its first use: for 100,000 nodes this takes time."""
        self._put(node)
        node.parent, node.name, node.seen = parent, name, -1
        parent.children += 1

    def _put(self, node: Node) -> None:
        if node.ftype is FileType.REGULAR:
            vectors.know_inode(node.ino & _NUMBER, True)
        node.next = self._by_ino.get(node.ino)
        self._by_ino[node.ino] = node
        self._by_id[node.nodeid] = node

    def refer(self, node: Node, holder: Holder = NOBODY) -> None:
        """Count one more reference that the kernel gets with the reply under way to an app, *holder*."""
        node.lookups += 1
        self._save(node, holder)

    def _save(self, node: Node, holder: Holder = NOBODY) -> None:
        if self.saved is not None and node.nodeid != ROOT_ID:
            self.saved.nodes.put(node, holder)

    def restore(self, found: FoundNodes, last_id: int, seen: Seen) -> None:
        """Add the nodes of the daemon before, each below its directory, before any request is answered. Nodes
        whose directory is not known are lost: the kernel gets ESTALE for them, and looks the name up. Nodes
        that are not *early* are made later, each at its first use."""
        self.follows, self._unread, self._seen = True, found, seen
        known = (one for one in (*found.early, *found.parents) if one < vectors.OWN_NODES)
        self._last_id = max(last_id, self._last_id, *known)
        children: dict[int, list[SavedNode]] = {}
        for one in found.early.values():
            if one.whole:
                children.setdefault(one.parent, []).append(one)
        unfolded = [self.root]
        while unfolded:
            parent = unfolded.pop()
            for one in children.get(parent.nodeid, ()):
                node = self._restored(one, parent)
                if node is not None and node.ftype is FileType.DIRECTORY:
                    unfolded.append(node)
        self._count_unread()
        for nodeid, above, name in found.links:
            linked, directory = self._by_id.get(nodeid), self._by_id.get(above)
            if linked is not None and directory is not None and linked.ftype is FileType.REGULAR:
                self.add_name(linked, directory, name)
        self.lost += found.early.keys() - self._by_id.keys()
        self.lost += found.unsaved
        self.unsaved = frozenset(found.unsaved)

    def _count_unread(self) -> None:
        """Count the nodes that are not read yet as the children of their directories, and as known inodes."""
        found = self._unread
        counts = Counter(found.parents.values())
        known = {nodeid for nodeid in counts if nodeid in self._by_id}
        for nodeid in known:
            self._by_id[nodeid].children += counts[nodeid]
        if len(known) < len(counts):
            lost = [one for one, parent in found.parents.items() if parent not in known]
            for one in lost:
                found.take(one)
            self.lost += lost
        for key in found.by_key:
            vectors.know_inode(key & _NUMBER, True)
            self.several_devices |= key > _NUMBER

    def _restored(self, saved: SavedNode, parent: Node) -> Node | None:
        self.several_devices |= saved.key >> 64 != 0
        node = Node(
            saved.nodeid, saved.key, saved.btime_ns, saved.ftype, RAW_VIEW, saved.byte_path,
            parent.last_state, self._placement,
        )  # fmt: skip
        if saved.view or saved.byte_path is not BytePath.RAW:
            # Its place is found here, not at its first use.
            node.parent, node.name, node.seen = parent, saved.name, -1
            if node.out_of_reach or (known := self._seen(saved, node.last_state)) is None:
                return None
            node.view, node.whose = known
        self._put_below(node, parent, saved.name)
        if node.ftype is FileType.DIRECTORY:
            self._directories[parent.nodeid, saved.name] = node
        node.lookups, node.kept = saved.lookups, True
        node.mediated = saved.mediated or saved.byte_path in {BytePath.LIVE, BytePath.LEASED}
        node.told_by_bridge()  # the kernel may have attributes of any version
        if not saved.named:
            self._unlist(node, parent, saved.name)
            node.parent, node.was_in = None, parent
        return node

    def make_room(self) -> None:
        """Drop all access vectors if the bridge is full, and add its look-ups to Node.lookups."""
        if self.vectors.is_full():
            for nodeid, lookups in self.vectors.clear():
                node = self._by_id[nodeid]
                node.lookups += lookups
                self._save(node)

    def tell_of_gone(self, told: Callable[[Node], None]) -> None:
        """Register a function that is called with each dropped directory's node, which no request uses."""
        self._told.append(told)

    # -- names ------------------------------------------------------------------------------

    def add_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *node* was reached as *name* in *parent*; a known name changes nothing."""
        if node.parent is parent and node.name == name:
            return
        self.vectors.drop(node)
        if node.parent is None:
            self._set_first(node, parent, name)
        else:
            if node.links is None:
                node.links = HardLinks(self._placement)
            if node.links.has(parent, name):
                return
            if not node.links.add(parent, name):
                self._save(node)  # only its state is known now
                return
        if node.ftype is FileType.DIRECTORY:
            self._directories[parent.nodeid, name] = node
        parent.children += 1
        self._save(node)

    def _set_first(self, node: Node, parent: Node, name: bytes) -> None:
        """Set the first name of a node without one. Nodes below update their paths at their next use."""
        was_in, node.was_in = node.was_in, None
        node.parent, node.name = parent, name
        if node.children:
            self._count_move()
        node.find_out(elsewhere=True)
        if was_in is not None:
            was_in.children -= 1
            self._collect(was_in)

    def _count_move(self) -> None:
        self.vectors.drop_all()
        self._placement.moved += 1
        self.root.place()

    def drop_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* no longer leads to *node*; unknown names are ignored."""
        self.vectors.drop(node)
        if node.parent is parent and node.name == name:
            self._unlist(node, parent, name)
            node.parent = None
            other = None if node.links is None else node.links.pop()
            if other is None:
                node.was_in = parent  # the node keeps its last path
                self._save(node)
                return
            self._set_first(node, *other)
        elif node.links is None or not node.links.drop(parent, name):
            return
        else:
            self._unlist(node, parent, name)
        if node.links is not None and not node.links and not node.links.beyond:
            node.links = None
        self._save(node)
        parent.children -= 1
        self._collect(parent)

    def turn(self, node: Node) -> bool:
        """Make another name of a node its first. Return True if there is one with a short enough path."""
        self.vectors.drop(node)
        first = node.parent, node.name
        other = None if node.links is None or node.parent is None else node.links.pop()
        if other is None or node.links is None or first[0] is None:
            return False
        node.parent = None
        self._set_first(node, *other)
        node.links.add(first[0], first[1])
        return not node.out_of_reach  # not saved: the node has the same names

    def _unlist(self, node: Node, parent: Node, name: bytes) -> None:
        if self._directories.get((parent.nodeid, name)) is node:
            del self._directories[parent.nodeid, name]

    def found_at(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that a directory was found under a name, and drop all others. If it was moved in the store,
        other rules may hold for all paths below, of which the kernel may keep answers."""
        if node.parent is parent and node.name == name:
            return
        before = node.last_state
        parent.children += 1  # keeps the new directory while the old names go
        for known in list(node.all_names()):
            self.drop_name(node, *known)
        self.add_name(node, parent, name)
        parent.children -= 1
        if node.last_state is not before:
            self._placement.unlike += 1
            self.found_elsewhere()

    def directory_at(self, parent: Node, name: bytes, stat: Stat) -> Node:
        """Return the node of a directory that was found under a name. Add a new node if there is none."""
        for node in self.same_inode(self.key_of(stat)):
            if node.btime_ns == stat.btime_ns and node.ftype is FileType.DIRECTORY:
                break
        else:
            state = self._placement.child(parent.state, name)
            node = self.add(stat, FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, state)
        self.found_at(node, parent, name)
        return node

    @property
    def moves(self) -> int:
        """The number of changes to the paths of known nodes."""
        return self._placement.moved

    @property
    def unlike(self) -> int:
        """The number of reloads, and of moves of directories in the store to paths with other rules."""
        return self._placement.unlike

    def directory(self, parent: Node, name: bytes) -> Node | None:
        """Return the directory that the table knows as *name* in *parent*, or None. The store is not read."""
        return self._directories.get((parent.nodeid, name))

    def named(self, ino_key: int, parent: Node, name: bytes) -> list[Node]:
        """Return the nodes of a backing inode that have *name* in *parent*, or may have it."""
        return [node for node in self.same_inode(ino_key) if node.is_named(parent, name)]

    def use(self, state: PathState, child: Callable[[PathState, bytes], PathState]) -> None:
        """Use another policy. state, child: as for __init__."""
        self._placement.child = child
        self._placement.unlike += 1
        self.root.last_state = state
        self._count_move()

    # -- life ---------------------------------------------------------------------------------

    def forget(self, nodeid: int, lookups: int) -> None:
        """Subtract *lookups* from a node's references: the kernel has given up these references."""
        self._read(nodeid)
        node = self._by_id.get(nodeid)
        if node is not None and nodeid != ROOT_ID:
            self.vectors.drop(node)  # this first adds the look-ups that the bridge has answered
            node.lookups = max(0, node.lookups - lookups)
            self._save(node)
            self._collect(node)

    def closed(self, node: Node) -> None:
        """Note that a node's last handle was released."""
        self._collect(node)

    def _collect(self, node: Node) -> None:
        """Drop a node without references. Then drop each directory above that has no references any more."""
        unused = [node]
        while unused:
            node = unused.pop()
            if node.lookups or node.children or node.open is not None or node.nodeid == ROOT_ID:
                continue
            if node.ftype is FileType.DIRECTORY and self._learn(vectors.take_in(node.nodeid)):
                continue
            if self.vectors.drop(node) or self._by_id.pop(node.nodeid, None) is None:
                continue
            self.gone += 1
            if self.saved is not None:
                self.saved.nodes.gone(node.nodeid)
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
        if node.ftype is FileType.REGULAR:
            vectors.know_inode(node.ino & _NUMBER, False)
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


def _not_seen(_saved: SavedNode, _state: PathState) -> tuple[View, Lane] | None:
    return None  # nothing was saved


def _no_one_to_tell() -> None:
    """Do nothing: no kernel keeps names of this table."""
