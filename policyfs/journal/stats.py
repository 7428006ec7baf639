"""The state of a journal, as `status` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from policyfs.journal.sealer import Sealer
    from policyfs.journal.writer import ChainWriter


class JournalStats(NamedTuple):
    """The state of a journal: counts since it was opened, sizes in bytes.

    written: records in the file, including the journal's own. dropped: best-effort events that will never be
    recorded. refused: required events that failed. folded: repeated denials that were counted. seq, head:
    number and digest of the last line. (A copy of these two elsewhere reveals if somebody shortens or reseals
    the trail.) failing: True if the last write failed. bugs: queued events that could not be formatted as
    lines; they also count as dropped. sealed: the segment that this daemon sealed last. seal_error: the
    reason if the last sealing failed; it is tried again.
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


def stats_of(
    writer: ChainWriter, sealer: Sealer | None, first_seq: int, *,
    dropped: int, refused: int, folded: int, queued: int, failing: bool, bugs: int, last_error: str,
) -> JournalStats:  # fmt: skip
    """Return the state of a journal. Does not wait for its writer. first_seq: the seq when it was opened."""
    seq, head = writer.position
    return JournalStats(
        written=seq - first_seq, dropped=dropped, refused=refused, folded=folded, queued=queued,
        segment=writer.segment, bytes=writer.segment_size, seq=seq, head=head,
        failing=failing, bugs=bugs, last_error=last_error,
        sealed=sealer.sealed if sealer else "", seal_error=sealer.error if sealer else "",
    )  # fmt: skip
