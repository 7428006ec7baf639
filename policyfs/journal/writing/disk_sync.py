"""Regular fsync of the files of a daemon's trail. The writer does not wait for the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from policyfs.journal.writing.offload import WriterLock
from policyfs.journal.writing.writer import ChainWriter


class DiskSync:
    """A caller of fsync for the lines of a writer, at most once in *every_ns*, without its lock, as that may
    take long.

    failed: called with the error if a sync cannot begin, or old segments cannot be removed. unsure: with the
    reason (a text) if lines may not be on the disk. Both are called under the lock.
    """

    def __init__(
        self,
        writer: ChainWriter,
        lock: WriterLock,
        clock_ns: Callable[[], int],
        every_ns: int,
        *,
        failed: Callable[[OSError], None],
        unsure: Callable[[str], None],
    ) -> None:
        self._writer: Final = writer
        self._lock: Final = lock
        self._clock_ns: Final = clock_ns
        self._every_ns: Final = every_ns
        self._failed: Final = failed
        self._unsure: Final = unsure
        self._synced_ns = clock_ns()
        self.closed = False

    @property
    def is_due(self) -> bool:
        """True if lines are not synced yet, and the last sync began at least *every_ns* ago."""
        return self.is_waiting and abs(self._clock_ns() - self._synced_ns) >= self._every_ns

    @property
    def is_waiting(self) -> bool:
        """True if lines are not synced yet."""
        return not self.closed and self._writer.unsynced

    def sync_if_due(self) -> None:
        """Sync the trail's new lines to the disk if a sync is due. May wait for the disk."""
        with self._lock:
            if not self.is_due:
                return
            self._synced_ns = self._clock_ns()
            try:
                fds, seq = self._writer.begin_sync()
            except OSError as exc:
                self._failed(exc)
                return
        self.sync(fds, seq)

    def sync(self, fds: list[int], seq: int) -> None:
        """Sync and close the trail's files *fds* (descriptors). seq: the number of the last line in them."""
        failure: OSError | None = None
        for fd in fds:
            for call in (os.fsync, os.close):  # a network store reports a failed write at close(2), too
                try:
                    call(fd)
                except OSError as exc:
                    failure = failure or exc
        with self._lock:
            if failure is None:
                try:
                    self._writer.end_sync(seq)
                except OSError as exc:
                    self._failed(exc)
            else:
                reason = f"fsync: {failure.strerror}"
                self._unsure(reason)
                self._writer.sync_failed(reason)
