"""Tickets: the results of required events, with the reason if an event could not be recorded."""

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
"""SLICE, SLICE_BYTES: the limits of events, and of their memory, in one write. Formatting and writing them
takes about a millisecond of the interpreter lock."""

AHEAD: Final = 20
"""The limit of queued events that are written before a required one. If no more wait, all events are in
order."""


class JournalError(PolicyfsError):
    """A required event could not be recorded, or the trail could not be opened."""


class Ticket:
    """A required event that must be committed. wait_s: the seconds that its app must wait first, because it
    is beyond its budget.

    item: the event as it will be written. error: None once the event is on record, else the reason why it is
    not.
    """

    __slots__ = ("error", "event", "item", "wait_s")

    def __init__(self, event: Event, wait_s: float, item: Event | Entry | None = None) -> None:
        self.event = event
        self.wait_s = wait_s
        self.item = item or event
        self.error: Exception | None = JournalError("not recorded yet")

    def check(self) -> None:
        """If the event is not on record, raise the reason: JournalError, or the exception of a bug."""
        if self.error is not None:
            raise self.error


def in_groups(tickets: Sequence[Ticket]) -> Iterator[list[Ticket]]:
    """Yield the tickets in groups. Each group is written in one write."""
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
    """Open the trail's directory. If it is missing, create it. Raises JournalError."""
    try:
        return TrailDirectory(path)
    except OSError as exc:
        raise cannot_record(path, exc) from exc


def cannot_record(directory: str, exc: OSError) -> JournalError:
    """Return an error with the reason and advice."""
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
