"""The nodes in a mount's saved state (saved_state.py), and those that its next daemon has not read yet."""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import FileType, Lane, View
from policyfs.fs.inodes.node import ROOT_ID, BytePath
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.fs.saved.record_table import RecordTable
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel import vectors

if TYPE_CHECKING:
    from policyfs.fs.inodes.node import Node

_NODE: Final = struct.Struct("=QQQqQQiBBHII")
"""nodeid, inode number, device (0: the root's), birth time in ns, directory, look-ups, backing id, type,
bits, number of the policy, checksum of the view, uid of the lane."""
_NO_FIELDS: Final = _NODE.unpack(bytes(_NODE.size))
_LOOKUPS_AT, _BACKING_AT, _BACKING_END = 40, 48, 52
_MEDIATED, _NAMED, _WHOLE, _OWN, _PATH_SHIFT = 1, 2, 4, 8, 4
_BYTE_PATHS: Final = tuple(BytePath)
_SHORT, _LONG = 64, 255
"""The longest names of the two tables of nodes, in bytes."""
_LINK: Final = struct.Struct("=QQ")
"""nodeid, directory; then a further name of the node."""
_TYPES: Final = tuple(FileType)
_FOLDER: Final = _TYPES.index(FileType.DIRECTORY)
_INODE: Final = (1 << 64) - 1
NOBODY: Final = -1
"""The holder of nodes that no request of a known app has made."""
_BITS: Final = 26
UNSAVED_BYTES: Final = 16 + (1 << _BITS) // 8
"""The size of the marks of nodes without a record: two words (how many; the greatest number of a node), then
a bit for each remainder of a number."""


class SavedNode(NamedTuple):
    """A node. key: NodeTable.key_of() of its inode. parent: the directory of its first name, or, if it is not
    *named* any more, of its last. backing_id: 0 without passthrough."""

    nodeid: int
    key: int
    btime_ns: int
    parent: int
    lookups: int
    backing_id: int
    ftype: FileType
    mediated: bool
    named: bool
    whole: bool
    """False if the node cannot be restored: the kernel then looks its name up again, after ESTALE."""
    name: bytes
    byte_path: BytePath = BytePath.RAW
    view: int = 0
    """Checksum of the view (sum_of_view); 0: raw, for everybody."""
    uid: int | None = None
    """A uid of the only lane that may use the node; None if lanes share it."""


class FoundNodes:
    """The nodes of the daemon before. Of most, only directory and inode are known until their first use: for
    100,000 nodes all takes most of a second. parents, by_key: the directory of each by its number, and its
    number by SavedNode.key. *early*: the others (directories, and nodes with a backing id or several names).
    links: further names (node, directory, name). unsaved: numbers of nodes without a record, and others."""

    def __init__(self, read: Callable[[int], SavedNode | None]) -> None:
        self.early: dict[int, SavedNode] = {}
        self.parents: dict[int, int] = {}
        self.links: list[tuple[int, int, bytes]] = []
        self.by_key: dict[int, int] = {}
        self.unsaved: list[int] = []
        self._read = read

    def take(self, nodeid: int) -> SavedNode | None:
        """Return a node of *parents*, which is no longer there from now on; None if it cannot be read."""
        del self.parents[nodeid]
        if (found := self._read(nodeid)) is not None:
            self.by_key.pop(found.key, None)
        return found


