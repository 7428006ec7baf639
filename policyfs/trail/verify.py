"""Verification that a mount's trail is whole: every line as it was written, none missing or moved (pure).

docs/audit.md tells how far the proof goes: a process that can write the files can also make
a new chain from some line on. A digest kept elsewhere (`expect`) helps against that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from policyfs.trail import chain
from policyfs.trail.record import BadLine, Place, Record, parse_line
from policyfs.trail.summary import TROUBLE

_BREAKS_LIMIT: Final = 100


class Break(NamedTuple):
    """One place at which the chain does not hold. line is 0 for a whole segment."""

    place: Place
    what: str


class Report(NamedTuple):
    """The result of a verification: whole is True if there is no break at all.

    breaks: the first hundred, in order. notes: defects that the journal itself recorded,
    and other things worth a look. seq, head: of the last line. missing: texts of policies that records
    name and that are not kept beside them; the chain may still be whole.
    """

    mount_id: str
    segments: int
    records: int
    seq: int
    head: str
    breaks: tuple[Break, ...]
    notes: tuple[Break, ...]
    missing: tuple[Break, ...] = ()

    @property
    def whole(self) -> bool:
        """True if every line is as it was written and none is missing between them."""
        return not self.breaks


class _Cut(NamedTuple):
    line: int
    offset: int
    size: int
    sha256: str


class Verifier:
    """Reads the segments of one chain in order; `report` returns the result."""

    def __init__(self, mount_id: str, expect: Mapping[int, str] | None = None) -> None:
        """expect: digests (hex) that the lines of these sequence numbers must have."""
        self._mount_id = mount_id
        self._expect = dict(expect or {})
        self._seq = 0
        self._head = chain.GENESIS
        self._number = 0
        self._segments = 0
        self._records = 0
        self._first: tuple[str, int] | None = None
        self._cuts: dict[str, _Cut] = {}
        self._empty: list[str] = []
        self._pruned: set[str] = set()
        self._breaks: list[Break] = []
        self._notes: list[Break] = []
        self.policies: dict[str, Place] = {}
        """Digests of the policies named in records of starts and changes, with the last such record."""

    def segment(self, name: str, number: int, lines: Iterable[bytes]) -> None:
        """Check one segment; each line with its newline, the last perhaps without."""
        self._segments += 1
        if self._first is None:
            self._first = (name, number)
        elif number != self._number + 1:
            gone = f"{self._number + 1} to {number - 1}" if number > self._number + 2 else f"{number - 1}"
            self._break(name, 0, f"segment {gone} is missing before this one")
        self._number = number
        offset = line = 0
        for raw in lines:
            line += 1
            self._line(name, number, line, offset, raw)
            offset += len(raw)
        if not line:
            self._empty.append(name)

    def report(self) -> Report:
        """Return the result, once all segments were read."""
        for name, cut in self._cuts.items():
            self._break(name, cut.line, "cut in half or no line of a trail")
        if self._empty and self._empty[-1].startswith(f"{self._number:08d}-"):
            self._break(self._empty[-1], 0, "the newest segment is empty")
        self._check_oldest()
        for seq in sorted(self._expect):
            self._break("", 0, f"the line with seq {seq}, whose digest is expected, is not there")
        return Report(
            self._mount_id,
            self._segments,
            self._records,
            self._seq,
            self._head,
            tuple(sorted(self._breaks, key=_in_order)),
            tuple(self._notes[:_BREAKS_LIMIT]),
        )

    def _line(self, name: str, number: int, line: int, offset: int, raw: bytes) -> None:
        sealed = chain.split(raw[:-1]) if raw.endswith(b"\n") else None
        place = Place(self._mount_id, name, line)
        record = parse_line(raw, place)
        if sealed is None or isinstance(record, BadLine):
            self._bad_line(name, line, offset, raw)
            return
        self._records += 1
        if line == 1:
            self._header(record, number)
        elif record.kind == "header":
            self._break(name, line, "a header in the middle of a segment")
        self._check_digest(record, sealed)
        self._seq, self._head = record.seq, sealed.chain
        self._note_kind(record)

    def _bad_line(self, name: str, line: int, offset: int, raw: bytes) -> None:
        if not raw.endswith(b"\n"):
            # Fine if the journal says later that it found exactly these bytes after a crash.
            self._cuts[name] = _Cut(line, offset, len(raw), hashlib.sha256(raw).hexdigest())
        else:
            self._break(name, line, "no line of a trail, or changed so that it is none")

    def _header(self, record: Record, number: int) -> None:
        name = record.place.segment
        if record.kind != "header":
            self._break(name, 1, "the segment does not begin with its header")
            return
        if record.fields.get("segment") != number:
            self._break(name, 1, f"the header says segment {record.fields.get('segment')!r}: renamed")
        previous = record.fields.get("previous")
        oldest = self._first is not None and self._first[0] == name
        if oldest and number == 1 and (previous != chain.GENESIS or record.seq != 1):
            self._break(name, 1, "the first segment of all does not begin the chain")
        elif not oldest and previous != self._head:
            self._break(
                name,
                1,
                "the header does not continue the segment before: lines are missing at its end, "
                "or one of the two was changed",
            )
        if previous != self._head and isinstance(previous, str) and len(previous) == 64:
            # Earlier lines were removed by rotation (_check_oldest) or reported above: go on from here.
            self._head, self._seq = previous, record.seq - 1

    def _check_digest(self, record: Record, sealed: chain.Sealed) -> None:
        place = record.place
        if chain.digest(self._head, sealed.body) != sealed.chain:
            what = "the digest does not fit: this line was changed, or lines before it are missing"
            self._break(place.segment, place.line, what)
        elif record.seq != self._seq + 1:
            self._break(place.segment, place.line, f"seq {record.seq} follows {self._seq}")
        expected = self._expect.pop(record.seq, None)
        if expected is not None and expected != sealed.chain:
            what = f"seq {record.seq} does not have the expected digest: the trail was sealed anew"
            self._break(place.segment, place.line, what)

    def _note_kind(self, record: Record) -> None:
        place, fields = record.place, record.fields
        if record.kind in TROUBLE:
            self._notes.append(Break(place, describe_trouble(record)))
        if record.kind == "recovered":
            cut = self._cuts.get(str(fields.get("segment")))
            if cut and (cut.offset, cut.size, cut.sha256) == (
                fields.get("offset"),
                fields.get("bytes"),
                fields.get("sha256"),
            ):
                del self._cuts[str(fields["segment"])]
        elif record.kind in {"mount", "policy"}:
            named = (fields.get(name) for name in ("policy", "previous", "refused"))
            self.policies |= {digest: place for digest in named if isinstance(digest, str)}
        elif record.kind == "pruned":
            segments = fields.get("segments")
            if isinstance(segments, list):
                self._pruned.update(name for name in segments if isinstance(name, str))

    def _check_oldest(self) -> None:
        if self._first is None or self._first[1] == 1:
            return
        name, number = self._first
        if not any(gone.startswith(f"{number - 1:08d}-") for gone in self._pruned):
            what = f"segments before this one are missing (1 to {number - 1}), and no rotation removed them"
            self._break(name, 0, what)

    def _break(self, segment: str, line: int, what: str) -> None:
        if len(self._breaks) < _BREAKS_LIMIT:
            self._breaks.append(Break(Place(self._mount_id, segment, line), what))


def _in_order(found: Break) -> tuple[bool, str, int]:
    return not found.place.segment, found.place.segment, found.place.line


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
