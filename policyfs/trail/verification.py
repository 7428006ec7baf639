"""The result of a verification: breaks and notes, each with its place in the trail."""

from __future__ import annotations

from typing import NamedTuple

from policyfs.trail.record import Place, Record


class Break(NamedTuple):
    """One damaged place of the trail, or a note. place.line: 0 stands for the whole segment.

    what: a sentence. kind: one of damage.KINDS, or empty for a note.
    """

    place: Place
    what: str
    kind: str = ""


class Report(NamedTuple):
    """The result of a verification.

    breaks: the first hundred breaks, in order. notes: defects that the journal itself recorded, and other
    facts that the administrator should check. seq, head: number and digest of the last line. missing:
    policies in records without a text beside the trail; the chain may still be whole. proven: the number of
    the last line before the first break. signed: the number of the last line that seals prove.
    """

    mount_id: str
    segments: int
    records: int
    seq: int
    head: str
    breaks: tuple[Break, ...]
    notes: tuple[Break, ...]
    missing: tuple[Break, ...] = ()
    proven: int = 0
    signed: int = 0

    @property
    def whole(self) -> bool:
        """True if every line is as it was written, and no line is missing between others."""
        return not self.breaks


def describe_trouble(record: Record) -> str:
    """Return a sentence for people about a gap, damage or recovered record."""
    fields = record.fields
    if record.kind == "recovered":
        return (
            f"after a crash, {fields.get('bytes')} bytes of a cut line were found "
            f"at the end of {fields.get('segment')}"
        )
    if record.kind == "damage":
        return f"segment {fields.get('segment')} was changed from outside: found {fields.get('found')}"
    if "unsure_after" in fields:
        return (
            f"lines after seq {fields['unsure_after']} may not have reached the disk ({fields.get('reason')})"
        )
    return (
        f"{fields.get('dropped')} events dropped, {fields.get('refused')} requests refused between "
        f"{fields.get('first')} and {fields.get('last')} ({fields.get('reason')})"
    )