class SavedNodes:
    """The part of the state with nodes and backing ids. A name's length decides in which table a node is.

    Each app has a share of each table. A node beyond it is not saved: after a kill the kernel gets ESTALE for
    it, and for all below."""

    ROOMS: Final = (_NODE.size + _SHORT, _NODE.size + _LONG, _LINK.size + _LONG)  # of records, in bytes

    def __init__(
        self, short: RecordTable, long: RecordTable, links: RecordTable, unsaved: memoryview,
        policies: Callable[[], int],
    ) -> None:  # fmt: skip
        """unsaved: for UNSAVED_BYTES. policies: returns the number of the policy in force."""
        self._short, self._long, self._link_table = short, long, links
        self._shares = self._no_shares()
        self._marks, self._policies = _Marks(unsaved), policies
        self.unsaved: dict[int, Holder] = {}
        """The nodes without a record, and whose they are."""
        self.uid_of: Callable[[Lane], int | None] = lambda _lane: None
        """Returns a uid of a lane, or None if none is known: its nodes cannot be restored."""
        self._slots: dict[int, tuple[RecordTable, int, Holder]] = {}
        self._links: dict[int, dict[tuple[int, bytes], tuple[int, Holder]]] = {}
        self._backing: dict[int, int] = {}
        self.begun: list[Intent] = []
        """The intents of files that the bridge of the daemon before was about to make or to remove."""

    def put(self, node: Node, holder: Holder = NOBODY) -> None:
        """Save a node after a change of its names, look-ups or mode. holder: the app in whose share a new
        record counts; NOBODY: that for which the node was to be saved before."""
        missing, above = [node], node.parent if node.parent is not None else node.was_in
        while self.unsaved and above is not None and above.nodeid in self.unsaved:
            missing.append(above)
            above = above.parent if above.parent is not None else above.was_in
        while missing and self._put(missing.pop(), holder):
            pass
        for one in missing:  # below one without a record
            self._lose(one.nodeid, holder)

    def _put(self, node: Node, holder: Holder) -> bool:
        named = node.parent is not None
        parent = node.parent if named else node.was_in
        uid = None if node.whose is None else self.uid_of(node.whose)
        # A node is decided by all of its names.
        whole = not node.is_beyond and (node.whose is None or uid is not None)
        if parent is None:  # it has not been told to the kernel yet
            return True
        table = self._short if len(node.name) <= _SHORT else self._long
        had, slot, payer = self._slots.get(node.nodeid, (None, None, holder))
        if payer == NOBODY:
            payer = self.unsaved.get(node.nodeid, holder)
        if had is not table:
            slot = self._take(table, payer)
        elif payer != self._slots[node.nodeid][2]:
            slot = self._hand_on(node.nodeid, payer)
        links = set() if node.links is None else {(above.nodeid, name) for above, name in node.links}
        is_below = any(above in self.unsaved for above, _ in links)
        if slot is None or is_below or not self._link(node.nodeid, links, payer):
            if slot is not None and had is not table:
                self._give(table, slot, payer)
            self._lose(node.nodeid, payer)
            return False
        bits = _MEDIATED * node.mediated | _NAMED * named | _WHOLE * whole | _OWN * (uid is not None)
        bits |= _BYTE_PATHS.index(node.byte_path) << _PATH_SHIFT
        table.put(slot, _NODE.pack(
            node.nodeid, node.ino & _INODE, node.ino >> 64, node.btime_ns, parent.nodeid, node.lookups,
            self._backing.get(node.nodeid, 0), _TYPES.index(node.ftype), bits,
            self._policies() & 0xFFFF, sum_of_view(node.view), uid or 0,
        ) + node.name)  # fmt: skip
        if had is not table:
            self._drop(node.nodeid)  # only now, so that one of the two is always there
            self._slots[node.nodeid] = (table, slot, payer)
        self._unlink(node.nodeid, links)
        if self.unsaved.pop(node.nodeid, None) is not None:
            self._marks.clear(node.nodeid)
        return True

    def _lose(self, nodeid: int, holder: Holder) -> None:
        if nodeid not in self.unsaved:
            self._marks.set(nodeid)
        if holder != NOBODY or nodeid not in self.unsaved:
            self.unsaved[nodeid] = holder
        self._drop(nodeid)
        self._unlink(nodeid, set())  # INVARIANT: after its record

    def _no_shares(self) -> dict[RecordTable, Shares]:
        tables = self._short, self._long, self._link_table
        return {table: Shares(table.slots, "saved nodes") for table in tables}

    def _take(self, table: RecordTable, holder: Holder) -> int | None:
        shares = self._shares[table]
        slot = table.take() if shares.may_take(holder) else None
        shares.take(holder, slot is not None)
        return slot

    def _hand_on(self, nodeid: int, holder: Holder) -> int | None:
        """Count a node's record, which is nobody's, in an app's share. Return its slot."""
        table, slot, before = self._slots[nodeid]
        if not self._shares[table].may_take(holder):
            return None
        self._shares[table].take(holder)
        self._shares[table].give(before)
        self._slots[nodeid] = table, slot, holder
        return slot

    def _give(self, table: RecordTable, slot: int, holder: Holder) -> None:
        table.free(slot)
        self._shares[table].give(holder)

    def _link(self, nodeid: int, links: set[tuple[int, bytes]], holder: Holder) -> bool:
        """Save a node's further names. Return False without room. INVARIANT: before its record, and what is
        gone is dropped after it: a name too many is found dead, but a name too few could give a right."""
        known = self._links.get(nodeid, {})
        for link in links - known.keys():
            if (slot := self._take(self._link_table, holder)) is None:
                return False
            self._links.setdefault(nodeid, {})[link] = slot, holder
            self._link_table.put(slot, _LINK.pack(nodeid, link[0]) + link[1])
        return True

    def _unlink(self, nodeid: int, links: set[tuple[int, bytes]]) -> None:
        if not (known := self._links.get(nodeid)):
            return
        for link in known.keys() - links:
            self._give(self._link_table, *known.pop(link))
        if not known:
            del self._links[nodeid]

    def gone(self, nodeid: int) -> None:
        """Drop a node that the kernel does not know any more."""
        self._backing.pop(nodeid, None)
        self._drop(nodeid)
        self._unlink(nodeid, set())
        if self.unsaved.pop(nodeid, None) is not None:
            self._marks.clear(nodeid)

    def _drop(self, nodeid: int) -> None:
        if (had := self._slots.pop(nodeid, None)) is not None:
            self._give(*had)

    def backed(self, node: Node, backing_id: int) -> None:
        """Save the backing id of a node, from its registration on."""
        self._backing[node.nodeid] = backing_id
        self.put(node)

    def unbacked(self, nodeid: int) -> None:
        """Save that a node has no backing id any more."""
        if self._backing.pop(nodeid, None) and nodeid in self._slots:
            self._patch(nodeid, _BACKING_AT, 0, _BACKING_END - _BACKING_AT)

    def count(self, nodeid: int, lookups: int) -> None:
        """Save that the kernel has so many more references to a node that is not read yet."""
        table, slot, _ = self._slots[nodeid]
        before = int.from_bytes(table.get(slot)[_LOOKUPS_AT:_BACKING_AT], "little")
        self._patch(nodeid, _LOOKUPS_AT, before + lookups, _BACKING_AT - _LOOKUPS_AT)

    def _patch(self, nodeid: int, at: int, value: int, size: int) -> None:
        table, slot, _ = self._slots[nodeid]
        record = bytearray(table.get(slot))
        record[at : at + size] = value.to_bytes(size, "little")
        table.put(slot, bytes(record))

    # -- for the daemon after ------------------------------------------------------------------------

    def read(self) -> FoundNodes:
        """Read the nodes of the daemon before, and take their slots over."""
        found, links = FoundNodes(self._node), self._link_table.read()
        linked = {_LINK.unpack_from(one)[0] for one in links.values() if len(one) > _LINK.size}
        policy = self._policies() & 0xFFFF
        self._slots, self._backing, self._links, self.unsaved = {}, {}, {}, {}
        self._shares, found.unsaved = self._no_shares(), self._marks.take()
        for table in (self._short, self._long):
            for slot, record in table.read().items():
                fields = _NODE.unpack_from(record) if len(record) > _NODE.size else _NO_FIELDS
                nodeid, ino, dev, _, parent, _, backing_id, kind, bits, by_policy, view, _ = fields
                if nodeid <= ROOT_ID or nodeid in self._slots:
                    table.free(slot)
                    continue
                self._slots[nodeid] = (table, slot, NOBODY)
                is_whole = bits & _WHOLE and (not view or policy == by_policy)
                key = dev << 64 | ino if dev else ino
                if (
                    is_whole and bits & _NAMED and kind != _FOLDER and not backing_id
                    and nodeid not in linked and key not in found.by_key
                ):  # fmt: skip
                    found.parents[nodeid] = parent
                    found.by_key[key] = nodeid
                elif (early := self._node(nodeid)) is not None:
                    found.early[nodeid] = early
                    if backing_id:
                        self._backing[nodeid] = backing_id
                else:
                    table.free(slot)
                    del self._slots[nodeid]
        for table, count in Counter(one[0] for one in self._slots.values()).items():
            self._shares[table].take(NOBODY, count)
        found.links = self._read_links(links)
        return found

    def _read_links(self, records: dict[int, bytes]) -> list[tuple[int, int, bytes]]:
        for slot, record in records.items():
            nodeid, parent = _LINK.unpack_from(record) if len(record) > _LINK.size else (0, 0)
            link, known = (parent, record[_LINK.size :]), self._links.setdefault(nodeid, {})
            if nodeid not in self._slots or link in known or not _is_name(link[1]):
                self._link_table.free(slot)
            else:
                known[link] = slot, NOBODY
                self._shares[self._link_table].take(NOBODY)
        return [(nodeid, *link) for nodeid, known in self._links.items() for link in known]

    def own(self, memory: memoryview, registered: Callable[[int, bool], object]) -> Iterator[SavedNode]:
        """Yield nodes with a backing id that the bridge before made, but none of read(), and the node that it
        was about to change. Save the ids. Note which files it was about to make, remove or rename (begun)."""
        for one in vectors.read_own(memory, self._slots):
            if not one.lookups or not _is_name(one.name):
                continue
            if one.backing_id:
                registered(one.backing_id, True)
            side = Side(one.parent, one.name, one.ino, one.btime_ns)
            if one.remover and _is_name(one.new_name):
                there = Side(one.new_parent, one.new_name)
                self.begun.append(Intent(one.remover, ChangeKind.MOVE, side, there))
            elif one.remover:
                self.begun.append(Intent(one.remover, ChangeKind.REMOVAL, side))
            if one.lookups & vectors.MAKING:
                self.begun.append(Intent(one.lookups & ~vectors.MAKING, ChangeKind.NAME, side))
            if one.lookups & vectors.MAKING or not (one.backing_id or one.remover):
                continue
            if one.backing_id:
                self._backing[one.nodeid] = one.backing_id
            yield SavedNode(
                one.nodeid, one.ino, one.btime_ns, one.parent, one.lookups, one.backing_id, FileType.REGULAR,
                mediated=False, named=True, whole=True, name=one.name,
            )  # fmt: skip

    def _node(self, nodeid: int) -> SavedNode | None:
        table, slot, _ = self._slots[nodeid]
        record = table.get(slot)
        fields = _NODE.unpack_from(record) if len(record) > _NODE.size else _NO_FIELDS
        known, ino, dev, btime_ns, parent, lookups, backing_id, kind, bits, policy, view, uid = fields
        if known != nodeid or kind >= len(_TYPES) or not _is_name(record[_NODE.size :]):
            return None
        whole = bits & _WHOLE and (not view or policy == self._policies() & 0xFFFF)
        return SavedNode(
            nodeid, dev << 64 | ino, btime_ns, parent, lookups, backing_id, _TYPES[kind],
            bool(bits & _MEDIATED), bool(bits & _NAMED), bool(whole), record[_NODE.size :],
            _BYTE_PATHS[bits >> _PATH_SHIFT & 3], view, uid if bits & _OWN else None,
        )  # fmt: skip


