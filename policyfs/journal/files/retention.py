"""Retention: limits of number, age and size for the closed files of a trail (segments). Held ones always
stay."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from typing import Final, NamedTuple

from policyfs.journal.files.holds import held, latest_ends, lock_holds, read_holds
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
_NO_HOLDS: Final = frozenset((
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
))  # fmt: skip
"""Errors of lock_holds(). If lock_holds() fails with one of them, no other process can add a hold either."""
RECHECK_NS: Final = 60_000_000_000
"""The time, in ns, after which the limits are checked again although no new segment was begun."""


class Retention(NamedTuple):
    """Limits for segments; those beyond are removed (0: no limit). segments: their number, the newest
    included. age_s: of a segment's last line, in seconds. size: bytes on the disk of all that no hold
    protects."""

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

        A segment stays if a hold was added after the record. While another process adds a hold, nothing is
        removed. A later call tries again, also after an OSError. seq: the last line that is on the disk.
        """
        ready = [name for name, recorded in self._waiting.items() if recorded <= seq]
        if not ready:
            return False
        with ExitStack() as stack:
            locked = True
            try:
                stack.callback(os.close, lock_holds(self._place.path, wait=False))
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _NO_HOLDS:
                    raise
                locked = False
            stay = self._held()
            for name in ready:
                if not locked:
                    stay = self._held()  # the removals make room, so now a hold can be added
                for one in (name, name + ZST, seal_name(name)) if name not in stay else ():
                    self._place.remove(one)
                del self._waiting[name]
        return True

    def _held(self) -> set[str]:
        return {plain_name(name) for name in held(read_holds(self._place.path), self._place.names())}


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
    path: str, place: int, names: Sequence[str], current: str, limits: Retention, now_ns: int
) -> list[tuple[str, list[str]]]:
    """Return the files of a trail (segments) to remove, as pairs of a reason and names, oldest first.

    path, place: the trail directory, and its descriptor. names: the names of all segments, oldest first.
    current: the segment that is being written; it always stays. Raises OSError.
    """
    if not any(limits):
        return []
    kept_back = held(read_holds(path), names)
    free = [name for name in names if name != current and name not in kept_back]
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
