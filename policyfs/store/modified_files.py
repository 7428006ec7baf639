"""Writes to files that stay open, with --inotify: at most one event a second for each file.

The marks of directories then report writes to files (FAN_MODIFY), too. After the first write to a file, a
mark of the file itself makes the kernel ignore further ones, which wake nobody. Once a second the file's
attributes tell of them, until a second without a change: then the mark goes.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Final

from policyfs.store.watch import Change, Watch, WatchEvent

_FIRST_S: Final = 0.1
"""The time from a write to its event. A close in this time tells of the write."""
_PERIOD_S: Final = 1.0
_MOST: Final = 1024
"""The limit of files with a mark. Writes to further files are told at their close."""


@dataclass(slots=True)
class _File:
    """event: that of the last write. told: size and times when that was told; None if it was not yet."""

    event: WatchEvent
    due_s: float
    told: tuple[int, int, int] | None = None


class ModifiedFiles:
    """The files of one watch that were written lately. missed: the number of events without room."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._files: dict[bytes, _File] = {}
        self.missed = 0

    def wait_s(self) -> float:
        """Return the time until an event is due; infinite without one."""
        return min((file.due_s for file in self._files.values()), default=float("inf")) - time.monotonic()

    def sift(self, events: list[WatchEvent]) -> list[WatchEvent]:
        """Return these events of the watch without those of writes, and the events of writes that are due."""
        kept = []
        for event in events:
            handle = event.target_handle
            if handle is None or event.is_dir or not event.kind & (Change.MODIFY | Change.CLOSE_WRITE):
                kept.append(event)
                continue
            if event.kind & Change.CLOSE_WRITE:
                if (file := self._files.get(handle)) is not None:
                    self._tell(handle, file)
            elif handle not in self._files:
                self._begin(handle, event._replace(kind=Change.MODIFY))
            if rest := event.kind & ~Change.MODIFY:
                kept.append(event._replace(kind=rest))
        return kept + self._due()

    def _begin(self, handle: bytes, event: WatchEvent) -> None:
        if len(self._files) < _MOST and self._watch.ignore_writes(handle):
            self._files[handle] = _File(event, time.monotonic() + _FIRST_S)
        else:
            self.missed += self._version(handle) is not None

    def _tell(self, handle: bytes, file: _File) -> bool:
        """Note the present state of a file as told. Return False if nothing has changed since the last call,
        or if the file is gone."""
        now, before = self._version(handle), file.told
        file.told, file.due_s = now, time.monotonic() + _PERIOD_S
        return now is not None and now != before

    def _version(self, handle: bytes) -> tuple[int, int, int] | None:
        """Return size and times of a file. None if it is gone: for a file that is being removed,
        open_by_handle_at has answered ENOMEM."""
        with contextlib.suppress(OSError):
            stat = self._watch.stat_of_handle(handle)
            if stat is not None and stat.nlink:
                return stat.size, stat.mtime_ns, stat.ctime_ns
        return None

    def _due(self) -> list[WatchEvent]:
        now_s, events = time.monotonic(), []
        for handle, file in [*self._files.items()]:
            if file.due_s > now_s:
                continue
            if file.told is not None:  # INVARIANT: before the look, so that no write falls between the two
                self._watch.report_writes(handle)
            if not self._tell(handle, file):
                self._watch.report_writes(handle)
                del self._files[handle]
                continue
            events.append(file.event)
            if not self._watch.ignore_writes(handle):
                del self._files[handle]
        return events