class _Marks:
    """The marks of nodes without a record, for the next daemon: the kernel may keep attributes of them."""

    def __init__(self, memory: memoryview) -> None:
        self._words, self._bits = memory[:16].cast("Q"), memory[16:UNSAVED_BYTES]

    def set(self, nodeid: int) -> None:
        number = nodeid & ~vectors.OWN_NODES
        self._words[1] = max(self._words[1], number)
        self._bits[number % (1 << _BITS) >> 3] |= 1 << (number & 7)
        self._words[0] += 1

    def clear(self, nodeid: int) -> None:
        """Remove a mark, and perhaps another node's with it."""
        self._bits[(nodeid & ~vectors.OWN_NODES) % (1 << _BITS) >> 3] &= ~(1 << (nodeid & 7))
        self._words[0] -= 1

    def take(self) -> list[int]:
        """Remove all marks. Return the numbers that were marked, and others."""
        found: list[int] = []
        size = min(self._words[1], (1 << _BITS) - 1) // 8 + 1 if self._words[0] else 0
        for place in re.finditer(rb"[^\0]", self._bits[:size]):
            at = place.start()
            low = [at * 8 + bit for bit in range(8) if self._bits[at] >> bit & 1]
            for high in range((self._words[1] >> _BITS) + 1):
                found += [own | high << _BITS | one for own in (0, vectors.OWN_NODES) for one in low]
            self._bits[at] = 0
        self._words[0] = 0
        return found


def _is_name(name: bytes) -> bool:
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


@lru_cache(maxsize=256)
def sum_of_view(view: View) -> int:
    """Return a checksum of the obligations of a view; 0 if there are none."""
    obligations = sorted(view.redact), view.checked, sorted(view.bans)
    return zlib.crc32(repr(obligations).encode()) or 1 if view.key else 0
