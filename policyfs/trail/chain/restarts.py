"""Starts and ends of the daemons that recorded in one hash chain (pure). Two starts without an end between
them show that a daemon crashed or was killed."""

from __future__ import annotations

from typing import Final

from policyfs.trail.lines.record import Record

KILLED: Final = "the previous daemon crashed or was killed"
RESTARTED: Final = "the previous daemon did not end in order, and the machine was restarted after that"
UNENDED: Final = (
    "the last daemon crashed or was killed: the trail has no record of its end, and no daemon records here"
    " now. Mount again if the mount is still needed"
)
NOT_CLOSED: Final = (
    "the previous daemon did not end in order: it crashed or was killed, or the machine stopped. Best-effort"
    " events of its last moments may be missing; `policyfs audit verify` checks the rest of the trail"
)
_LOST: Final = "best-effort events of the last moments of that daemon may be missing"


STARTS: Final = frozenset({"header", "resume", "recovered", "close"})
"""The types of records that show the starts and ends of daemons."""


class Restarts:
    """A search for daemons that crashed or were killed, in all records of starts and ends of one chain, in
    order."""

    def __init__(self) -> None:
        self.alive_ns = 0
        """A time (ns since 1970) before the crash that take() has reported: the daemon still ran then."""
        self._event_ns: int | None = None
        self._latest_ns = 0
        """The time of the last start, or of the last event if it is newer than this start."""
        self._origin: tuple[object, object] = None, None
        """Boot id (from /proc) and pid of the daemon that began last."""
        self._running = False
        """True if a daemon's start is on record, and its end is not."""
        self._header = 0
        """The number of the last header (first line of a file of the trail)."""
        self._before = False
        """True if a daemon had started, and had no recorded end, before the last header."""
        self._named = False
        """True if take() has already reported the crash that happened before the last header."""

    @property
    def unended(self) -> bool:
        """True if the last daemon still records, or ended without a record of its end."""
        return self._running

    def note(self, time_ns: int | None) -> None:
        """Note the time (ns since 1970) of the last event before the next record. None: there is no event."""
        if time_ns is not None and time_ns != self._event_ns:
            self._event_ns = self._latest_ns = time_ns

    def take(self, record: Record) -> str:
        """Return a sentence if this record shows that the previous daemon crashed or was killed; else ""."""
        if record.kind == "close":
            self._running = False
        elif record.kind == "recovered":
            # In a container each daemon may have the same pid. So a header alone does not show the crash.
            return self._crash(self._origin[0]) if self._before else ""
        elif record.kind in {"header", "resume"}:
            origin = record.fields.get("boot_id"), record.fields.get("pid")
            if record.kind == "resume" and record.seq == self._header + 1 and origin == self._origin:
                return self._crash(origin[0]) if self._before else ""  # no start: a new segment was begun
            if record.fields.get("upgrades"):
                self._running = False  # the daemon before has ended itself for this one
            self._named, self._before = False, self._running
            self.alive_ns, self._latest_ns = self._latest_ns, record.time_ns
            rotated = record.kind == "header" and origin == self._origin
            found = self._crash(origin[0]) if self._running and not rotated else ""
            self._header = record.seq if record.kind == "header" else self._header
            self._origin, self._running = origin, True
            return found
        return ""

    def _crash(self, boot: object) -> str:
        if self._named:
            return ""
        self._named = True
        return f"{KILLED if boot == self._origin[0] else RESTARTED}; {_LOST}"
