"""Entries: finished lines of events, without the line's number and digest, which the writer adds."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.chain import TAIL_BYTES
from policyfs.trail.event import Event, Holder, holder_of
from policyfs.trail.line import LineFormatter, numbered

_LINE: Final = len(numbered(b"", (1 << 63) - 1)) + TAIL_BYTES + 1
_MEMORY: Final = 512
"""The bytes of an entry besides its text: twice the result of sys.getsizeof."""


class Entry(NamedTuple):
    """An event that will be written. text: the result of LineFormatter.unnumbered()."""

    text: bytes
    weight: int
    time_ns: int
    holder: Holder
    policy_digest: str

    @property
    def line_bytes(self) -> int:
        """Return an upper bound of the line's length in bytes."""
        return _LINE + len(self.text)

    @property
    def memory_bytes(self) -> int:
        """Return an upper bound of the entry's memory in bytes."""
        return _MEMORY + len(self.text)


def entry_of(event: Event, formatter: LineFormatter) -> Entry | Event:
    """Return the entry of a bounded event, or the event itself if its line cannot be made.

    The writer then formats the event again, and gets the error.
    """
    try:
        text = formatter.unnumbered(event)
    except Exception:  # noqa: BLE001 - a bug of the caller, reported with the loss of the event
        return event
    return Entry(text, event.repeats or 1, event.time_ns, holder_of(event), event.policy_digest)
