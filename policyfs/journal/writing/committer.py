"""The committer: a thread that writes required events to the trail. One write takes all events that wait.

The event loop itself never writes: it begins a commit, waits for a moment, and if the disk is slow, handles
other requests until the commit ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from policyfs.journal.writing.offload import Offload
from policyfs.journal.writing.ticket import Ticket

_MOMENT_S: Final = 0.0005
"""The longest time (s) that the event loop waits until an event is on record. A write into memory takes 0.1
ms. All other requests wait, too: on busy processors, one app's records delay half of others' opens."""
_PAUSE_S: Final = 0.02
"""The longest time (s) in which the loop does not wait for records: a slow disk takes a tenth of its time."""
_FIRST_PAUSE_S: Final = 0.00125
"""The time (s) in which the loop does not wait for records after one wait was too short; each further one
doubles it. It begins short: a busy processor may start the thread too late, and a record without a wait takes
two more rounds."""


class Commit:
    """A group of tickets (required events) that is being written to the trail. Thread-safe."""

    __slots__ = ("_done", "_mutex", "_tell", "is_done", "tickets")

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self.tickets: Final = tickets
        self.is_done = False
        """True once each ticket says whether its event is on record."""
        self._done = threading.Lock()
        self._done.acquire()
        self._mutex = threading.Lock()
        self._tell: Callable[[], None] | None = None

    def wait(self, seconds: float) -> bool:
        """Block this thread until the commit ends, at most *seconds*. Return True if it has ended."""
        if not self.is_done and self._done.acquire(timeout=seconds):
            self._done.release()
        return self.is_done

    def when_done(self, tell: Callable[[], None]) -> None:
        """Make the writing thread call *tell* when this commit ends, or call it now if it has."""
        with self._mutex:
            self._tell = tell
            done = self.is_done
        if done:
            tell()

    def end(self) -> None:
        """Mark the commit as done, and wake the threads that wait for it."""
        with self._mutex:
            self.is_done = True
            tell = self._tell
        self._done.release()
        if tell is not None:
            tell()


class Committer:
    """The thread that writes required events (tickets), started by the first commit. Thread-safe, but for
    at_once()."""

    def __init__(self, write: Callable[[Sequence[Ticket]], None], offload: Offload | None = None) -> None:
        """write: writes tickets, and sets the result of each (ticket.error). offload: writes most tickets of
        at_once() without a Python thread."""
        self._write = write
        self._offload = offload
        self._mutex = threading.Lock()
        self._waiting: list[Commit] = []
        self._some = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False
        self._looks_from_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def begin(self, tickets: Sequence[Ticket]) -> Commit:
        """Queue tickets for the thread. After close(), or if no thread can start, write them in this call."""
        commit = Commit(tickets)
        with self._mutex:
            taken = not self._closed and self._has_thread()
            if taken:
                self._waiting.append(commit)
        if taken:
            self._some.release()
        else:
            self._write(tickets)
            commit.end()
        return commit

    def _has_thread(self) -> bool:
        """Start the thread if it does not run. Return False if the system allows no thread now."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="committer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def at_once(self, tickets: Sequence[Ticket]) -> Commit:
        """Begin to write tickets. If recent writes were fast, wait a moment for the end (is_done). Event loop
        only."""
        if self._busy or self._waiting or time.monotonic() < self._looks_from_s:
            return self.begin(tickets)
        begun = self._offload is not None and self._offload.write(tickets, _MOMENT_S)
        if begun and all(ticket.error is None for ticket in tickets):
            commit = Commit(tickets)
            commit.end()
        else:
            commit = self.begin(tickets)  # the write takes longer, or has failed: the thread does it
        if commit.is_done or (not begun and commit.wait(_MOMENT_S)):
            self._pause_s = _FIRST_PAUSE_S
        else:
            self._looks_from_s = time.monotonic() + self._pause_s
            self._pause_s = min(_PAUSE_S, 2 * self._pause_s)
        return commit

    def close(self) -> None:
        """Wait until the thread has written the queued tickets and has ended. A second call does nothing."""
        with self._mutex:
            self._closed, thread = True, self._thread
        self._some.release()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._some.acquire()
            with self._mutex:
                commits, self._waiting = self._waiting, []
                self._busy = bool(commits)
                if not commits and self._closed:
                    return
            if commits:
                tickets = [ticket for commit in commits for ticket in commit.tickets]
                try:
                    self._write(tickets)
                except Exception as bug:  # noqa: BLE001 - kept in each ticket; the thread must go on
                    for ticket in tickets:
                        ticket.error = ticket.error and bug
                finally:
                    self._busy = False
                    for commit in commits:
                        commit.end()
