"""The kinds of damage to a trail, and the search for damaged lines in one of its files (segments) (pure)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from policyfs.trail.chain import chain
from policyfs.trail.lines.record import BadLine, Place, parse_line

EDITED: Final = "edited"
DELETED: Final = "deleted"
INSERTED: Final = "inserted"
REORDERED: Final = "reordered"
TRUNCATED: Final = "truncated"
ROLLED_BACK: Final = "rolled back"
RESEALED: Final = "re-sealed"
CLOCK: Final = "clock"
KINDS: Final = (EDITED, DELETED, INSERTED, REORDERED, TRUNCATED, ROLLED_BACK, RESEALED, CLOCK)

_MOST: Final = 100
_FAR: Final = 1 << 18
"""The limit of lines in one group that the search can recognise as a group in a wrong order."""


_NO_LIMIT: Final = 1 << 62
"""A number above the number of each line. A changed line may state a number of thousands of digits. Python
refuses to print such a number, so the search ignores it."""


class Damage(NamedTuple):
    """One damage in a segment. line: the position of the line, from 1. kind: one of KINDS. what: a sentence.
    before: the number of the last unchanged line before it."""

    line: int
    kind: str
    what: str
    before: int


class _Line(NamedTuple):
    """A parsed line. seq: its number, or None if unknown. stated: the digest in the line, or empty."""

    seq: int | None
    body: bytes
    stated: str
    is_header: bool


class Diagnosis(NamedTuple):
    """The result of the search. seq, head: number and digest that the first line of the next segment must
    continue."""

    findings: list[Damage]
    seq: int
    head: str


def diagnose(
    lines: Sequence[bytes],
    seq: int,
    head: str,
    *,
    digests_sealed: bool | None = None,
    complete: bool = False,
    last_seq: int = _NO_LIMIT,
) -> Diagnosis:
    """Find the damage in the complete lines of a segment (a file of the trail).

    seq, head: number and digest of the last line of the previous segment. The other arguments come from the
    segment's seal (a signed statement about its lines), if it has a seal. digests_sealed: True if the seal
    proves the digests in the lines, False if it contradicts the digests, None if unknown. complete: True if
    there are as many lines as the seal states. last_seq: the number of the last line that the seal states.
    """
    parsed = [_parsed(raw) for raw in lines]
    return _Diagnosis(parsed, seq, head, digests_sealed, complete=complete, last_seq=last_seq).run()


def _parsed(raw: bytes) -> _Line:
    sealed = chain.split(raw.removesuffix(b"\n"))
    seq = chain.seq_of(sealed.body) if sealed else None
    if sealed is None or seq is None:
        try:  # the line was changed, but it may still be a JSON object with its number
            fields = json.loads(raw)
            seq = fields.get("seq") if isinstance(fields, dict) else None
        except (ValueError, RecursionError):
            seq = None
        is_number = type(seq) is int and 0 < seq < _NO_LIMIT
        return _Line(seq if is_number else None, raw, "", is_header=False)
    if isinstance(parse_line(raw, Place("", "", 0)), BadLine):
        return _Line(seq, sealed.body, "", is_header=False)
    return _Line(seq, sealed.body, sealed.chain, sealed.body.startswith(b'{"type":"header",'))


class _Diagnosis:
    def __init__(
        self,
        lines: list[_Line],
        seq: int,
        head: str,
        digests_sealed: bool | None,
        *,
        complete: bool,
        last_seq: int,
    ) -> None:
        self._lines = lines
        self._seq = seq
        self._head = head
        self._digests_sealed = digests_sealed
        self._complete = complete
        self._last_seq = last_seq
        self._findings: list[Damage] = []
        self._at: dict[int, list[int]] = {}
        for index, line in enumerate(lines):
            if line.seq is not None:
                self._at.setdefault(line.seq, []).append(index)
        self._before: dict[int, tuple[int, str]] = {}
        """Dictionary from the number of each valid line to its index and the previous line's digest."""
        self._unsure = False
        """True if the digest of the previous line is not known, so that the next line cannot be checked."""

    def run(self) -> Diagnosis:
        index = 0
        while index < len(self._lines) and len(self._findings) < _MOST:
            line = self._lines[index]
            if line.seq == self._seq + 1 and (self._unsure or self._fits(index, self._head)):
                self._accept(index)
                index += 1
            else:
                index = self._explain(index)
        return Diagnosis(self._findings, self._seq, self._head)

    def _fits(self, index: int, head: str) -> bool:
        line = self._lines[index]
        return bool(line.stated) and chain.digest(head, line.body) == line.stated

    def _accept(self, index: int) -> None:
        line = self._lines[index]
        told = bool(self._findings) and self._findings[-1].line == index + 1
        if not told and line.is_header != (index == 0):
            what = "a header in the middle of a segment" if line.is_header else "no header"
            self._find(index, INSERTED if line.is_header else DELETED, what)
        self._seq += 1
        self._before[self._seq] = (index, self._head)
        self._head = line.stated
        self._unsure = False

    def _find(self, index: int, kind: str, what: str, before: int | None = None) -> None:
        self._findings.append(Damage(index + 1, kind, what, self._seq if before is None else before))

    def _explain(self, index: int) -> int:
        """Add a finding why a line does not continue the chain. Return the index at which to go on."""
        line, wanted = self._lines[index], self._seq + 1
        if self._digests_sealed:
            return self._edited(index)  # the seal proves all digests: other bytes were changed
        if end := self._permuted(index):
            self._find(index, REORDERED, f"lines {index + 1} to {end} are not in their original order")
            for seq in range(wanted, wanted + end - index):
                self._accept_moved(seq)
            return end
        places = [at for at in self._at.get(wanted, ()) if at > index]
        following = next((at for at in places if self._fits(at, self._head)), None)
        if following is not None:
            self._find(index, INSERTED, _inserted(following - index))
            return following
        if line.seq is not None and line.seq < wanted and self._put_before(index, line.seq):
            return index
        if self._follows_next(index):
            return self._edited(index)
        if self._complete and index == len(self._lines) - 1:
            return self._edited(index)
        if line.seq is None or line.seq < wanted:
            self._find(index, INSERTED, _inserted(1))
            return index + 1
        if line.seq == wanted:
            return self._edited(index)
        gap = range(wanted, min(line.seq, wanted + _MOST))
        later = [seq for seq in gap if self._at.get(seq, [0])[-1] > index]
        if later:
            self._find(index, REORDERED, f"seq {line.seq} is before seq {later[0]}")
        else:
            self._find(index, DELETED, _deleted(wanted, line.seq - 1))
        self._seq, self._unsure = line.seq - 1, True
        return index

    def _permuted(self, index: int) -> int:
        """Return the end of a group of lines from *index* on that are complete, but in a wrong order; 0:
        none."""
        seen: set[int] = set()
        highest, wanted = 0, self._seq + 1
        for end in range(index, min(len(self._lines), index + _FAR)):
            seq = self._lines[end].seq
            if seq is None or not wanted <= seq <= self._last_seq or seq in seen:
                return 0
            seen.add(seq)
            highest = max(highest, seq)
            if highest - wanted == end - index:
                once = all(self._at[one][-1] <= end for one in seen)  # else a line comes again later
                return end + 1 if once and end > index and self._in_order(wanted, highest) else 0
        return 0

    def _in_order(self, first: int, last: int) -> bool:
        head = self._head
        for seq in range(first, last + 1):
            index = self._at[seq][-1]
            if not self._fits(index, head):
                return False
            head = self._lines[index].stated
        return True

    def _accept_moved(self, seq: int) -> None:
        index = self._at[seq][-1]
        self._before[seq] = (index, self._head)
        self._seq, self._head = seq, self._lines[index].stated

    def _put_before(self, index: int, seq: int) -> bool:
        """Return True, and add a finding, if an earlier line with this number was inserted: it seemed valid,
        but the line at *index* continues the same previous line."""
        known = self._before.get(seq)
        if known is None or known[0] >= index or not self._fits(index, known[1]):
            return False
        first, head = known
        if self._lines[first] == self._lines[index]:
            return False  # the same line stands there twice: the second one was inserted
        self._find(first, INSERTED, _inserted(index - first), seq - 1)
        self._seq, self._head = seq - 1, head
        return True

    def _follows_next(self, index: int) -> bool:
        """Return True if this line stands in the place of the expected one, before the one with the number
        after that."""
        after = self._lines[index + 1] if index + 1 < len(self._lines) else None
        return after is not None and after.seq == self._seq + 2 and self._lines[index].seq != self._seq + 2

    def _edited(self, index: int) -> int:
        line = self._lines[index]
        at, before, what = index, self._seq, "this line was changed"
        fits_after = bool(line.stated) and index + 1 < len(self._lines) and self._fits(index + 1, line.stated)
        if line.seq == self._seq + 1 and self._digests_sealed is False and fits_after and index:
            at, before = index - 1, self._seq - 1
            what = (
                "this line or earlier lines were changed, and the digests of these lines were computed again"
            )
        elif self._digests_sealed is None and fits_after and index:
            what = "either this line was changed, or the previous line and its digest were changed"
        self._find(at, EDITED, what, before)
        self._seq += 1
        computed = chain.digest(self._head, line.body)
        if index + 1 < len(self._lines) and not fits_after and self._fits(index + 1, computed):
            self._head = computed
        else:
            self._head, self._unsure = line.stated or computed, not fits_after
        return index + 1


def _inserted(count: int) -> str:
    return "this line was inserted" if count == 1 else f"{count} lines were inserted here"


def _deleted(first: int, last: int) -> str:
    if first == last:
        return f"seq {first} is missing before this line"
    return f"seq {first} to {last} are missing before this line"
