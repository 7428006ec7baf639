"""The state of a journal, as `status` shows it."""

from __future__ import annotations

from typing import NamedTuple


class JournalStats(NamedTuple):
    """The state of a journal: numbers since it was opened, and sizes in bytes.

    written: records, also the journal's own. dropped: best-effort events that will never be recorded.
    refused: required events that could not be. folded: events that were only counted. queued: those that
    wait. segment, bytes: name and size of the growing file. seq, head: number and digest of the last line. (A
    copy of them reveals a cut or replaced end.) failing: the last write failed. bugs: attempts to format
    events that failed (these are dropped, too). sealed: the segment that was sealed last. seal_error: why the
    last seal could not be written. kept_back: why files beyond the limits are not removed. last_end: a
    sentence if the previous daemon has left no record of its end. Else empty.
    """

    written: int
    dropped: int
    refused: int
    folded: int
    queued: int
    segment: str
    bytes: int
    seq: int
    head: str
    failing: bool
    bugs: int
    last_error: str
    sealed: str = ""
    seal_error: str = ""
    kept_back: str = ""
    last_end: str = ""
