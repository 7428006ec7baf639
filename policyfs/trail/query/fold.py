"""Counts of events of one app, which get one line of the trail together: they are *folded* (pure).

A denial that equals one recorded a short time ago (a second) is counted as a repeat. If an app has exceeded
its limit of trail bytes, its events are counted together: by directory; if there are too many, by operation;
then by the rules that decided; and finally by app. So an app cannot hide the rule that guards a path behind
thousands of other denials. Counts are exact. Each app has its own counts and limits. The journal passes on no
access that was allowed and must be on record: it always gets its own line.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.trail.lines.bounds import memory_bytes
from policyfs.trail.lines.event import BY_APP, BY_DIRECTORY, BY_OPERATION, BY_RULE, DENY, STRANGER, Event

RUNS: Final = 128
DIRECTORIES: Final = 48
OPERATIONS: Final = 32
RULES: Final = 64
UIDS: Final = 16
"""Limits of the counts of one app at one time: denials with repeats, and directories, operations, sets of
rules and uids by which events are counted together. With the longest names, they take at most 0.8 MB in the
trail in each window (a second)."""

FOLD_BYTES: Final = 256 * 1024
"""The limit of the memory for the counts of one app, in bytes."""
RULE_BYTES: Final = 64 * 1024
"""Further memory for counts by rules: an app that has filled the memory above must not hide a rule."""

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Run:
    """Several events for which the trail gets one line. first: the event of this line, without counts."""

    first: Event
    last_ns: int
    repeats: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def count(self, event: Event) -> None:
        self.repeats += event.weight
        self.last_ns = event.time_ns
        self.bytes_read += event.bytes_read or 0
        self.bytes_written += event.bytes_written or 0

    def told(self) -> Event:
        return self.first._replace(
            time_ns=self.last_ns,
            since_ns=self.first.time_ns,
            repeats=self.repeats,
            bytes_read=self.bytes_read or None,
            bytes_written=self.bytes_written or None,
        )


_key: Final[Callable[[Event], _Key]] = operator.attrgetter(
    "path", "path_cut", "pid", "operation", "uid", "syscall", "errno", "app", "gid", "rules", "new_path",
    "new_path_cut", "policy_digest", "kind", "note",
)  # fmt: skip
"""The fields that an event shares with its repeats."""


def _directory(event: Event) -> bytes:
    """Return the directory of an event's path, or the recorded beginning of a path that was too long."""
    if event.path_cut is not None:
        return event.path[: event.path_cut.head]
    return event.path[: event.path.rfind(b"/")] or b"/"


def _groups_of(event: Event) -> Iterator[tuple[_Key, str, int]]:
    """Yield the groups with which an event may be counted: key, value of Event.folded, limit of groups."""
    who = (event.decision, event.uid, event.gid, event.policy_digest)
    same = (event.operation, event.errno, event.rules, event.would_deny, *who)
    yield (_directory(event), *same), BY_DIRECTORY, DIRECTORIES
    yield same, BY_OPERATION, OPERATIONS
    if event.rules or event.would_deny:
        # All uids of an app together: else many uids of one app use up the counts. A stranger has one uid.
        rules = (BY_RULE, event.rules, event.would_deny, event.decision, event.policy_digest)
        yield (*rules, event.uid, event.gid) if event.app == STRANGER else rules, BY_RULE, RULES
    yield who, BY_APP, UIDS


def _together(event: Event, folded: str) -> Event:
    """Return a copy of an event that keeps only the fields that all events of its group share."""
    first = event._replace(
        path=_directory(event) if folded == BY_DIRECTORY else b"/",
        folded=folded, pid=0, exe="", syscall="", new_path=None, kind=None, io="", view="", redacted=(),
        redacted_ranges=0, redacted_bytes=0, handle=None, bytes_read=None, bytes_written=None,
        size_before=None, size_after=None, mtime_before_ns=None, mtime_after_ns=None, would_allow=(),
        note="", path_cut=None, new_path_cut=None,
    )  # fmt: skip
    if folded == BY_RULE and event.app == STRANGER:
        return first._replace(operation="", errno=0)
    if folded == BY_RULE:
        return first._replace(operation="", errno=0, uid=-1, gid=-1)
    if folded == BY_APP:
        return first._replace(operation="", errno=0, rules=(), would_deny=(), rules_left_out=0)
    return first


