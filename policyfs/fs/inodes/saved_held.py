"""The bytes that wait for their check, in memory that outlives the daemon.

A record has a held head, or all that the daemon knows about a draft, whose bytes are behind its descriptor.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from policyfs.domain import Op, RuleMatch
from policyfs.fs.inodes.pending_writes import Draft, Head, KeptBytes, Refusal, Write
from policyfs.fs.saved.saved_copies import inode_of

if TYPE_CHECKING:
    from policyfs.fs.inodes.caller import Caller
    from policyfs.fs.inodes.node import Node
    from policyfs.fs.inodes.open_state import OpenState
    from policyfs.fs.saved.record_table import RecordTable

FD_AT: Final = 8
"""The offset of the descriptor in a record."""
_HEAD: Final = struct.Struct("=QiQQI")
"""Node, descriptor of the draft (-1: a head), its device and inode number, length of the fields; then the
fields as JSON, and the bytes."""
ROOM: Final = (64 + 16) << 10
"""The largest record, in bytes: at most 64 KiB are held."""
_DRAFT: Final = (
    "created", "refused", "changed", "unchanged", "until_kind", "began_empty", "torn", "base", "times_ns",
    "copied",
)  # fmt: skip


class SavedHeld(NamedTuple):
    """Held bytes of an open file. fd: the draft's descriptor, or -1 for a head. inode: device and inode
    number behind it. fields: as JSON. data: the bytes of a head, or its late writes."""

    nodeid: int
    fd: int
    inode: tuple[int, int]
    fields: dict[str, Any]
    data: bytes

    @property
    def is_unsaved(self) -> bool:
        """True if the store does not have the bytes."""
        return bool(self.fields["changed"] if self.fd >= 0 else self.data)

    @property
    def late(self) -> tuple[Write, ...]:
        """Head.late."""
        found, at = [], 0
        for offset, size in self.fields["late"]:
            found.append(Write(offset, self.data[at : at + size]))
            at += size
        return tuple(found)

    def fill(self, draft: Draft, refusal: Refusal | None) -> None:
        """Give a draft what the daemon before knew about it. refusal: the last one."""
        for name in _DRAFT:
            value = self.fields[name]
            setattr(draft, name, tuple(value) if isinstance(value, list) else value)
        size, written = self.fields["kept"]
        draft.kept = KeptBytes(size)
        for start, end in written:
            draft.kept.drop(start, end)
        draft.cleaned_of = frozenset(self.fields["cleaned_of"])
        if self.fields["recorded"] is not None:
            path, note = self.fields["recorded"]
            draft.recorded = bytes.fromhex(path), note
        draft.refusal = refusal

    def refusal(
        self, caller: Callable[[int, int, int], Caller], generation: int, policy: int
    ) -> Refusal | None:
        """Return Draft.refusal. caller: returns that of a uid, gid and pid. generation, policy: of the policy
        in force (Gate.generation, and its number)."""
        if (found := self.fields["refusal"]) is None:
            return None
        kind, reason, rules, quarantine, writer, is_current = found
        if not is_current or self.fields["policy"] != policy:
            generation = -1
        matches = tuple(RuleMatch(rule, effect, Op(op), *rest) for rule, effect, op, *rest in rules)
        return Refusal(kind, reason, matches, quarantine, generation, writer and caller(*writer))


class SavedHeldBytes:
    """The table of all held bytes. Threads may save a draft, too.

    policies: returns the number of the policy in force. generation: the same, of this daemon. prevent:
    counts files whose held bytes are not saved: they prevent a take-over."""

    def __init__(
        self, table: RecordTable, policies: Callable[[], int], prevent: Callable[[int], None]
    ) -> None:
        self._table = table
        self._policies = policies
        self._prevent = prevent
        self.generation: Callable[[], int] = lambda: 0
        self._slots: dict[int, int] = {}
        self._unsaved: set[int] = set()
        self._lock = threading.Lock()

    def put(self, node: Node, state: OpenState) -> None:
        """Save the held bytes of an open file, or that it has none any more."""
        head = state.head
        if state.draft is not None:
            self.keep(node, state.draft)
        elif head is not None and (head.held or head.refused):
            self._save(node, state, head, (head.held or b"") if not head.late else _joined(head.late))
        else:
            self.drop(node.nodeid)

    def keep(self, node: Node, draft: Draft) -> None:
        """Save a draft as that of an open file. For threads, too."""
        if node.open is not None and draft.fd >= 0:
            self._save(node, node.open, draft, b"")

    def _save(self, node: Node, state: OpenState, held: Draft | Head, data: bytes) -> None:
        with self._lock:
            record = b"" if node.view.redact else self._record_of(node, state, held, data)
            slot = self._slots.get(node.nodeid)
            if record and len(record) <= ROOM and slot is None:
                slot = self._table.take()
            if not record or len(record) > ROOM or slot is None:
                self._drop(node.nodeid)
                if state.unsaved:
                    self._unsaved.add(node.nodeid)
                    self._prevent(1)
                return
            self._slots[node.nodeid] = slot
            self._allow(node.nodeid)
            if self._table.get(slot) != record:
                self._table.put(slot, record)

    def _record_of(self, node: Node, state: OpenState, held: Draft | Head, data: bytes) -> bytes:
        fields: dict[str, Any] = {
            "policy": self._policies(), "uids": sorted(state.writer_uids), "mapped": state.mapped,
            "withheld": state.withheld,
        }  # fmt: skip
        fd, inode = -1, (0, 0)
        if isinstance(held, Head):
            late = [(write.offset, len(write.data)) for write in held.late]
            fields |= {"created": held.created, "refused": held.refused, "late": late, "end": held.end}
        else:
            fd, inode = held.fd, inode_of(held.fd)
            fields |= _fields_of(held, self.generation())
        told = json.dumps(fields).encode()
        return _HEAD.pack(node.nodeid, fd, *inode, len(told)) + told + data

    def _allow(self, nodeid: int) -> None:
        if nodeid in self._unsaved:
            self._unsaved.remove(nodeid)
            self._prevent(-1)

    def drop(self, nodeid: int) -> None:
        """Drop the held bytes of a file."""
        if nodeid in self._slots or nodeid in self._unsaved:
            with self._lock:
                self._drop(nodeid)

    def _drop(self, nodeid: int) -> None:
        self._allow(nodeid)
        if (slot := self._slots.pop(nodeid, None)) is not None:
            self._table.free(slot)

    def closing(self, nodeid: int, fd: int) -> None:
        """Drop a draft. INVARIANT: before its descriptor is closed."""
        slot = self._slots.get(nodeid)
        if slot is not None and _HEAD.unpack_from(self._table.get(slot))[1] == fd:
            self.drop(nodeid)

    def read(self) -> list[SavedHeld]:
        """Read all held bytes of the daemon before, and take their slots over."""
        found = []
        for slot, record in self._table.read().items():
            if (held := _held_of(record)) is None or self._slots.get(held.nodeid, slot) != slot:
                self._table.free(slot)
            else:
                self._slots[held.nodeid] = slot
                found.append(held)
        return found


def _joined(late: tuple[Write, ...]) -> bytes:
    return b"".join(write.data for write in late)


def _fields_of(draft: Draft, generation: int) -> dict[str, Any]:
    refusal, told = draft.refusal, None
    if refusal is not None:
        writer = refusal.writer and (refusal.writer.uid, refusal.writer.gid, refusal.writer.pid)
        rules = [(one.rule, one.effect, one.op.value, one.certain, one.monitor) for one in refusal.rules]
        is_current = refusal.generation == generation
        told = refusal.kind, refusal.reason, rules, refusal.quarantine, writer, is_current
    recorded = draft.recorded and (draft.recorded[0].hex(), draft.recorded[1])
    return {name: getattr(draft, name) for name in _DRAFT} | {
        "cleaned_of": sorted(draft.cleaned_of), "recorded": recorded, "refusal": told,
        "kept": draft.kept.told(),
    }  # fmt: skip


def _held_of(record: bytes) -> SavedHeld | None:
    """Return the held bytes of a record, or None if it cannot be one."""
    try:
        nodeid, fd, dev, ino, length = _HEAD.unpack_from(record)
        fields = json.loads(record[_HEAD.size : _HEAD.size + length])
        return SavedHeld(nodeid, fd, (dev, ino), fields, record[_HEAD.size + length :])
    except (ValueError, struct.error):
        return None
