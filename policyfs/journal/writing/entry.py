"""Entries: lines of events for the trail, complete except for number and digest, which the writer adds."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.chain.chain import TAIL_BYTES
from policyfs.trail.lines.event import Event, Holder, holder_of
from policyfs.trail.lines.line import LineFormatter, numbered

_LINE: Final = len(numbered(b"", (1 << 63) - 1)) + TAIL_BYTES + 1
_MEMORY: Final = 512
"""An upper bound of an entry's memory without its text, in bytes: twice the result of sys.getsizeof."""


class Entry(NamedTuple):
    """The line of an event. text: JSON without number and digest. weight: the number of requests that it
    stands for. time_ns: since 1970. holder: the app's name, or the uid of a stranger."""

    text: bytes
    weight: int
    time_ns: int
    holder: Holder
    policy_digest: str

    @property
    def line_bytes(self) -> int:
        """Return an upper bound of the finished line's length in bytes, with number and digest."""
        return _LINE + len(self.text)

    @property
    def memory_bytes(self) -> int:
        """Return an upper bound of the entry's memory in bytes."""
        return _MEMORY + len(self.text)


def entry_of(event: Event, formatter: LineFormatter) -> Entry | Event:
    """Return the entry of an event (a result of bounds.bounded()), or the event itself if its line cannot be
    made. Then the writer formats it again, and reports the exception."""
    try:
        text = formatter.unnumbered(event)
    except Exception:  # noqa: BLE001 - a bug of the caller, reported with the loss of the event
        return event
    return Entry(text, event.repeats or 1, event.time_ns, holder_of(event), event.policy_digest)
