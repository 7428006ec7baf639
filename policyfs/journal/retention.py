"""Retention: the choice of closed segments to remove, by number, age and size. Held segments always stay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from policyfs.journal.holds import begin_ns, held, read_holds
from policyfs.journal.segments import ZST, SegmentDirectory, plain_name, segment_number
from policyfs.trail.record import Place, Record, parse_line
from policyfs.trail.removed import Ranges, ranges_of

BY_NUMBER: Final = "number"
BY_AGE: Final = "age"
BY_SIZE: Final = "size"
_BLOCK: Final = 1 << 20
RECHECK_NS: Final = 60_000_000_000
"""The time after which ages are checked again if the segments have not changed."""


class Retention(NamedTuple):
    """Limits of a chain; 0 means no limit. segments: the number of segments, the newest included.

    age_s: the age of a segment's last line, in seconds. size: the disk space in bytes of all segments that no
    hold keeps.
    """

    segments: int = 0
    age_s: int = 0
    size: int = 0


Keep = int | Retention


def removed_so_far(place: SegmentDirectory) -> Ranges:
    """Return the numbers of the segments that retention has removed, from records of the newest segment.

    An older version of policyfs did not record them. Then all numbers below the oldest segment count as
    removed.
    """
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
            break  # its header is of an older version
    oldest = segment_number(names[0]) if names else None
    return ((1, oldest - 1),) if oldest and oldest > 1 else ()


def _stated(fd: int) -> Ranges | None:
    """Return the ranges in the last header or record of removed segments in a segment, or None."""
    found = None
    offset, rest = 0, b""
    while block := os.pread(fd, _BLOCK, offset):
        offset += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith((b'{"type":"header"', b'{"type":"pruned"')):
                record = parse_line(line, Place("", "", 0))
                if isinstance(record, Record):
                    stated = ranges_of(record.fields.get("removed"))
                    found = found if stated is None else stated
    return found


def retention_of(keep: Keep) -> Retention:
    """Return *keep* as Retention. A plain number limits the number of segments."""
    return keep if isinstance(keep, Retention) else Retention(keep)


def expired(
    path: str, place: int, names: Sequence[str], current: str, limits: Retention, now_ns: int
) -> list[tuple[str, list[str]]]:
    """Return the segments to remove, the oldest first, grouped by reason. Raises OSError.

    path, place: the directory of the chain, and its descriptor. names: the names of all segments, in order.
    current: the segment that is being written.
    """
    if not any(limits):
        return []
    kept_back = held(read_holds(path), names)
    free = [name for name in names if name != current and name not in kept_back]
    found: list[tuple[str, list[str]]] = []
    if limits.segments:
        beyond = frozenset(names[: -limits.segments])
        found.append((BY_NUMBER, [name for name in free if name in beyond]))
    if limits.age_s:
        # The end of a segment is the beginning of the next one.
        ends = dict(zip(names, map(begin_ns, names[1:]), strict=False))
        oldest_ns = now_ns - limits.age_s * 1_000_000_000
        found.append((BY_AGE, [name for name in free if ends.get(name, now_ns) < oldest_ns]))
    if limits.size:
        found.append((BY_SIZE, _beyond_size(place, free, current, limits.size)))
    return _once_each(found)


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
    """Return *found*, with each segment only in the group of its first reason."""
    seen: set[str] = set()
    only = []
    for reason, names in found:
        new = [name for name in names if name not in seen]
        seen.update(new)
        if new:
            only.append((reason, new))
    return only
