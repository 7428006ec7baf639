"""Continuity of the lines that a command reads: number and digest of each follow from the line before (pure).
Only `verify` notices lines whose digests, and those of all later lines, were computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from policyfs.trail.chain import chain
from policyfs.trail.lines.record import Place, Record, header_of, parse_line

ALWAYS_NS: Final = 1 << 62
LIMIT: Final = 100
"""The limit of holes of one chain, and of joints in one index."""
_TAIL: Final = chain.TAIL_BYTES + 1
_STATED: Final = slice(-67, -3)
_MOST: Final = 1 << 62
_NOWHERE: Final = Place("", "", 0)


class Hole(NamedTuple):
    """Records that a command cannot read as they were written.

    first, last: their numbers (0: unknown; if last is less than first, none is certainly missing). why: a
    sentence. since_ns, until_ns: their period (ns since 1970).
    """

    first: int
    last: int
    why: str
    since_ns: int = 0
    until_ns: int = ALWAYS_NS

    @property
    def what(self) -> str:
        """Return the numbers as text."""
        if not self.first:
            return f"records up to {self.last}" if self.last else "records"
        if not self.last:
            return f"records from {self.first} on"
        if self.first == self.last:
            return f"record {self.first}"
        return (
            f"records {self.first} to {self.last}"
            if self.first < self.last
            else f"before record {self.first}"
        )


class Joint(NamedTuple):
    """A line that does not follow from the line before in its index, such as the first. line: from 1. seq:
    its number; None if it is no line of a trail. before: the line before, empty if that is a joint, too."""

    line: int
    seq: int | None
    before: bytes
    raw: bytes


class Joints:
    """The joints among the lines of an index. last: the last line of a trail."""

    def __init__(self) -> None:
        self.found: list[Joint] = []
        self.last = b""

    def among(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Pass on pairs of offset and line, and check each line."""
        seq, head, last = 0, b"", b""
        for number, one in enumerate(lines, start=1):
            raw = one[1]
            if b',"seq":%d,' % (seq + 1) in raw[:60] and (found := _follows(head, raw)):
                seq += 1
                head, last = found, raw
            else:
                self.last = last
                seq, head = self._join(number, raw) or seq, _stated(raw)
                last = self.last
            yield one
        self.last = last

    def _join(self, line: int, raw: bytes) -> int | None:
        sealed = chain.split(raw[:-1])
        seq = chain.seq_of(sealed.body) if sealed else None
        if len(self.found) < LIMIT:
            before = b"" if self.found and self.found[-1].line == line - 1 else self.last
            self.found.append(Joint(line, seq, before, b"" if seq is None else raw))
        self.last = self.last if seq is None else raw
        return seq


def _stated(raw: bytes) -> bytes:
    sealed = chain.split(raw[:-1])
    return sealed.chain.encode("ascii") if sealed else b""


def _follows(head: bytes, raw: bytes) -> bytes:
    """Return the digest that a line states, if the line follows from *head*, the digest (as hex) of the line
    before; else an empty text. raw: the line with its newline."""
    if not head:
        return b""
    found = hashlib.sha256(head + raw[:-_TAIL]).hexdigest().encode("ascii")
    return found if found == raw[_STATED] else b""


class Continuity:
    """The check of the lines of a hash chain, in their order. holes: what is missing or changed so far."""

    def __init__(self, seq: int = 0, head: str = chain.GENESIS) -> None:
        """seq, head: number and digest of the line before the first one (settled)."""
        self.holes: list[Hole] = []
        self.seq = seq
        """The number of the last line."""
        self._head = head.encode("ascii")
        """The digest of the last line; empty if it is not known."""
        self._last = b""
        self._known = True
        """False if the next line may have any number."""
        self._why = ""
        """The reason why lines before the next one are missing."""

    @property
    def settled(self) -> tuple[int, str] | None:
        """Return number and digest (empty: unknown) of the last line, for another check that goes on from
        there; None if only the next line tells what is missing."""
        return None if self._why or not self._known else (self.seq, self._head.decode("ascii"))

    def forget(self) -> None:
        """Accept any line as the next one."""
        self._known, self._head = False, b""

    def miss(self, why: str) -> None:
        """Expect that lines are missing before the next one."""
        self._why = f"{self._why}; {why}" if self._why else why
        self._head = b""

    def go_on(self, raw: bytes) -> None:
        """Accept a line, and all lines between it and the last one, which an index has checked."""
        if self._why:
            return
        sealed = chain.split(raw[:-1])
        seq = chain.seq_of(sealed.body) if sealed else None
        if sealed is not None and seq is not None and seq >= self.seq:
            self.seq, self._last, self._head = seq, raw, sealed.chain.encode("ascii")

    def take(self, raw: bytes, seq: int | None, segment: str, line: int) -> None:
        """Check the next line. raw: with its newline. seq: its number; None if it is no record."""
        if seq == self.seq + 1 and (found := _follows(self._head, raw)):
            self.seq, self._head, self._last = seq, found, raw
            return
        place = f"line {line} of {segment}"
        if seq is None or not 0 < seq < _MOST:
            self.miss(f"{place} is not a record")
            return
        self._explain(raw, seq, place)
        self._head = _stated(raw) if seq > self.seq else b""
        self.seq, self._last = max(seq, self.seq), raw
        self._known, self._why = True, ""

    def _explain(self, raw: bytes, seq: int, place: str) -> None:
        wanted, time_ns = self.seq + 1, _time_ns(raw, ALWAYS_NS)
        since_ns = _time_ns(self._last, 0)
        if self._known and seq < wanted:
            self._add(Hole(seq, seq, f"{place} is not in its place", 0, time_ns))
        elif self._why or (self._known and seq > wanted):
            why = self._why or f"lines are missing before {place}"
            self._add(Hole(wanted if self._known else 0, seq - 1, why, since_ns, time_ns))
        elif self._head:
            self._add(Hole(seq, seq, f"{place}, or the line before it, was changed", since_ns))
        header, sealed = header_of(raw), chain.split(raw[:-1])
        if header and sealed and chain.digest(header[1], sealed.body) != sealed.chain:
            self._add(Hole(seq, seq, f"{place} was changed", since_ns))

    def end(self, seq: int) -> list[Hole]:
        """Return all holes, after the last line. seq: the number that the last line should have, or 0."""
        if self._why or seq > self.seq:
            why = self._why or "the end of the trail is missing"
            since_ns = _time_ns(self._last, 0)
            self._add(Hole(self.seq + 1 if self._known else 0, seq if seq > self.seq else 0, why, since_ns))
            self._why = ""
        return self.holes

    def _add(self, hole: Hole) -> None:
        before = self.holes[-1] if self.holes else None
        if (
            before is not None
            and before.last
            and hole.first <= hole.last
            and hole.first in (before.last, before.last + 1)
        ):
            self.holes[-1] = before._replace(
                last=hole.last, since_ns=min(before.since_ns, hole.since_ns),
                until_ns=max(before.until_ns, hole.until_ns),
            )  # fmt: skip
        elif len(self.holes) < LIMIT:
            self.holes.append(hole)


def _time_ns(raw: bytes, unknown: int) -> int:
    record = parse_line(raw, _NOWHERE) if raw else None
    return record.time_ns if isinstance(record, Record) else unknown
