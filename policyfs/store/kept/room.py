"""The room of what is kept: its age, and each app's share of the limit.

While all of it together is below the limit, each app may keep as much as it loses. Above, what goes first is
the oldest of the app that has most, so that an app that loses much on purpose pushes out nothing of others
that have less. What is younger than a day stays, unless the disk is nearly full."""

from __future__ import annotations

import calendar
import contextlib
import heapq
import os
import stat
import threading
import time
from collections import Counter
from typing import Final

from policyfs.store.kept.bins import RECORDS, Bins, day_of, time_of
from policyfs.store.kept.record import Record
from policyfs.trail.lines.line import iso_time

_DAY_NS: Final = 86_400 * 10**9
_NEARLY_FULL: Final = 50
"""1/50 of the disk stays free."""
_SHARE: Final = 10
"""1/10 of the disk, if no limit is set."""
_AT_ONCE: Final = 10_000
_REST_S: Final = 60.0


class NoRoomError(Exception):
    """The error if there is no room to keep more. The message is the reason."""


class Room:
    """The limit of what is kept. Thread-safe, but for tend(), which one thread calls. limit: bytes, or 0 for
    a tenth of the disk.

    INVARIANT: only check() and tend() ask the disk, so that a store that hangs stops nothing else."""

    def __init__(self, root_fd: int, limit: int = 0) -> None:
        self._root_fd = root_fd
        self._limit = limit
        self.limit = limit
        """The limit in bytes; 0 before the disk has told its size."""
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()
        self._rests_until_s = 0.0
        self.files = 0
        self.oldest_ns = 0
        self.lost = 0
        """The number of kept objects that had to go before their age."""

    @property
    def used(self) -> int:
        """The bytes kept of all apps."""
        with self._lock:
            return sum(self._used.values())

    @property
    def is_crowded(self) -> bool:
        """True if the limit is near, so that tend() is due. False again for a minute after each tend()."""
        return 0 < self.limit * 9 // 10 < self.used and time.monotonic() > self._rests_until_s

    def _disk(self) -> os.statvfs_result:
        disk = os.fstatvfs(self._root_fd)
        self.limit = self._limit or disk.f_blocks * disk.f_frsize // _SHARE
        return disk

    def report(self) -> dict[str, int | str | None]:
        """Return files, bytes and limit of what is kept, the oldest one's time, and how many had to go."""
        oldest = iso_time(self.oldest_ns) if self.oldest_ns else None
        return {
            "files": self.files, "bytes": self.used, "limit": self.limit, "oldest": oldest, "lost": self.lost,
        }  # fmt: skip

    def check(self, app: str, size: int, *, reserve: bool = False) -> None:
        """Raise NoRoomError if an app may not keep *size* bytes more. reserve: count them already, for a copy
        that takes time: other copies begin meanwhile."""
        disk, limit = self._disk(), self.limit
        if disk.f_bavail < disk.f_blocks // _NEARLY_FULL:
            raise NoRoomError(f"less than {100 // _NEARLY_FULL} % of the disk is free")
        with self._lock:
            used, mine, apps = sum(self._used.values()), self._used[app], len(+self._used)
            if used + size > limit and mine + size > limit // max(1, apps):
                raise NoRoomError(f"its share of {limit} bytes for what is kept is full (--keep-size)")
            self._used[app] += size * reserve

    def took(self, app: str, size: int, files: int = 1) -> None:
        """Count kept bytes, of files or of records."""
        with self._lock:
            self._used[app] += size
            self.files += files
            if files and not self.oldest_ns:
                self.oldest_ns = time.time_ns()

    def tend(self, bins: Bins) -> None:
        """Count anew, and remove what is too old, or has no room. Takes long. bins: not used elsewhere."""
        today = day_of(int(time.time()))
        used: Counter[str] = Counter()
        files = oldest_ns = 0
        for app in bins.apps():
            for day in bins.days(app):
                if day < today:
                    _remove_day(bins, app, day)
                    continue
                used[app] += _records_size(bins, app, day)
                for name, size in bins.sizes(app, day):
                    used[app] += size
                    files += 1
                    oldest_ns = min(oldest_ns or time_of(name), time_of(name))
        self._disk()
        most, lost, oldest = self.limit * 9 // 10, self.lost, dict[str, list[tuple[str, str, int]]]()
        while sum(used.values()) > most:
            app = max(used, key=lambda one: used[one])
            oldest[app] = oldest.get(app) or _oldest(bins, app)
            if not oldest[app]:
                break
            name, day, size = oldest[app][-1]
            disk = self._disk()
            full = disk.f_bavail < disk.f_blocks // _NEARLY_FULL
            if time.time_ns() - time_of(name) < _DAY_NS and not full:
                break
            oldest[app].pop()
            used[app] -= size
            with contextlib.suppress(FileNotFoundError):  # another daemon, or a command, was first
                drop(bins, app, day, name, "there was no room for it")
                self.lost += 1
                files -= 1
        if self.lost != lost:
            firsts = [found[-1] for app in used if (found := _oldest(bins, app, most=1))]
            oldest_ns = min((time_of(name) for name, _, _ in firsts), default=0)
        with self._lock:
            self._used = used
            self._rests_until_s = time.monotonic() + _REST_S
            self.files, self.oldest_ns = files, oldest_ns


def drop(bins: Bins, app: str, day: str, name: str, why: str) -> None:
    """Remove a kept object for ever, on record. Raise OSError."""
    until_s = calendar.timegm(time.strptime(day, "%Y%m%d"))
    where = bins.of(app, until_s)
    where.append(Record(time.time_ns(), "gone", b"", until_s, kept=name, why=why))
    os.unlink(name, dir_fd=where.fd)


def _records_size(bins: Bins, app: str, day: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        fd = bins.directory(app, day)
        try:
            return os.stat(RECORDS, dir_fd=fd, follow_symlinks=False).st_size
        finally:
            os.close(fd)
    return 0


def _oldest(bins: Bins, app: str, most: int = _AT_ONCE) -> list[tuple[str, str, int]]:
    """Return (name, day, bytes) of an app's oldest kept objects, the oldest last. Few at once, since the
    daemon's memory must not grow with what is kept."""
    found = ((name, day, size) for day in bins.days(app) for name, size in bins.sizes(app, day))
    return heapq.nsmallest(most, found)[::-1]


def _remove_day(bins: Bins, app: str, day: str) -> None:
    """Remove the directory of a day that is over, with all in it."""
    with contextlib.suppress(OSError):
        fd = bins.directory(app, day)
        try:
            for name in os.listdir(fd):
                if name != RECORDS:
                    is_dir = stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
                    (os.rmdir if is_dir else os.unlink)(name, dir_fd=fd)  # a killed undo's, not whole yet
            os.unlink(RECORDS, dir_fd=fd)
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            try:
                os.rmdir(day, dir_fd=above)
            finally:
                os.close(above)
        finally:
            os.close(fd)
