"""Retention: limits of number, age and size for the closed files of a trail (segments)."""

from __future__ import annotations

import os
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple

from policyfs.journal.files.segments import (
    ZST,
    SegmentDirectory,
    TrailDirectory,
    plain_name,
    seal_name,
    segment_number,
)
from policyfs.trail.chain.removed import Ranges, ranges_of
from policyfs.trail.lines.record import Place, Record, parse_line

BY_NUMBER: Final = "number"
BY_AGE: Final = "age"
BY_SIZE: Final = "size"
_BLOCK: Final = 1 << 20
_STATING: Final = b'\n{"type":"header"', b'\n{"type":"pruned"'
"""The begins of lines with records that state removed segments, each after the end of the line before."""
_HOLDS: Final = "holds"
"""A directory in which earlier versions kept legal holds. INVARIANT: while it has an entry, nothing goes."""
KEPT_BACK: Final = (
    "rotation has stopped, and the trail grows: its directory `holds` has a legal hold of an earlier version."
    " Copy the trail for whoever needs it, and remove the file"
)
_BEGUN: Final = re.compile(r"\d{8,}-(\d{8}T\d{6})Z\.")
_ALWAYS: Final = 1 << 62
RECHECK_NS: Final = 60_000_000_000
"""The time, in ns, after which the limits are checked again although no new segment was begun."""


class Retention(NamedTuple):
    """Limits for segments; those beyond are removed (0: no limit). segments: their number, the newest
    included. age_s: of a segment's last line, in seconds. size: bytes on the disk of all."""

    segments: int = 0
    age_s: int = 0
    size: int = 0


Keep = int | Retention


class Removals:
    """Segments whose removal is on record, but which are not removed yet. Not thread-safe. INVARIANT: a
    segment is removed only after the record of its removal is on the disk, so that after a power loss none is
    missing without one."""

    def __init__(self, place: TrailDirectory) -> None:
        self._place: Final = place
        self._waiting: dict[str, int] = {}
        """Dictionary from the uncompressed name of a segment to the number of the record of its removal."""

    def add(self, seq: int, names: Iterable[str]) -> None:
        """Add segments to remove. seq: the number of the record that names them."""
        self._waiting.update((plain_name(name), seq) for name in names)

    def without(self, names: Iterable[str]) -> list[str]:
        """Return *names* without the segments that will be removed."""
        return [name for name in names if plain_name(name) not in self._waiting]

    def carry_out(self, seq: int) -> bool:
        """Remove the segments, with their seals, whose record is on the disk. Return True if there was one.

        A later call tries again after an OSError. seq: the last line that is on the disk.
        """
        ready = [name for name, recorded in self._waiting.items() if recorded <= seq]
        for name in ready:
            for one in (name, name + ZST, seal_name(name)):
                self._place.remove(one)
            del self._waiting[name]
        return bool(ready)


def removed_so_far(place: SegmentDirectory) -> Ranges:
    """Return the numbers of the segments that policyfs has removed, which the newest segment states."""
    names = place.names()
    for name in reversed(names):
        fd = place.read(name)
        try:
            found = _stated(fd)
        finally:
            os.close(fd)
        if found is not None:
            return found
        if os.stat(name, dir_fd=place.fd).st_size:
            break  # an older version of policyfs wrote this segment, without these numbers
    oldest = segment_number(names[0]) if names else None
    return ((1, oldest - 1),) if oldest and oldest > 1 else ()


def _stated(fd: int) -> Ranges | None:
    """Return the ranges that the newest such record (header or ``pruned``) of a segment states, or None."""
    found = None
    offset, rest = 0, b"\n"
    while block := os.pread(fd, _BLOCK, offset):
        offset += len(block)
        text = rest + block
        last = text.rfind(b"\n")
        for start in sorted(chain.from_iterable(_found(text, mark, last) for mark in _STATING)):
            record = parse_line(text[start + 1 : text.index(b"\n", start + 1)], Place("", "", 0))
            if isinstance(record, Record):
                stated = ranges_of(record.fields.get("removed"))
                found = found if stated is None else stated
        rest = text[last:]
    return found


def _found(text: bytes, mark: bytes, last: int) -> Iterator[int]:
    """Yield the places of *mark* before the place *last*."""
    start = text.find(mark, 0, last)
    while start >= 0:
        yield start
        start = text.find(mark, start + 1, last)


def retention_of(keep: Keep) -> Retention:
    """Return *keep* as Retention. A plain number N means: the newest N segments (files of the trail) stay."""
    return keep if isinstance(keep, Retention) else Retention(keep)


def expired(
    place: int, names: Sequence[str], current: str, limits: Retention, now_ns: int
) -> list[tuple[str, list[str]]]:
    """Return the files of a trail (segments) to remove, as pairs of a reason and names, oldest first.

    place: the descriptor of the trail directory. names: the names of all segments, oldest first.
    current: the segment that is being written; it always stays. Raises OSError.
    """
    if not any(limits):
        return []
    free = [name for name in names if name != current]
    found: list[tuple[str, list[str]]] = []
    if limits.segments > 0:
        beyond = frozenset(names[: -limits.segments])
        found.append((BY_NUMBER, [name for name in free if name in beyond]))
    if limits.age_s:
        ends = dict(zip(names, latest_ends(names, now_ns), strict=True))
        oldest_ns = now_ns - limits.age_s * 1_000_000_000
        found.append((BY_AGE, [name for name in free if ends[name] < oldest_ns]))
    if limits.size:
        found.append((BY_SIZE, _beyond_size(place, free, current, limits.size)))
    return _once_each(found)


def is_held(path: str) -> bool:
    """Return True if a hold of an earlier version protects the trail at *path*. Raises OSError."""
    try:
        return bool(os.listdir(os.path.join(path, _HOLDS)))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _beyond_size(place: int, free: Sequence[str], current: str, most: int) -> list[str]:
    room = most - _size(place, current)
    for index, name in enumerate(reversed(free)):
        room -= _size(place, name)
        if room < 0:
            return list(free[: len(free) - index])
    return []


def _size(place: int, name: str) -> int:
    for one in (name, plain_name(name) + ZST):
        with suppress(FileNotFoundError):
            return os.stat(one, dir_fd=place, follow_symlinks=False).st_size
    return 0


def _once_each(found: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Return *found* (pairs of a reason and names), with each name only under its first reason."""
    seen: set[str] = set()
    only = []
    for reason, names in found:
        new = [name for name in names if name not in seen]
        seen.update(new)
        if new:
            only.append((reason, new))
    return only


def latest_ends(names: Sequence[str], now_ns: int = _ALWAYS) -> list[int]:
    """Return for each segment a time (ns) before which its last line was written: the begin of the next one.

    names: of all segments in one directory, oldest first. now_ns: the present time. Clocks may be wrong: a
    later segment with an earlier time says nothing, and after a time beyond *now_ns*, the earliest of the
    later ones counts. If none follows, the result is far in the future.
    """
    later: list[int] = []
    ends = []
    for name in reversed(names):
        begin = begin_ns(name)
        at = bisect_left(later, begin if begin <= now_ns else 0)
        ends.append(later[at] if at < len(later) else _ALWAYS)
        insort(later, begin)
    return ends[::-1]


def begin_ns(name: str) -> int:
    """Return the time in the name of a segment, in ns since 1970; 0 without one."""
    found = _BEGUN.match(name)
    if found is None:
        return 0
    begun = datetime.fromisoformat(f"{found[1]}Z")  # strptime would import a module at its first call
    return int(begun.timestamp()) * 1_000_000_000
