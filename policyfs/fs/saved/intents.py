"""Intents: the changes that requests are about to make in the store, in memory that outlives the daemon.

If the daemon is killed before its answer, the kernel sends the request again. An intent has the inodes behind
its names before the change, so the next daemon can tell whether the change was made (namespace/recovery.py).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from policyfs.fs.saved.record_table import RecordTable

_RECORD: Final = struct.Struct("=QBBQQqQQQqQQ")
"""unique, change, length of the first name, (inode number, device, birth time in ns, directory) of both
sides, size in bytes."""
_INODE: Final = (1 << 64) - 1
ROOM: Final = _RECORD.size + 2 * 255
"""The largest record, in bytes."""


class ChangeKind(enum.IntEnum):
    """The kind of a change that must not be made twice."""

    NAME = 1
    """An object gets a name: CREATE, MKDIR, MKNOD, SYMLINK, LINK."""
    REMOVAL = 2
    MOVE = 3
    EXCHANGE = 4
    APPEND = 5
    """Bytes are written at a file's end."""
    ATTRIBUTE = 6
    """An xattr that is there is removed."""


class Outcome(enum.Enum):
    """The outcome of an intent of a killed daemon, as the store tells it."""

    MADE = "made"
    NOT_MADE = "not made"
    UNKNOWN = "unknown"


class Side(NamedTuple):
    """One name of a change, and the inode behind it before (key 0: none, or not known). parent: the number of
    its directory's node."""

    parent: int = 0
    name: bytes = b""
    key: int = 0
    btime_ns: int = 0


class Intent(NamedTuple):
    """A change that a request is about to make. unique: the request's number. old: of a NAME the name, and
    the inode that gets it. size: of an APPEND the file's size before, in bytes."""

    unique: int
    kind: ChangeKind
    old: Side
    new: Side = Side()
    size: int = 0


class Answered(Protocol):
    """A request that ends (access/ledger.py)."""

    @property
    def closed(self) -> bool:
        """True once the request's handler has returned."""


class Keeps(Protocol):
    """The memory that keeps intents (saved_state.py)."""

    intents: RecordTable

    def is_full(self) -> None:
        """Note that an intent could not be kept."""

    def came_again(self, *, is_known: bool) -> None:
        """Count a request with an intent that came again after a take-over."""


class Intents:
    """The intents of one mount. Without memory (save_to) nothing is kept, and all methods are cheap."""

    def __init__(self, request: Callable[[], Answered | None]) -> None:
        """request: returns the present request."""
        self._request = request
        self._table: RecordTable | None = None
        self._state: Keeps | None = None
        self._slots: dict[int, int] = {}
        self._at_work: dict[int, Answered] = {}
        self._before: dict[int, tuple[Intent, Outcome]] = {}

    @property
    def are_kept(self) -> bool:
        """True if another daemon may follow this one."""
        return self._table is not None

    def save_to(self, state: Keeps) -> None:
        """Keep intents in a state from now on."""
        self._state, self._table = state, state.intents

    def read(self, state: Keeps) -> list[Intent]:
        """Read the intents of the daemon before, and take their slots over: half of the slots at most, since
        each death leaves some of answered requests, which never come again."""
        found: dict[int, Intent] = {}
        for slot, record in state.intents.read().items():
            intent = _intent_of(record)
            if intent is None or intent.unique in found:
                state.intents.free(slot)
            else:
                self._slots[intent.unique], found[intent.unique] = slot, intent
        for unique in sorted(found)[: -state.intents.slots // 2]:
            state.intents.free(self._slots.pop(unique))
            del found[unique]
        return list(found.values())

    def keep(self, state: Keeps, intents: Iterable[Intent]) -> None:
        """Keep intents that the bridge of the daemon before had, for a daemon after this one."""
        for intent in intents:
            if intent.unique in self._slots:
                continue
            if (slot := state.intents.take()) is None:
                state.is_full()
                return
            self._slots[intent.unique] = slot
            state.intents.put(slot, _record_of(intent))

    def settle(self, intent: Intent, outcome: Outcome) -> None:
        """Note what has become of an intent of the daemon before."""
        self._before[intent.unique] = intent, outcome

    def begin(self, intent: Intent) -> None:
        """Keep an intent until its request is answered. INVARIANT: no await between this and the change."""
        request = self._request()
        if self._table is None or self._state is None or not intent.unique or request is None:
            return
        self._free_answered()
        slot = self._slots.get(intent.unique)
        if slot is None:
            slot = self._table.take()
        if slot is None:
            self._state.is_full()
            return
        self._slots[intent.unique], self._at_work[intent.unique] = slot, request
        self._table.put(slot, _record_of(intent))

    def _free_answered(self) -> None:
        """Free the slots of answered requests. A reply follows its handler's return with no await, so that it
        was sent when another request runs. INVARIANT: no slot is free before: a request without intent that
        comes again is made again."""
        if self._table is None:
            return
        for unique, request in list(self._at_work.items()):
            if request.closed:
                del self._at_work[unique]
                self._before.pop(unique, None)
                if (slot := self._slots.pop(unique, None)) is not None:  # the bridge's have none
                    self._table.free(slot)

    def before(self, unique: int) -> tuple[Intent, Outcome] | None:
        """Return the intent that a killed daemon had for this request, and what became of it; or None."""
        if not self._before or (found := self._before.get(unique)) is None:
            return None
        if (request := self._request()) is not None and unique not in self._at_work:
            self._at_work[unique] = request
            if self._state is not None:
                self._state.came_again(is_known=found[1] is not Outcome.UNKNOWN)
        return found


def _record_of(intent: Intent) -> bytes:
    sides = [(s.key & _INODE, s.key >> 64, s.btime_ns, s.parent) for s in (intent.old, intent.new)]
    name = intent.old.name
    fields = (*sides[0], *sides[1], intent.size)
    return _RECORD.pack(intent.unique, intent.kind, len(name), *fields) + name + intent.new.name


def _intent_of(record: bytes) -> Intent | None:
    if len(record) < _RECORD.size:
        return None
    unique, kind, length, *fields, size = _RECORD.unpack_from(record)
    names = record[_RECORD.size :]
    if kind not in set(ChangeKind) or length > len(names) or {*b"/\0"} & {*names} or not unique:
        return None
    sides = []
    for name, (ino, dev, btime_ns, parent) in ((names[:length], fields[:4]), (names[length:], fields[4:])):
        if name in {b".", b".."}:
            return None
        sides.append(Side(parent, name, dev << 64 | ino, btime_ns))
    return Intent(unique, ChangeKind(kind), sides[0], sides[1], size)
