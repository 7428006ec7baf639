"""The plan of an undo: the records of an app since a time, taken back in turn, the newest first.

A step is planned only if the object is where the app has left it, and as the app has left it. What somebody
else has changed, moved, removed or made meanwhile is a conflict, and stays."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from policyfs.domain import FileType
from policyfs.store.kept.bins import Kept
from policyfs.store.kept.places import Place, Places, Remade
from policyfs.store.kept.record import OWN, Inode, Record, State

_SECOND_NS: Final = 10**9
_MODE: Final = 0o7777
_SUID_SGID: Final = 0o6000


class Action(enum.Enum):
    """The kind of a step, in words for people."""

    PUT = "comes back"
    MAKE = "directory is made again"
    MOVE = "moves back"
    EXCHANGE = "change places again"
    ASIDE = "is put aside"
    BYTES = "gets its bytes back"
    ATTRS = "gets its attributes back"


class Conflicts(enum.Enum):
    """The treatment of changes that others have made meanwhile."""

    LEAVE = "leave"
    BESIDE = "beside"
    REPLACE = "replace"


class Past(NamedTuple):
    """A record with the app that made the change. kept: the kept object if it is there."""

    app: str
    record: Record
    kept: Kept | None
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step. path: where the object is before; new: after, if that is another path. inode: the object's,
    so that no other is changed. kept: the kept object that comes back. beside: True if it goes to a free name
    near *path*. attrs, xattrs: to set."""

    action: Action
    path: bytes
    inode: Inode
    record: Record
    app: str
    new: bytes = b""
    kept: Kept | None = None
    beside: bool = False
    attrs: Mapping[str, int] = field(default_factory=dict)
    xattrs: Mapping[str, bytes | None] = field(default_factory=dict)


class Conflict(NamedTuple):
    """A path that is not taken back, and the reason. of: time_ns of the record."""

    path: bytes
    why: str
    of: int


@dataclass(slots=True)
class Plan:
    """All steps in their order, what is left, and the directories' old mtimes (path, ns), which come last."""

    steps: list[Step] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    dates: list[tuple[bytes, int]] = field(default_factory=list)


@dataclass(slots=True)
class Undone:
    """The work of undo since a time. changes: time_ns of the records that it has taken back. begun: of those
    that it may have taken back in part. unfinished: files to which it has begun to give their bytes back.
    remade: the directories that it has made again. dates: the mtimes (ns) of directories that it had still
    to set when it was killed. last_ns: of its last record."""

    changes: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    unfinished: set[Inode] = field(default_factory=set)
    remade: Remade = field(default_factory=Remade)
    dates: dict[bytes, int] = field(default_factory=dict)
    last_ns: int = 0


class _ConflictError(Exception):
    pass


