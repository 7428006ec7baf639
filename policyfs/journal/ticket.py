"""Tickets: required events that wait for their commit, each with its result."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.journal.entry import Entry
from policyfs.journal.segments import TrailDirectory
from policyfs.trail.bounds import memory_bytes
from policyfs.trail.event import Event

SLICE: Final = 100
SLICE_BYTES: Final = 128 * 1024
"""SLICE, SLICE_BYTES: the limits of events, and of their memory, in one write.

A write of this size takes the interpreter lock for about a millisecond."""

AHEAD: Final = 20
"""The limit of queued events that are written before a required one.

If no more events are queued, all events are in order."""


class JournalError(PolicyfsError):
    """Error for a required event that could not be recorded, or a trail that could not be opened."""


class Ticket:
    """A required event that must be committed.

    wait_s: the seconds that the app must wait first, because it is beyond its budget. item: the event in the
    form for the writer. error: None once the event is on record, else the reason why it is not on record.
    """

    __slots__ = ("error", "event", "item", "wait_s")

    def __init__(self, event: Event, wait_s: float, item: Event | Entry | None = None) -> None:
        self.event = event
        self.wait_s = wait_s
        self.item = item or event
        self.error: Exception | None = JournalError("not recorded yet")

    def check(self) -> None:
        """Raise the reason if the event is not on record: JournalError, or the exception of a bug."""
        if self.error is not None:
            raise self.error


def in_groups(tickets: Sequence[Ticket]) -> Iterator[list[Ticket]]:
    """Yield the tickets in groups of the right size for one write."""
    group: list[Ticket] = []
    size = 0
    for ticket in tickets:
        group.append(ticket)
        size += memory_bytes(ticket.event)
        if len(group) == SLICE or size >= SLICE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def open_directory(path: str) -> TrailDirectory:
    """Open the trail's directory, or create it if it is missing. Raises JournalError."""
    try:
        return TrailDirectory(path)
    except OSError as exc:
        raise cannot_record(path, exc) from exc


def cannot_record(directory: str, exc: OSError) -> JournalError:
    """Return an error with the reason of *exc* and advice."""
    return JournalError(f"cannot record in the trail at {directory}: {reason_of(directory, exc)}")


def reason_of(directory: str, exc: OSError) -> str:
    """Return the reason why a trail directory cannot be written, with advice."""
    help_text = {
        errno.EWOULDBLOCK: "another policyfs records there: is the mount already running?",
        errno.EPERM: "users other than root may write in it: chown root and chmod 0700",
        errno.ENOSPC: "make room on its file system",
        errno.EDQUOT: "raise the quota of its file system",
        errno.EROFS: "its file system is read-only: remount it, or choose another directory with --trail",
        errno.ENOENT: "the directory is gone: mount its file system again, or put it back with"
        f" `mkdir -p -m 700 {directory}`, and recording goes on",
        errno.EACCES: "policyfs may not write there: run as root, or choose another directory with --trail",
    }.get(exc.errno or 0, "see the daemon's log")
    return f"{exc.strerror or exc} ({help_text})"
