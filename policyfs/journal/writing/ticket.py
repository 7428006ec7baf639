"""Tickets: required events that wait until they are written to the trail, each with the result."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.journal.files.segments import TrailDirectory
from policyfs.journal.writing.entry import Entry
from policyfs.trail.lines.bounds import memory_bytes
from policyfs.trail.lines.event import Event

SLICE: Final = 100
SLICE_BYTES: Final = 128 * 1024
"""The limits of one write to the trail: events, and their memory in bytes, besides AHEAD queued ones for
required events. It takes the interpreter lock for about a millisecond."""

AHEAD: Final = 20
"""The queued best-effort events that are written before a required one. If no more wait, all lines are in
order."""


class JournalError(PolicyfsError):
    """Error for a required event that could not be recorded, or a trail that could not be opened."""


class Ticket:
    """A required event, which must be written before its request goes on. wait_s: the seconds that its app
    must wait first, beyond its limit of trail bytes. item: the line for the writer. error: None once it is in
    the trail, else the reason."""

    __slots__ = ("error", "event", "item", "wait_s")

    def __init__(self, event: Event, wait_s: float, item: Event | Entry | None = None) -> None:
        self.event = event
        self.wait_s = wait_s
        self.item = item or event
        self.error: Exception | None = JournalError("not recorded yet")

    def check(self) -> None:
        """Raise an exception if the event is not in the trail: JournalError, or the exception of a bug."""
        if self.error is not None:
            raise self.error


def in_groups(tickets: Sequence[Ticket]) -> Iterator[list[Ticket]]:
    """Yield the tickets in groups that are small enough for one write (SLICE, SLICE_BYTES)."""
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
    """Open and lock the trail directory at *path*, or create it if it is missing. Raises JournalError."""
    try:
        return TrailDirectory(path)
    except OSError as exc:
        raise cannot_record(path, exc) from exc


def cannot_record(directory: str, exc: OSError) -> JournalError:
    """Return an error that says why nothing can be recorded in a trail directory, with advice."""
    return JournalError(f"cannot record in the trail at {directory}: {reason_of(directory, exc)}")


def reason_of(directory: str, exc: OSError) -> str:
    """Return a text with the reason why a trail directory cannot be written, and with advice."""
    help_text = {
        errno.EWOULDBLOCK: "another policyfs daemon records there: is the mount already running?",
        errno.EPERM: "other users may write in this directory or in the trail root: chown both to root, and"
        " chmod 0700 both",
        errno.ENOSPC: "make room on the file system of the trail",
        errno.EDQUOT: "raise the quota on the file system of the trail",
        errno.EROFS: "the file system is read-only: remount it, or choose another directory with --trail",
        errno.ENOENT: "the directory is gone: mount its file system again, or make the directory with"
        f" `mkdir -p -m 700 {directory}`; recording then goes on",
        errno.EACCES: "policyfs may not write there: run as root, or choose another directory with --trail",
    }.get(exc.errno or 0, "see the daemon's log")
    return f"{exc.strerror or exc} ({help_text})"