class Planner:
    """The maker of one plan."""

    def __init__(self, places: Places, since_ns: int, conflicts: Conflicts, undone: Undone) -> None:
        self._places = places
        self._since_ns = since_ns
        self._on_conflict = conflicts
        self._undone = undone
        self._left: dict[Inode, tuple[int | None, int | None]] = {}
        self._ours: set[Inode] = set()
        self._dated: dict[Place, tuple[int, int]] = {}
        self.plan = Plan()

    def make(self, pasts: list[Past]) -> Plan:
        """Return the plan that takes these changes back. pasts: sorted by time."""
        for past in pasts:
            self._note_left(past.record)
        back: Mapping[str, Callable[[Past], None]] = {
            "unlink": self._put_back, "rmdir": self._make_again, "rename": self._move_back,
            "replace": self._put_back_replaced, "exchange": self._exchange, "write": self._bytes_back,
            "attr": self._attributes_back, "xattr": self._xattrs_back, "put": self._take_away,
            "mkdir": self._remove_made, "dated": self._date_back,
        }  # fmt: skip
        for past in reversed(pasts):
            record = past.record
            if record.op not in back:
                continue
            if record.time_ns in self._undone.changes:
                self._pass_over(record)
                continue
            try:
                back[record.op](past)
            except _ConflictError as error:
                self._conflict(record, str(error))
        for path, mtime_ns in self._undone.dates.items():
            if (place := self._places.find(path)) is not None:
                self._dated[place] = mtime_ns, self._undone.last_ns
        for place, (mtime_ns, last_ns) in self._dated.items():
            if place.attrs.mtime_ns < last_ns + _SECOND_NS:  # else somebody has changed the directory since
                self.plan.dates.append((place.path, mtime_ns))
        return self.plan

    def _conflict(self, record: Record, why: str) -> None:
        self.plan.conflicts.append(Conflict(record.new or record.path, why, record.time_ns))

    def _pass_over(self, record: Record) -> None:
        """Note size and mtime that a file has since a killed undo took this change of it back."""
        if record.before is not None and record.op in {"write", "attr"}:
            self._left[record.before.inode] = record.before.size, record.before.mtime_ns

    def _note_left(self, record: Record) -> None:
        """Note size and mtime with which the app has left a file. (None, None): it may still write it."""
        if record.before is None:
            return
        inode = record.before.inode
        size, mtime_ns = self._left.get(inode, (record.before.size, record.before.mtime_ns))
        if record.op == "write":
            self._left[inode] = (None, None)
        elif record.op == "end":
            self._left[inode] = (record.before.size, record.before.mtime_ns)
        elif record.op == "attr" and inode in self._left:
            self._left[inode] = (size, record.asked.get("mtime_ns", mtime_ns))

    # -- names --------------------------------------------------------------------------------------

    def _put_back(self, past: Past) -> None:
        record, before = past.record, _before(past)
        there = self._places.find(record.path)
        if there is not None and there.inode == before.inode:
            return  # the change was not made
        self._date(past, record.path, 0)
        if past.kept is None and record.why:
            self._put_gone(before, record.path)
            if record.why == OWN:
                return
            raise _ConflictError(f"it was not kept: {record.why}")
        self._put(past, record.path)

    def _put(self, past: Past, path: bytes) -> None:
        """Plan that a kept object gets a name back."""
        before = _before(past)
        if past.kept is None:
            raise _ConflictError("what was kept of it is gone")
        beside = not self._clear(past, path)
        self.plan.steps.append(
            Step(Action.PUT, path, before.inode, past.record, past.app, kept=past.kept, beside=beside)
        )
        if not beside:
            # The record has the attributes that the object had; the kept one may have been written since.
            place = Place(before._replace(size=past.size, mtime_ns=past.mtime_ns))
            self._places.put(place, path)

    def _clear(self, past: Past, path: bytes) -> bool:
        """Plan that a path becomes free. Return False if the object goes beside the one there. Raise
        _ConflictError if the one there is somebody else's."""
        if self._places.above(path) is None:
            raise _ConflictError("its directory is gone")
        there = self._places.find(path)
        if there is None:
            return True
        is_own = there.owner == past.app and there.attrs.btime_ns >= self._since_ns
        if is_own or self._on_conflict is Conflicts.REPLACE:
            self._aside(past, there)
            return True
        if self._on_conflict is Conflicts.BESIDE:
            return False
        raise _ConflictError("another object has its name by now")

    def _aside(self, past: Past, there: Place) -> None:
        if there.attrs.ftype == FileType.DIRECTORY.value:
            raise _ConflictError("a directory has its name by now")
        self.plan.steps.append(Step(Action.ASIDE, there.path, there.inode, past.record, past.app))
        self._places.take(there)

    def _make_again(self, past: Past) -> None:
        record, before = past.record, _before(past)
        there = self._places.find(record.path)
        if there is not None and there.attrs.ftype == FileType.DIRECTORY.value:
            return  # it was not removed, or somebody has made it again
        self._date(past, record.path, 0)
        if not self._clear(past, record.path):
            raise _ConflictError("another object has its name by now")
        self._make_directory(past, record.path)
        self._date_made(record.path, before)

    def _make_directory(self, past: Past, path: bytes) -> None:
        before = _before(past)
        self.plan.steps.append(
            Step(
                Action.MAKE, path, before.inode, past.record, past.app,
                attrs=_attrs_of(before), xattrs=past.record.xattrs,
            )
        )  # fmt: skip
        self._places.put(Place(before), path)

    def _date_made(self, path: bytes, before: State) -> None:
        place = self._places.find(path)
        if place is not None:
            self._dated[place] = (before.mtime_ns, 1 << 63)

    def _move_back(self, past: Past) -> None:
        record = past.record
        if self._is_not_made(record):
            return
        self._date(past, record.path, 0)
        self._date(past, record.new, 1)
        gone = self._places.gone(record.new)
        if gone is not None and gone.inode == record.moved:
            self._move_gone(gone, record.path)
            return
        moved = self._moved(record)
        if not self._clear(past, record.path):
            raise _ConflictError("another object has its old name by now")
        self._move(past, moved, record.path)

    def _moved(self, record: Record) -> Place:
        moved = self._places.find(record.new)
        if moved is None or moved.inode != record.moved:
            raise _ConflictError("what the app has moved here is not here any more")
        return moved

    def _move(self, past: Past, place: Place, path: bytes) -> None:
        self.plan.steps.append(
            Step(Action.MOVE, place.path, place.inode, past.record, past.app, new=path)
        )
        self._places.put(place, path)

    def _move_gone(self, gone: Place, path: bytes) -> None:
        if self._places.find(path) is None and self._places.above(path) is not None:
            self._places.put(gone, path)

    def _is_not_made(self, record: Record) -> bool:
        there = self._places.find(record.path)
        return there is not None and there.inode == record.moved

    def _put_back_replaced(self, past: Past) -> None:
        record, before = past.record, _before(past)
        there = self._places.find(record.new)
        if there is not None and there.inode == before.inode:
            return  # the change was not made
        self._date(past, record.path, 0)
        self._date(past, record.new, 1)
        gone = self._places.gone(record.new)
        if gone is not None and gone.inode == record.moved:
            if not record.own:
                self._move_gone(gone, record.path)
            self._places.take(gone)
        elif there is None or there.inode != record.moved:
            is_begun = there is None and record.time_ns in self._undone.begun
            if self._on_conflict is Conflicts.LEAVE and not is_begun:
                raise _ConflictError("what the app has put here is not here any more")
        elif record.own and (there.owner == past.app or self._on_conflict is Conflicts.REPLACE):
            self._aside(past, there)
            self._put_gone(there.attrs, record.path)
        elif record.own:
            if self._on_conflict is Conflicts.LEAVE:
                raise _ConflictError("others have changed what the app has put here")
        else:
            if not self._clear(past, record.path):
                raise _ConflictError("another object has its old name by now")
            self._move(past, there, record.path)
        if before.ftype == FileType.DIRECTORY.value:
            self._make_directory(past, record.new)
        elif past.kept is not None or not record.why:
            self._put(past, record.new)
        elif record.why == OWN:
            self._put_gone(before, record.new)
        else:
            raise _ConflictError(f"it was not kept: {record.why}")

    def _put_gone(self, state: State, path: bytes) -> None:
        """Plan that an object that is no more was at a path: an earlier change may have brought it there."""
        if self._places.find(path) is None and self._places.above(path) is not None:
            gone = Place(state)
            self._places.put(gone, path)
            gone.is_gone = True

    def _exchange(self, past: Past) -> None:
        record = past.record
        if self._is_not_made(record):
            return
        old, new = self._there_or_gone(record.path), self._there_or_gone(record.new)
        if old is None or new is None or (old.inode, new.inode) != (_before(past).inode, record.moved):
            raise _ConflictError("what the app has exchanged is not here any more")
        self._date(past, record.path, 0)
        self._date(past, record.new, 1)
        if old.is_gone or new.is_gone:
            for place in (old, new):
                if place.is_gone:
                    self._places.take(place)
            for place, path in ((old, record.new), (new, record.path)):
                if not place.is_gone:
                    self._move(past, place, path)
            for place, path in ((old, record.new), (new, record.path)):
                if place.is_gone:
                    self._places.put(place, path)
            return
        self.plan.steps.append(
            Step(Action.EXCHANGE, record.new, new.inode, record, past.app, new=record.path)
        )
        self._places.take(old)
        self._places.put(new, record.path)
        self._places.put(old, record.new)

    def _there_or_gone(self, path: bytes) -> Place | None:
        return self._places.find(path) or self._places.gone(path)

    def _take_away(self, past: Past) -> None:
        there = self._places.find(past.record.path)
        if there is None:
            return  # an undo was killed before it came back
        if there.inode != past.record.moved:
            raise _ConflictError("what came back is not here any more")
        self._date(past, past.record.path, 0)
        self._aside(past, there)

    def _remove_made(self, past: Past) -> None:
        if self._places.find(past.record.path) is None:
            return  # an undo was killed before it made it
        there = self._file(past)
        self._date(past, past.record.path, 0)
        self.plan.steps.append(Step(Action.ASIDE, there.path, there.inode, past.record, past.app))
        self._places.take(there)

    # -- bytes and attributes -------------------------------------------------------------------------

    def _bytes_back(self, past: Past) -> None:
        record, before = past.record, _before(past)
        if past.kept is None and record.why:
            raise _ConflictError(f"its bytes were not kept: {record.why}")
        there = self._file(past)
        if past.kept is None:
            if record.kept and (there.attrs.size, there.attrs.mtime_ns) != (before.size, before.mtime_ns):
                raise _ConflictError("what was kept of it is gone")
            return  # the open had not begun to write
        is_before = (there.attrs.size, there.attrs.mtime_ns) == (before.size, before.mtime_ns)
        if is_before and record.time_ns in self._undone.begun and there.inode not in self._undone.unfinished:
            self._pass_over(record)
            return
        if not self._is_as_left(there):
            if self._on_conflict is Conflicts.LEAVE:
                raise _ConflictError("others have changed it since, or the app has it open")
            if self._on_conflict is Conflicts.BESIDE:
                step = Step(
                    Action.BYTES, there.path, there.inode, record, past.app, kept=past.kept, beside=True
                )
                self.plan.steps.append(step)
                return
        attrs = {"atime_ns": before.atime_ns, "mtime_ns": before.mtime_ns}
        if before.mode & _SUID_SGID and there.attrs.mode & _MODE == before.mode & _MODE & ~_SUID_SGID:
            attrs["mode"] = before.mode & _MODE
        self.plan.steps.append(
            Step(
                Action.BYTES, there.path, there.inode, record, past.app,
                kept=past.kept, attrs=attrs, xattrs=record.xattrs,
            )
        )  # fmt: skip
        there.attrs = there.attrs._replace(
            size=before.size, atime_ns=before.atime_ns, mtime_ns=before.mtime_ns
        )

    def _file(self, past: Past) -> Place:
        there = self._places.find(past.record.path)
        if there is None or there.inode != _before(past).inode:
            raise _ConflictError("it is not here any more")
        return there

    def _is_as_left(self, there: Place) -> bool:
        """Return True if a file has the size and mtime with which the app has left it. Asked before the first
        step that changes it."""
        if there.inode in self._ours or there.inode in self._undone.unfinished:
            return True
        size, mtime_ns = self._left.get(there.inode, (there.attrs.size, there.attrs.mtime_ns))
        if size != there.attrs.size or mtime_ns is None or not _same_time(mtime_ns, there.attrs.mtime_ns):
            return False
        self._ours.add(there.inode)
        return True

    def _attributes_back(self, past: Past) -> None:
        record, before, there = past.record, _before(past), self._file(past)
        present = {"mode": there.attrs.mode & _MODE, "uid": there.attrs.uid, "gid": there.attrs.gid}
        old = {"mode": before.mode & _MODE, "uid": before.uid, "gid": before.gid}
        attrs = {}
        for name, value in record.asked.items():
            if name in present and value != old[name]:
                if present[name] == (value & _MODE if name == "mode" else value):
                    attrs[name] = old[name]
                elif present[name] != old[name]:
                    self._conflict(record, f"others have changed its {name} since")
        if {"uid", "gid"} & attrs.keys() and "mode" not in attrs:  # a chown clears suid and sgid
            attrs["mode"] = before.mode & _MODE
        if "mtime_ns" in record.asked and _same_time(record.asked["mtime_ns"], there.attrs.mtime_ns):
            self._is_as_left(there)
            if before.ftype != FileType.DIRECTORY.value:
                attrs["mtime_ns"] = before.mtime_ns
        if "mtime_ns" in record.asked and before.ftype == FileType.DIRECTORY.value:
            self._dated[there] = before.mtime_ns, self._dated.get(there, (0, record.time_ns))[1]
        if "atime_ns" in record.asked:
            attrs["atime_ns"] = before.atime_ns
        if attrs:
            now = there.attrs
            there.attrs = now._replace(
                mode=now.mode & ~_MODE | attrs.get("mode", now.mode & _MODE), uid=attrs.get("uid", now.uid),
                gid=attrs.get("gid", now.gid), atime_ns=attrs.get("atime_ns", now.atime_ns),
                mtime_ns=attrs.get("mtime_ns", now.mtime_ns),
            )  # fmt: skip
            self.plan.steps.append(
                Step(Action.ATTRS, there.path, there.inode, record, past.app, attrs=attrs)
            )

    def _xattrs_back(self, past: Past) -> None:
        there, record = self._file(past), past.record
        if self._on_conflict is Conflicts.REPLACE:
            record = replace(record, set={})
        self.plan.steps.append(
            Step(Action.ATTRS, there.path, there.inode, record, past.app, xattrs=record.xattrs)
        )

    def _date_back(self, past: Past) -> None:
        there = self._places.find(past.record.path)
        if there is not None and there.inode == _before(past).inode:
            last_ns = self._dated.get(there, (0, past.record.time_ns))[1]
            self._dated[there] = (_before(past).mtime_ns, last_ns)

    def _date(self, past: Past, path: bytes, side: int) -> None:
        """Note a directory's mtime before the change of a name in it."""
        above = self._places.above(path)
        if above is not None and side < len(past.record.above):
            last_ns = self._dated.get(above, (0, past.record.time_ns))[1]
            self._dated[above] = (past.record.above[side], last_ns)


def _before(past: Past) -> State:
    if past.record.before is None:
        raise _ConflictError("its record is damaged")
    return past.record.before


def _attrs_of(state: State) -> dict[str, int]:
    return {
        "mode": state.mode & _MODE, "uid": state.uid, "gid": state.gid,
        "atime_ns": state.atime_ns, "mtime_ns": state.mtime_ns,
    }  # fmt: skip


def _same_time(one_ns: int, other_ns: int) -> bool:
    """Return True for equal times, also if the file system keeps whole seconds."""
    whole = other_ns % _SECOND_NS == 0
    return one_ns == other_ns or (whole and one_ns // _SECOND_NS == other_ns // _SECOND_NS)
