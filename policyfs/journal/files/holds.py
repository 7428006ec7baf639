"""Legal holds: periods for which rotation keeps the files of the trail (segments).

A hold is a small file ``holds/NAME`` beside them. INVARIANT: one that cannot be parsed protects all segments.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from bisect import bisect_left, insort
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.files.segments import DIRECTORY, segment_number, write_file
from policyfs.trail.lines.record import parse_time

HOLDS: Final = "holds"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BEGUN: Final = re.compile(r"\d{8,}-(\d{8}T\d{6})Z\.")
_ALWAYS: Final = 1 << 62
_MINUTE_NS: Final = 60_000_000_000


class Hold(NamedTuple):
    """A legal hold. since, until: begin and end of its period, as times in a trail (empty: no limit). made:
    when it was created."""

    name: str
    since: str
    until: str
    reason: str
    made: str


def is_hold_name(name: str) -> bool:
    """Return True if a legal hold may have this name."""
    return _NAME.fullmatch(name) is not None


def lock_holds(directory: str | os.PathLike[str], *, wait: bool) -> int:
    """Lock the legal holds of a trail directory: no hold is added until the returned descriptor is closed.
    wait: True to wait while another process has the lock; False to raise BlockingIOError. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir(Path(directory) / HOLDS, 0o700)
    place = os.open(Path(directory) / HOLDS, DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(place)
        raise
    return place


def add_hold(directory: Path, hold: Hold) -> None:
    """Write a legal hold, after the end of a removal that has begun: on return, no file of the period is
    removed any more. Raises FileExistsError if a hold of this name exists."""
    place = lock_holds(directory, wait=True)
    try:
        if hold.name in os.listdir(place):
            raise FileExistsError(hold.name)
        write_file(place, hold.name, json.dumps(hold._asdict()).encode() + b"\n")
    finally:
        os.close(place)


def remove_hold(directory: Path, name: str) -> None:
    """Remove the legal hold *name* from a trail directory. Raises FileNotFoundError if there is none."""
    (directory / HOLDS / name).unlink()


def read_holds(directory: str | os.PathLike[str]) -> list[Hold]:
    """Return the legal holds in a trail directory, sorted by name; one that cannot be parsed has no limits.
    Raises OSError."""
    try:
        names = sorted(os.listdir(Path(directory) / HOLDS))
    except FileNotFoundError:
        return []
    found = (_read(Path(directory) / HOLDS / name) for name in names if is_hold_name(name))
    return [hold for hold in found if hold is not None]


def _read(path: Path) -> Hold | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return None
    try:
        fields = json.loads(data)
        values = [fields[name] for name in Hold._fields]
        hold = Hold(*(value if isinstance(value, str) else "" for value in values))
        for text in filter(None, (hold.since, hold.until)):
            parse_time(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Hold(path.name, "", "", "this hold is damaged, so it protects the whole trail", "")
    return hold


def held(holds: Sequence[Hold], names: Sequence[str]) -> frozenset[str]:
    """Return the names of the segments that holds protect. names: of all in one directory, oldest first."""
    if not names:  # the directory was removed
        return frozenset()
    begins = [begin_ns(name) for name in names]
    nexts = [*begins[1:], _ALWAYS]
    # A segment's period is taken a minute longer at both ends: names have whole seconds, and lines are only
    # nearly in order of time. Events may wait while the disk is full, so a segment may have events from
    # before its beginning. If the next segment has an earlier time, the clock went back.
    firsts = [
        min(_queued_from(names, begins, number), begins[number], after) - _MINUTE_NS
        for number, after in enumerate(nexts)
    ]
    lasts = [end + _MINUTE_NS for end in latest_ends(names)]
    return frozenset(
        name
        for name, first, last in zip(names, firsts, lasts, strict=True)
        for hold in holds
        if first <= (parse_time(hold.until) if hold.until else _ALWAYS)
        and (parse_time(hold.since) if hold.since else 0) <= last
    )


def _queued_from(names: Sequence[str], begins: Sequence[int], number: int) -> int:
    """Return a time (ns) before which no event of the segment *number* was queued: that of the last segment
    that began a minute earlier, as a queue may fill several within a minute after a wait; 0 if rotation may
    have removed it."""
    least = begins[number] - _MINUTE_NS
    oldest = begins[0] if segment_number(names[0]) == 1 else 0
    return next((begin for begin in reversed(begins[:number]) if begin <= least), oldest)


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
