"""The state of a journal, as `status` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from policyfs.journal.sealing.sealer import Sealer
    from policyfs.journal.writing.writer import ChainWriter


class JournalStats(NamedTuple):
    """The state of a journal: numbers since it was opened, and sizes in bytes.

    written: records in the file, including the journal's own records. dropped: best-effort events that will
    never be recorded. refused: required events that could not be recorded. folded: events that were only
    counted, such as repeated denials. queued: events that wait for the writer. segment, bytes: name and size
    of the file of the trail (segment) that is being written. seq, head: number and digest of the last line.
    (A copy of number and digest in another place reveals if somebody shortens or replaces the end of the
    trail.) failing: True if the last write failed. bugs: failed attempts to format queued events as lines;
    these events count as dropped, too. sealed: the segment that this daemon sealed (signed) last. seal_error:
    the reason if the last seal could not be written; the daemon tries again. kept_back: the reason why files
    beyond the limits of the trail are not removed, or empty. last_end: a sentence if the previous daemon has
    left no record of its end, else empty.
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


def stats_of(
    writer: ChainWriter, sealer: Sealer | None, first_seq: int, *,
    dropped: int, refused: int, folded: int, queued: int, failing: bool, bugs: int, last_error: str,
) -> JournalStats:  # fmt: skip
    """Return the state of a journal without waiting for its writer.

    first_seq: the number of the last line when the journal was opened. The other numbers: see JournalStats.
    """
    seq, head = writer.position
    return JournalStats(
        written=seq - first_seq, dropped=dropped, refused=refused, folded=folded, queued=queued,
        segment=writer.segment, bytes=writer.segment_size, seq=seq, head=head,
        failing=failing, bugs=bugs, last_error=last_error,
        sealed=sealer.sealed if sealer else "", seal_error=sealer.error if sealer else "",
        kept_back=writer.kept_back, last_end=writer.last_end,
    )  # fmt: skip
