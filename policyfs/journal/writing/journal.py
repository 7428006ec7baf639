"""The journal, which records the events of one mount in its trail.

REQUIRED events (`domain.Audit`): `admit` returns a ticket. After `commit`, the line is in the file if the
ticket has no error; before that, the request must not go on. BEST_EFFORT: `admit` queues the event, and
`flush` writes it; without room it is only counted, and the number goes on record later. So are repeated
denials, and events of an app beyond its limit of trail bytes (accounts.py). But an allowed REQUIRED event
always gets a line: its ticket says how long its app must wait.

Durability: if the daemon crashes or is killed, no REQUIRED line is lost, but the events since the last flush,
and the counts of the last second. After a power loss, lines since the last fsync may be missing, too. `flush`
calls fsync at most once a second.

Locks: `_lock` guards the writer, while lines are made and written (at most 120 events), but never during
fsync. The intake's lock guards the queue, gaps and accounts for microseconds: `admit` takes only this one,
and never waits for a disk. `_count_lock` guards the numbers of threads in `commit` and of refused events. A
thread takes `_lock` first.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import PolicyText
from policyfs.journal.files.retention import Keep
from policyfs.journal.writing.accounts import Accounts, Limits
from policyfs.journal.writing.announcements import Announcements
from policyfs.journal.writing.backlog import QUEUE, QUEUE_BYTES, Backlog, Item
from policyfs.journal.writing.committer import Commit, Committer
from policyfs.journal.writing.disk_sync import DiskSync
from policyfs.journal.writing.gap import Gap
from policyfs.journal.writing.intake import Intake
from policyfs.journal.writing.offload import Offload, WriterLock
from policyfs.journal.writing.sealing import begin_sealing
from policyfs.journal.writing.stats import JournalStats
from policyfs.journal.writing.ticket import (
    AHEAD,
    SLICE,
    SLICE_BYTES,
    JournalError,
    Ticket,
    cannot_record,
    in_groups,
    open_directory,
    reason_of,
)
from policyfs.journal.writing.writer import ChainWriter
from policyfs.trail.lines.event import DENY, Event, Holder

if TYPE_CHECKING:
    from policyfs.journal.sealing.keys import KeyStore
    from policyfs.journal.writing.segment import Appender

__all__ = ["Journal", "JournalError", "JournalStats"]

_BREATH_S: Final = 0.00005
"""The pause between two writes of a flush, in seconds. Other threads get the interpreter lock meanwhile."""

_SECOND_NS: Final = 1_000_000_000
_LOOK_NS: Final = 900_000_000  # between two looks at the directory
_IDLE_LOOK_NS: Final = 30_000_000_000  # while nothing is written
_STALE_NS: Final = 2_000_000_000
"""The age of the last look, in ns, from which on another precedes the next write (idle flushes are rare)."""


class Journal:
    """The journal of one mount: it records events in the mount's trail directory. Thread-safe."""

    def __init__(
        self,
        directory: str,
        mount_id: str,
        *,
        keep: Keep,
        segment_bytes: int = 64 * 1024 * 1024,
        queue: int = QUEUE,
        queue_bytes: int = QUEUE_BYTES,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        clock_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        fold_ns: int = _SECOND_NS,
        sync_ns: int = _SECOND_NS,
        keys: KeyStore | None = None,
        appender: Appender | None = None,
        upgrades: bool = False,
    ) -> None:
        """Open the trail in *directory* (created with mode 0700 if missing) and continue its hash chain.

        segment_bytes: the size at which a new segment is begun. keep: the number of segments that stay (0:
        all), or further limits. queue, queue_bytes: the limits of waiting best-effort events. limits: the
        trail bytes of each app. clock_ns: returns ns since 1970. steady_ns: a clock that never goes back.
        fold_ns: the time in which repeats of a recorded denial are only counted (0: each is recorded), and
        after which counts are recorded. sync_ns: the least time between two fsyncs. keys: sign closed
        segments, or None. appender: writes for the event loop. upgrades: as for ChainWriter. Raises
        JournalError if the directory cannot be written, or is locked by another journal.
        """
        self._directory_path = directory
        self._clock_ns = clock_ns
        self._intake = Intake(Backlog(queue, queue_bytes), Accounts(limits, fold_ns), steady_ns)
        self._lock = WriterLock()
        self._count_lock = threading.Lock()
        self._waiting = self._refused = self._bugs = 0
        self._last_error = ""
        self._outage: Gap | None = None
        self._announced = Announcements(clock_ns)
        self.announce: Final = self._announced.add
        self._closed = False
        self._looked_ns = self._checked_ns = clock_ns()
        self._checked_seq = 0
        self._directory = open_directory(directory)
        try:
            self._writer = ChainWriter(
                self._directory, mount_id, segment_bytes=segment_bytes, keep=keep, clock_ns=clock_ns,
                upgrades=upgrades,
            )  # fmt: skip
        except OSError as exc:
            self._directory.close()
            raise cannot_record(directory, exc) from exc
        self._first_seq = self._writer.seq
        self._offload = None if appender is None else Offload(
            appender, self._writer, self._lock,
            take=self._take_now, put_back=self._intake.put_back, recorded=self._recorded,
        )  # fmt: skip
        self._committer = Committer(self.commit, self._offload)
        self._sealer = begin_sealing(directory, self._writer, self._lock, keys) if keys is not None else None
        self._disk = DiskSync(
            self._writer, self._lock, clock_ns, sync_ns, failed=self._failed, unsure=self._unsure
        )

    def record(self, event: Event, audit: Audit) -> None:
        """Admit, commit and check one event: only for tests. Raises JournalError."""
        ticket = self.admit(event, audit)
        if ticket is not None:
            self.commit([ticket])
            ticket.check()

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Queue, count or drop an event. Return a ticket if it must be committed before its request goes on,
        else None. paid: True if the app has already waited because of its limit of trail bytes. Never waits
        for the disk, never raises."""
        return self._intake.admit(event, audit, paid=paid)

    def debt_s(self, holder: Holder) -> float:
        """Return the seconds until an app has paid for the bytes that it has added to the trail, or 0."""
        return self._intake.debt_s(holder)

    def commit(self, tickets: Sequence[Ticket]) -> None:
        """Write a few queued events, then those of *tickets*, and set each result. May wait for the disk.
        Never raises."""
        with self._count_lock:
            self._waiting += 1
        try:
            with self._lock:
                self._look_first()
                for group in in_groups([ticket for ticket in tickets if ticket.error is not None]):
                    self._commit_group(group)
        finally:
            with self._count_lock:
                self._waiting -= 1

    def at_once(self, tickets: Sequence[Ticket]) -> Commit:
        """Make a thread write *tickets*, and wait at most 0.5 ms for the end (is_done). Event loop only."""
        return self._committer.at_once(tickets)

    def flush_steps(self) -> Iterator[None]:
        """Write the queued best-effort events, at most 100 in each step of the iterator; flush() writes what
        is left. Event loop only."""
        return iter(()) if self._offload is None else self._offload.flush(self._intake.waiting())

    @property
    def is_due(self) -> bool:
        """True if flush() has work, such as queued events, a due fsync, or a due look at the directory."""
        return self._has_events() or self._disk.is_due or self._is_untidy(self._clock_ns())

    @property
    def is_busy(self) -> bool:
        """True if flush() has work, now or within a second, besides a look at the directory."""
        return self._has_events() or self._disk.is_waiting

    def _has_events(self) -> bool:
        writes = self._offload is not None and self._offload.is_under_way
        return writes or not self._intake.is_idle or self._outage is not None or bool(self._announced)

    def flush(self) -> None:
        """Write the queued events and counts that are due, and call fsync if it is due. Never raises: after a
        failed write, stats() shows the error, and the queue stays for the next call."""
        self._write_announced()
        self._collect_folded(everything=False)
        with self._lock:  # waits for a write under way; if that fails, its items are in the queue again
            self._look_first()
            left = self._intake.waiting()  # events that come later do not count: the loop might never end
        while left > 0 and (written := self._write_slice()):
            left -= written
            if self._waiting:
                break  # a thread waits to commit REQUIRED events, and will also write queued events
            time.sleep(_BREATH_S)
        self._tidy()
        self._disk.sync_if_due()

    def tell(
        self, kind: str, *records: dict[str, object], policy: PolicyText | None = None, previous: str = ""
    ) -> None:
        """Write records about the mount itself, now or (after a failed write) before the next event. Never
        raises. May wait for the disk; announce(), with the same arguments, only queues them."""
        self.announce(kind, *records, policy=policy, previous=previous)
        self._write_announced()

    def _write_announced(self) -> None:
        with self._lock:
            if self._announced and not self._closed:
                try:
                    self._append(())
                except OSError as exc:
                    self._failed(exc)

    def close(self, end: dict[str, object] | None = None) -> None:
        """Write all waiting events and a ``close`` record, sync the files, and close the directory.

        A second call does nothing. Never raises: stats() counts events that could not be written. end: the
        fields of the ``close`` record, with the reason.
        """
        self._committer.close()
        with self._lock:
            if self._closed:
                return
            self._intake.close()
            self._closed = self._disk.closed = True
        self._collect_folded(everything=True)
        while self._write_slice():
            pass
        with self._lock:
            try:
                self._give_up_queue()
                self.announce("close", end or {})
                self._append(())
            except OSError as exc:
                self._failed(exc)
            self._writer.finished = True  # from here on the descriptors may be reused
            fds = self._writer.close()
        self._disk.sync(fds, self._writer.seq)
        if self._sealer is not None:
            self._sealer.close()  # before the directory's lock is released to a next daemon
        if self._offload is not None:
            self._offload.close()
        self._directory.close()

    def stats(self) -> JournalStats:
        """Return the state and the counts of the journal. Does not wait for the writer."""
        queued, dropped, folded = self._intake.counts()
        writer, sealer = self._writer, self._sealer
        seq, head = writer.position
        return JournalStats(
            written=seq - self._first_seq, dropped=dropped, refused=self._refused, folded=folded,
            queued=queued, segment=writer.segment, bytes=writer.segment_size, seq=seq, head=head,
            failing=self._outage is not None, bugs=self._bugs, last_error=self._last_error,
            sealed=sealer.sealed if sealer else "", seal_error=sealer.error if sealer else "",
            kept_back=writer.kept_back, last_end=writer.last_end,
        )  # fmt: skip

    def _collect_folded(self, *, everything: bool) -> None:
        # A count is never dropped. While nothing can be written, each count stays in its account.
        if everything or self._outage is None:
            self._intake.collect(self._clock_ns(), everything=everything)

    def _commit_group(self, group: Sequence[Ticket]) -> None:
        """Write the events of all tickets in *group* at once. If that fails, write each event alone."""
        batch: list[Item] = []
        try:
            if self._closed:
                raise OSError(errno.EBADF, "the journal is closed")
            batch = [] if self._outage is not None else self._take(AHEAD)
            self._write(batch, [ticket.item for ticket in group])
        except OSError as exc:
            if len(group) == 1 and not batch:
                self._refuse(group[0], exc)
                return
        except Exception as bug:  # noqa: BLE001 - the event cannot be formatted: its caller gets the bug
            if len(group) == 1:
                group[0].error = bug
                return
        else:
            for ticket in group:
                self._recorded(ticket)
            return
        for ticket in group:
            self._commit_group([ticket])

    def _recorded(self, ticket: Ticket) -> None:
        ticket.error = None
        if ticket.event.decision == DENY:
            self._intake.recorded(ticket.event)

    def _refuse(self, ticket: Ticket, exc: OSError) -> None:
        with self._count_lock:
            self._refused += 1
            if self._outage is not None:
                self._outage.refuse(ticket.event)
        ticket.error = cannot_record(self._directory_path, exc)

    def _write_slice(self) -> int:
        """Write the oldest events of the queue, at most 100. Return their number; 0 if the write failed."""
        with self._lock:
            batch = [] if self._writer.finished else self._take()
            try:
                if batch:
                    self._write(batch)
            except OSError:
                return 0  # _write has put the batch back and noted the error
            return len(batch)

    def _take_now(self, most: int) -> list[Item] | None:
        """Take items for a write that the event loop begins; None if it may write nothing now."""
        refused = self._closed or self._outage is not None or self._announced
        return None if refused or self._is_stale(self._clock_ns()) else self._take(most)

    def _take(self, most: int = SLICE) -> list[Item]:
        # While writes fail, each attempt takes only one item, so that it costs little.
        count = 1 if self._outage is not None else most
        return self._intake.take(count, SLICE_BYTES)

    def _write(self, batch: list[Item], required: Sequence[Item] = ()) -> None:
        """Write *batch* (items of the queue), then *required* events. If that fails, put the batch back."""
        try:
            self._append([*batch, *required])
        except OSError as exc:
            self._intake.put_back(batch)
            self._failed(exc)
            raise
        except Exception as exc:
            if not batch:
                raise
            if not required:
                self._give_up(batch, exc)
                return
            self._intake.put_back(batch)  # a later flush finds out whether the batch was the reason
            self._write([], required)

    def _give_up(self, batch: list[Item], bug: Exception) -> None:
        """Drop the events of a batch in which some item cannot be formatted, or no later event could be
        written."""
        self._bugs += 1
        self._last_error = f"bug: {bug!r}"
        self._intake.give_up(batch, self._last_error)

    def _unsure(self, reason: str) -> None:
        self._last_error = reason

    def _failed(self, exc: OSError) -> None:
        self._last_error = reason_of(self._directory_path, exc)
        if self._outage is None:
            self._outage = Gap(f"could not write: {self._last_error}", self._clock_ns())

    def _append(self, items: Sequence[Item]) -> None:
        """Write *items*, and before them, in the same write, a gap record if requests were refused because
        writes failed. (In a write of its own, gap records would fill up a nearly full disk.)"""
        self._announced.pass_on(self._writer)
        outage = self._outage
        self._writer.write([outage, *items] if outage is not None and outage.refused else items)
        self._outage = None
        self._announced.wrote()

    def _give_up_queue(self) -> None:
        """Empty the queue into one gap record, at the end, if the disk has no room for the events."""
        gap = self._intake.lost(f"not written by the end: {self._last_error}", self._clock_ns())
        if gap is not None:
            self._append([gap])
            self._intake.clear()

    def _is_untidy(self, now_ns: int) -> bool:
        is_idle = self._checked_seq == self._writer.seq and self._outage is None
        return abs(now_ns - self._checked_ns) >= (_IDLE_LOOK_NS if is_idle else _LOOK_NS)

    def _is_stale(self, now_ns: int) -> bool:
        return abs(now_ns - self._looked_ns) >= _STALE_NS

    def _look_first(self) -> None:
        """Look at the directory before a write that follows a rest. The caller holds the lock."""
        now_ns = self._clock_ns()
        if self._closed or not self._is_stale(now_ns):
            return
        self._looked_ns = now_ns
        try:
            self._writer.check_place()
        except OSError as exc:
            self._failed(exc)

    def _tidy(self) -> None:
        with self._lock:
            now_ns = self._clock_ns()
            if self._closed or not self._is_untidy(now_ns):
                return
            self._looked_ns = self._checked_ns = now_ns
            self._checked_seq = self._writer.seq
            try:
                self._writer.check_place()
                if self._outage is not None:
                    self._append(())
                self._writer.prune()
            except OSError as exc:
                self._failed(exc)
