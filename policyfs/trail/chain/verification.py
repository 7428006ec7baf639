"""The result of `policyfs audit verify`: damage and notes, each with its place in the trail."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.lines.record import Fields, Place, Record

UNREAD: Final = "it cannot be read"
"""The beginning of the text about a segment that the disk does not return."""


class Break(NamedTuple):
    """A damage of the trail (kind: one of damage.KINDS), or a note. place: of the line; line 0: the file.
    what: a sentence."""

    place: Place
    what: str
    kind: str = ""


class Report(NamedTuple):
    """The result of `policyfs audit verify` for one hash chain.

    segments, records: the counts of files and lines. seq, head: of the last line. breaks: the first hundred
    damages. notes: defects that the journal recorded, and facts to check. missing: policies without a text
    beside the trail. proven: the last line before the first damage. signed: the last line that a seal proves.
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
        """True if no damage was found."""
        return not self.breaks


def is_unread(record: Record) -> bool:
    """Return True if a record says that a segment got no seal, because the disk did not return its bytes."""
    return record.kind == "damage" and str(record.fields.get("found")).startswith(UNREAD)


def describe_trouble(record: Record) -> str:
    """Return a sentence for people about a record of type gap, damage or recovered."""
    fields = record.fields
    if record.kind == "recovered":
        return (
            f"after a crash, {fields.get('bytes')} bytes of a cut line were found "
            f"at the end of {fields.get('segment')}"
        )
    if record.kind == "damage":
        what = "is damaged" if is_unread(record) else "was changed from outside"
        return f"segment {fields.get('segment')} {what}: {fields.get('found')}"
    if "unsure_after" in fields:
        return (
            f"lines after seq {fields['unsure_after']} may not have reached the disk ({fields.get('reason')})"
        )
    return (
        f"{fields.get('dropped')} events dropped, {fields.get('refused')} requests refused between "
        f"{fields.get('first')} and {fields.get('last')} ({fields.get('reason')}){_requests(fields)}"
    )


def _requests(fields: Fields) -> str:
    named = fields.get("requests")
    found = [one for one in named if isinstance(one, dict)] if isinstance(named, list) else []
    names = ("app", "operation", "path", "count")
    texts = [" ".join(str(one.get(name)) for name in names) for one in found]
    return f": refused were {', '.join(texts)}" if texts else ""


def in_order(found: Break) -> tuple[bool, str, int]:
    """Return a key that sorts damages by segment and line. Damages without a segment come last."""
    return not found.place.segment, found.place.segment, found.place.line