def _of_anybody(event: Event) -> Event:
    """Return a copy of an event that stands for events of any uid. Used if an app has too many uids."""
    return _together(event, BY_APP)._replace(uid=-1, gid=-1)


class AppFold:
    """The counts of one app's events that get no line of their own. Not thread-safe. window_ns: for this time
    after a denial was recorded, its repeats are only counted (0: each is recorded). Then, as for events
    beyond a limit, each count gets a line."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._runs: dict[_Key, _Run] = {}
        self._groups: dict[_Key, _Run] = {}
        self._counts: dict[str, int] = {}
        self._done: list[Event] = []
        self.bytes = 0
        """An upper bound of the memory of the counts, in bytes."""

    def __len__(self) -> int:
        return len(self._runs) + len(self._groups) + len(self._done)

    def absorb(self, event: Event) -> bool:
        """Count the event if it repeats a recorded denial. Return True if it was counted."""
        if event.decision != DENY:
            return False
        run = self._runs.get(_key(event))
        if run is None:
            return False
        if not self._stands(run, event.time_ns):
            del self._runs[_key(event)]
            self._finish(run)
            return False
        run.count(event)
        return True

    def recorded(self, event: Event) -> None:
        """Note that a denial was recorded. If there is room, absorb() counts its repeats from now on."""
        size = memory_bytes(event)
        if (
            event.decision == DENY
            and self._window_ns
            and len(self._runs) < RUNS
            and self.bytes + size <= FOLD_BYTES
            and _key(event) not in self._runs
        ):
            self._runs[_key(event)] = _Run(event, event.time_ns)
            self.bytes += size

    def count(self, event: Event, *, by_directory: bool = True) -> Event | None:
        """Count an event together with others (see the module). Return the event for the line of a new count.
        by_directory: False to begin none for a new directory."""
        for key, folded, limit in _groups_of(event):
            group, new = self._groups.get(key), None
            if group is None and (by_directory or folded != BY_DIRECTORY):
                new = group = self._new_group(event, key, folded, limit)
            if group is not None:
                group.count(event)
                return new.first if new is not None else None
        rest = self._groups.setdefault((event.decision,), _Run(_of_anybody(event), event.time_ns))
        rest.count(event)
        return None

    def _new_group(self, event: Event, key: _Key, folded: str, limit: int) -> _Run | None:
        if self._counts.get(folded, 0) >= limit:
            return None
        first = _together(event, folded)
        size = memory_bytes(first)
        if self.bytes + size > FOLD_BYTES + (RULE_BYTES if folded == BY_RULE else 0):
            return None
        self._counts[folded] = self._counts.get(folded, 0) + 1
        self.bytes += size
        group = self._groups[key] = _Run(first, event.time_ns)
        return group

    def collect(self, now_ns: int, *, all_of_them: bool = False) -> list[Event]:
        """Remove the counts that began at least window_ns ago (or all), and return each as one event."""
        for key in [key for key, run in self._runs.items() if all_of_them or not self._stands(run, now_ns)]:
            self._finish(self._runs.pop(key))
        for key in [key for key, run in self._groups.items() if all_of_them or not self._stands(run, now_ns)]:
            group = self._groups.pop(key)
            if len(key) > 1:
                self._counts[group.first.folded] -= 1
                self.bytes -= memory_bytes(group.first)
            self._done.append(group.told())
        done, self._done = self._done, []
        return done

    def _stands(self, run: _Run, now_ns: int) -> bool:
        return 0 <= now_ns - run.first.time_ns < max(self._window_ns, 1)

    def _finish(self, run: _Run) -> None:
        self.bytes -= memory_bytes(run.first)
        if run.repeats:
            self._done.append(run.told())
