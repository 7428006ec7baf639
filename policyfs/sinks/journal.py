"""The journal of one mount's trail: what was decided is on record, or the caller hears of it.

Two strengths (`domain.Audit`). REQUIRED: the line is in the file when `record` returns, or it
raises and the request must be refused. BEST_EFFORT: queued, written by `flush`; what did not
fit into the queue is counted, and the count goes on record once there is room.

What survives: a crash or kill of the daemon loses the queue (best effort, at most what
arrived since the last flush) and no REQUIRED line. A power loss may in addition lose lines
written since the last sync, which `flush` does at most once a second.

Locks: `_lock` guards the writer (held while one slice is formatted and written, never during
fsync); `_queue_lock` guards the queue's ends, gaps and folded denials (held for microseconds).
Order: `_lock` before `_queue_lock`.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from policyfs.domain import Audit
from policyfs.errors import PolicyfsError
from policyfs.sinks.segments import TrailDirectory
from policyfs.sinks.writer import ChainWriter, Gap
from policyfs.trail.event import DENY, Event
from policyfs.trail.fold import DenialFold

_SLICE: Final = 100
"""Events formatted and written in one go: about a millisecond of the interpreter lock."""

_BREATH_S: Final = 0.00005
"""Pause between two slices of a flush, in which waiting threads get the interpreter lock."""

_SECOND_NS: Final = 1_000_000_000
_PLACE_CHECK_NS: Final = _SECOND_NS


_QUEUE_FULL: Final = "queue full"


class JournalError(PolicyfsError):
    """An event that must be on record could not be recorded, or the trail not be opened."""


class JournalStats(NamedTuple):
    """The state of a journal: counts since it was opened, sizes in bytes.

    written: records in the file, the journal's own included. dropped: best-effort events that
    will never be recorded. refused: required events that failed. folded: repeated denials that
    were counted. seq, head: number and digest of the last line (keep a copy of them elsewhere,
    and nobody can shorten or reseal the trail unnoticed). failing: the last write failed. bugs:
    how often queued events could not be put into lines (they are counted as dropped).
    """

    written: int
    dropped: int
    refused: int
    folded: int
    queued: int
    segment: str
    bytes: int
    seq: int
    head: str
    failing: bool
    bugs: int
    last_error: str


class Journal:
    """Records events of one mount in its own directory. Thread-safe."""

    def __init__(
        self,
        directory: str,
        mount_id: str,
        *,
        keep: int,
        segment_bytes: int = 64 * 1024 * 1024,
        queue: int = 10_000,
        clock_ns: Callable[[], int] = time.time_ns,
        fold_ns: int = _SECOND_NS,
        sync_ns: int = _SECOND_NS,
    ) -> None:
        """Open the trail in this directory, made with mode 0700 if missing, and go on with its chain.

        segment_bytes: size at which a new segment is begun. keep: how many segments stay, 0
        for all. queue: how many best-effort events may wait. clock_ns: ns since 1970. fold_ns:
        how long a denial stands for its repeats, 0 to record each. sync_ns: least time between
        two syncs. Raises JournalError if nothing can be written there, or another journal
        (which holds a lock on the directory) already does.
        """
        self._directory_path = directory
        self._clock_ns = clock_ns
        self._sync_ns = sync_ns
        self._limit = queue
        self._queue: deque[Event | Gap] = deque()
        self._fold = DenialFold(fold_ns)
        self._lock = threading.Lock()
        self._queue_lock = threading.Lock()
        self._waiting = 0
        self._dropped = 0
        self._refused = 0
        self._folded = 0
        self._bugs = 0
        self._last_error = ""
        self._outage: Gap | None = None
        self._closed = False
        self._finished = False
        self._synced_ns = self._checked_ns = clock_ns()
        self._directory = _open_directory(directory)
        try:
            self._writer = ChainWriter(
                self._directory, mount_id, segment_bytes=segment_bytes, keep=keep, clock_ns=clock_ns
            )
        except OSError as exc:
            self._directory.close()
            raise _cannot(directory, exc) from exc
        self._first_seq = self._writer.seq

    def record(self, event: Event, audit: Audit) -> None:
        """Put one event on record with this strength.

        Raises JournalError for a REQUIRED event that could not be written; never for others, and
        never for what others queued.
        """
        if event.decision == DENY and audit and self._is_repeat(event):
            return
        if audit is Audit.BEST_EFFORT:
            if len(self._queue) < self._limit and not self._closed:
                self._queue.append(event)
            else:
                self._drop(event)
                return
        elif audit is Audit.REQUIRED:
            self._record_now(event)
        else:
            return
        if event.decision == DENY:
            with self._queue_lock:
                self._fold.recorded(event)

    def flush(self) -> None:
        """Write what is queued, in slices, and sync what was written if a sync is due.

        Call it every 50 to 100 ms, best from a thread: it may wait for the disk. Never raises: a
        failure to write shows in `stats`, keeps the queue, and is tried again at the next call.
        """
        self._collect_folded(everything=False)
        while self._write_slice():
            if self._waiting:
                break  # whoever waits with a REQUIRED event writes the rest of the queue itself
            time.sleep(_BREATH_S)
        self._tidy()
        self._sync_if_due()

    def detached(self, end: dict[str, object]) -> None:
        """Record that the mount left the tree and goes on, now or before the next event. Never raises."""
        with self._lock:
            if self._closed:
                return
            self._writer.note("detached", end)
            try:
                self._append(())
            except OSError as exc:
                self._failed(exc)

    def close(self, end: dict[str, object] | None = None) -> None:
        """Write and sync what is left, record the end, give the directory up. Idempotent.

        end: fields of the last record, which say why recording ends.
        Never raises: what could not be written shows in `stats` (queued, dropped, last_error).
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._collect_folded(everything=True)
        while self._write_slice():
            pass
        with self._lock:
            try:
                self._give_up_queue()
                self._writer.note("close", end or {})
                self._append(())
            except OSError as exc:
                self._failed(exc)
            self._finished = True  # from here on the descriptors may be anybody's
            fds = self._writer.close()
            self._directory.close()
        self._sync(fds, self._writer.seq)

    def stats(self) -> JournalStats:
        """A snapshot of the counts, taken without waiting for a writer."""
        writer = self._writer
        seq, head = writer.position
        return JournalStats(
            written=seq - self._first_seq,
            dropped=self._dropped,
            refused=self._refused,
            folded=self._folded,
            queued=len(self._queue),
            segment=writer.segment,
            bytes=writer.segment_size,
            seq=seq,
            head=head,
            failing=self._outage is not None,
            bugs=self._bugs,
            last_error=self._last_error,
        )

    # -- denials that repeat

    def _is_repeat(self, event: Event) -> bool:
        with self._queue_lock:
            if not self._fold.absorb(event):
                return False
            self._folded += 1
            return True

    def _collect_folded(self, *, everything: bool) -> None:
        # Beyond the queue's limit, by no more than what the fold remembers: a count is never dropped,
        # and a queue that is full lets no denial begin a new one.
        with self._queue_lock:
            self._queue.extend(self._fold.collect(self._clock_ns(), all_of_them=everything))

    # -- writing

    def _drop(self, event: Event, reason: str = _QUEUE_FULL) -> None:
        with self._queue_lock:
            self._dropped += 1
            last = self._queue[-1] if self._queue else None
            if not isinstance(last, Gap) or last.reason != reason:
                last = Gap(reason, event.time_ns)
                self._queue.append(last)
            last.dropped += event.weight
            last.last_ns = event.time_ns

    def _record_now(self, event: Event) -> None:
        with self._queue_lock:
            self._waiting += 1
        try:
            with self._lock:
                if self._closed:
                    raise OSError(errno.EBADF, "the journal is closed")
                batch: list[Event | Gap] = []
                while self._queue:
                    batch = self._take()
                    if self._outage is None and not self._queue:
                        break  # the last slice and the event itself go out in one write
                    self._write(batch)
                    batch = []
                self._write(batch, event)
        except OSError as exc:
            self._refuse(event, exc)
        finally:
            with self._queue_lock:
                self._waiting -= 1

    def _refuse(self, event: Event, exc: OSError) -> NoReturn:
        with self._queue_lock:
            self._refused += 1
            if self._outage is not None:
                self._outage.refused += 1
                self._outage.last_ns = event.time_ns
        raise _cannot(self._directory_path, exc) from exc

    def _write_slice(self) -> bool:
        """One step of a flush; False if the queue is empty or cannot be written now."""
        with self._lock:
            batch = [] if self._finished else self._take()
            if not batch:
                return False
            try:
                self._write(batch)
            except OSError:
                return False  # _write has put the batch back and noted the error
            return True

    def _take(self) -> list[Event | Gap]:
        # One at a time while writing fails, so that an attempt costs little.
        count = 1 if self._outage is not None else _SLICE
        with self._queue_lock:
            return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _write(self, batch: list[Event | Gap], event: Event | None = None) -> None:
        """Write a batch taken from the queue, and one event more; the batch goes back on failure."""
        try:
            self._append(batch if event is None else [*batch, event])
        except OSError as exc:
            with self._queue_lock:
                self._queue.extendleft(reversed(batch))
            self._failed(exc)
            raise
        except Exception as exc:
            if not batch:
                raise  # the event's own fault, so its caller's
            self._give_up(batch, exc)
            if event is not None:
                self._write([], event)

    def _give_up(self, batch: list[Event | Gap], bug: Exception) -> None:
        """A batch that cannot be put into lines would fail for ever and keep all others waiting."""
        self._bugs += 1
        self._last_error = f"bug: {bug!r}"
        for lost in batch:
            if isinstance(lost, Event):
                self._drop(lost, self._last_error)
            else:
                self._queue.append(lost)

    def _failed(self, exc: OSError) -> None:
        self._last_error = f"{exc.strerror or exc}"
        if self._outage is None:
            self._outage = Gap(f"could not write: {self._last_error}", self._clock_ns())

    def _append(self, items: Sequence[Event | Gap]) -> None:
        """Write these; what was refused while nothing could be written goes on record before them.

        In one piece with them: a disk that has room for the one but not for the other would
        otherwise fill up with records of its own fullness.
        """
        outage = self._outage
        self._writer.write([outage, *items] if outage is not None and outage.refused else items)
        self._outage = None

    def _give_up_queue(self) -> None:
        """At the end: what had no room is counted instead, which takes little."""
        with self._queue_lock:
            lost = list(self._queue)
        if not lost:
            return
        gap = Gap(f"not written by the end: {self._last_error}", self._clock_ns())
        for item in lost:
            gap.dropped += item.dropped if isinstance(item, Gap) else item.weight
        self._dropped += sum(isinstance(item, Event) for item in lost)
        self._append([gap])
        with self._queue_lock:
            self._queue.clear()

    # -- tidying and syncing

    def _tidy(self) -> None:
        with self._lock:
            now_ns = self._clock_ns()
            if self._closed or abs(now_ns - self._checked_ns) < _PLACE_CHECK_NS:
                return
            self._checked_ns = now_ns
            try:
                self._writer.check_place()
                if self._outage is not None:
                    self._append(())
                self._writer.prune()
            except OSError as exc:
                self._failed(exc)

    def _sync_if_due(self) -> None:
        with self._lock:
            now_ns = self._clock_ns()
            if self._closed or not self._writer.unsynced or abs(now_ns - self._synced_ns) < self._sync_ns:
                return
            self._synced_ns = now_ns
            try:
                fds, seq = self._writer.begin_sync()
            except OSError as exc:
                self._failed(exc)
                return
        self._sync(fds, seq)

    def _sync(self, fds: list[int], seq: int) -> None:
        """fsync and close these descriptors; without `_lock`, for it may take long."""
        failure: OSError | None = None
        for fd in fds:
            try:
                os.fsync(fd)
            except OSError as exc:
                failure = exc
            finally:
                os.close(fd)
        with self._lock:
            if failure is None:
                self._writer.end_sync(seq)
            else:
                self._last_error = f"fsync: {failure.strerror}"
                self._writer.sync_failed(self._last_error)


def _open_directory(path: str) -> TrailDirectory:
    try:
        return TrailDirectory(path)
    except OSError as exc:
        raise _cannot(path, exc) from exc


def _cannot(directory: str, exc: OSError) -> JournalError:
    help_text = {
        errno.EWOULDBLOCK: "another policyfs records there: is the mount already running?",
        errno.EPERM: "its owner alone may write in it: chown root and chmod 0700",
        errno.ENOSPC: "make room on its file system",
        errno.EDQUOT: "raise the quota of its file system",
        errno.EROFS: "its file system is read-only: remount it, or choose another with --trail",
        errno.ENOENT: "the directory is gone: put it back, and recording goes on",
        errno.EACCES: "policyfs may not write there: run as root, or choose another with --trail",
    }.get(exc.errno or 0, "see the daemon's log")
    return JournalError(f"cannot record in the trail at {directory}: {exc.strerror or exc} ({help_text})")
