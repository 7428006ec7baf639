"""Hash chains as witnesses of other chains (pure). A new daemon records number and digest of the last line of
all other chains in its own chain. `policyfs audit verify` later compares them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from policyfs.trail.chain.damage import RESEALED, TRUNCATED
from policyfs.trail.lines.record import Place, Record

_PART_BYTES: Final = 40 * 1024
"""The limit of bytes of one record about other chains, so that its line stays below line.LINE_BYTES."""
_HEAD: Final = re.compile(r"([0-9]{1,18})=([0-9a-f]{64})")


class Sighting(NamedTuple):
    """A statement in one hash chain about the last line of another chain. place: of its record. seen: the
    name of the other chain; "" if there was none. first: the place of the first of the records of the same
    start."""

    place: Place
    seen: str
    seq: int
    head: str
    first: Place


def records_of(heads: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the fields of ``others`` records, each for one line, about the ends (``SEQ=DIGEST``) of other
    chains."""
    parts: list[dict[str, str]] = [{}]
    size = 0
    for seen, head in heads.items():
        entry = len(json.dumps({seen: head})) + 1
        if size + entry > _PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][seen] = head
        size += entry
    if len(parts) == 1:
        return [{"chains": parts[0]}]
    return [{"chains": part, "part": number, "parts": len(parts)} for number, part in enumerate(parts, 1)]


def sightings(records: Iterable[Record]) -> list[Sighting]:
    """Return all statements about other chains in *records* (in those of type ``others``)."""
    found = []
    first = Place("", "", 0)
    for record in records:
        place, fields = record.place, record.fields
        chains = fields.get("chains") if record.kind == "others" else None
        if not isinstance(chains, dict):
            continue
        if fields.get("part", 1) == 1:
            first = place
        if not chains:
            found.append(Sighting(place, "", 0, "", first))
        for seen, text in chains.items():
            match = _HEAD.fullmatch(text) if isinstance(text, str) else None
            if match:
                found.append(Sighting(place, seen, int(match[1]), match[2], first))
    return found


def vanished(seen: Iterable[Sighting], there: frozenset[str]) -> list[tuple[Sighting, bool]]:
    """Return the statements about chains that do not exist any more, each with True if the chain still
    existed when the last daemon of the witness started (else the loss is old). seen: all, in order. there:
    the chains that exist."""
    latest: dict[str, Place] = {}
    gone = []
    for sighting in seen:  # in order, by chain
        latest[sighting.place.mount_id] = sighting.first
        if sighting.seen and sighting.seen not in there:
            gone.append(sighting)
    return [(sighting, sighting.first == latest[sighting.place.mount_id]) for sighting in gone]


class Witness:
    """A checker that compares one hash chain with the statements (sightings) of other chains about it."""

    def __init__(self, seen: Iterable[Sighting]) -> None:
        self._open: dict[int, list[Sighting]] = {}
        for sighting in seen:
            self._open.setdefault(sighting.seq, []).append(sighting)
        self._first = 0
        self._wrong: list[tuple[Place, str, str]] = []
        self._right: list[int] = []
        self.contradicted: int | None = None
        """The number of the first line that is another than a statement says, or None."""

    @property
    def wanted(self) -> Collection[int]:
        """Return the numbers of lines about which other chains have statements that were not compared yet."""
        return self._open.keys()

    def begin(self, first_seq: int) -> None:
        """Set the number of the oldest line that the chain has. Only the first call has an effect."""
        self._first = self._first or first_seq

    def compare(self, digests: Mapping[int, str]) -> None:
        """Compare lines of the chain, by number, with the statements about them."""
        for seq, digest in digests.items():
            self._line(seq, digest)

    def _line(self, seq: int, digest: str) -> None:
        for sighting in self._open.pop(seq, ()):
            if sighting.head == digest:
                self._right.append(seq)
            else:
                self.contradicted = min(seq, self.contradicted or seq)
                what = (
                    f"{sighting.seen} had another line {seq} at that time: the chain was sealed again later"
                )
                self._wrong.append((sighting.place, what, RESEALED))

    def confirmed(self, before: int) -> int:
        """Return the last line before *before* that a statement confirms; 0 if none."""
        return max((seq for seq in self._right if seq < before), default=0)

    def finish(self) -> list[tuple[Place, str, str]]:
        """Return the differences, after the last line: the place of the statement, a sentence, and the kind
        of damage."""
        for seq, missing in sorted(self._open.items()):
            if seq >= self._first:  # `verify` reports missing older lines
                what = f"{missing[0].seen} had a line {seq} at that time: lines at the end were removed later"
                self._wrong.append((missing[0].place, what, TRUNCATED))
        return self._wrong
