"""Changes to one file, and their locks: between the daemons of the store (latches.py), and in this daemon.

A change that may wait for the disk runs on a thread (`in_thread`), any other on the loop, with no await
inside (`on`). They exclude each other."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar, TypeVarTuple

import trio

from policyfs.domain import Decision
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Head
from policyfs.linux import libc
from policyfs.store.locking.latches import Latches

_WAIT_S: Final = 5.0
"""The longest wait for another daemon's change of a file; most take less."""
_PAUSE_S: Final = 0.0005
_LATE_PAUSE_S: Final = 0.02
"""The pause between two tries to get the lock of a file, once _WAIT_S has passed."""
_LATE: Final = (
    "the daemon of another mount of the store does not finish its change of this file, and pages of this"
    " mount wait to be written; if that daemon is stopped, continue that daemon (SIGCONT) or end that daemon"
)
_PATIENT: Final[ContextVar[bool]] = ContextVar("patient", default=False)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Fence = Callable[[], None]
"""A function that raises FUSEError or PolicyChangedError if the file may not be changed now."""


@contextmanager
def patiently() -> Iterator[None]:
    """Make changes inside wait for another daemon without a time limit: a written-back page, or the last
    RELEASE, cannot be tried again."""
    token = _PATIENT.set(True)
    try:
        yield
    finally:
        _PATIENT.reset(token)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an open file's bytes that the policy allows.

    fence: raises PolicyChangedError after a reload, FUSEError if redaction forbids the change by now
    (WriteGuard.fence). on_thread: the first alone; a thread calls it right before, since it may have waited.
    """

    handle: Handle
    state: OpenState
    decision: Decision
    fence: Fence
    on_thread: Fence

    @property
    def head(self) -> Head:
        """The file's head. Raise RuntimeError if there is none."""
        if self.state.head is None:
            raise RuntimeError("a change judged by a head that is not there")
        return self.state.head

    async def in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call *function*, which makes the change, on a thread. Call on_thread() there first."""

        def make() -> T:
            self.on_thread()
            return function(*arguments)

        return await trio.to_thread.run_sync(make)


class ChangeLock:
    """A set of locks for changes, one for each file. A lock excludes other daemons and other threads."""

    def __init__(
        self, latches: Latches, is_over: Callable[[], bool] = lambda: False,
        warn: Callable[[str, bytes], None] = lambda _what, _path: None,
    ) -> None:  # fmt: skip
        """is_over: tells if the mount has ended: no change then waits beyond _WAIT_S. warn: logs problems."""
        self._warn = warn
        self._latches = latches
        self._is_over = is_over
        self._on_loop: Counter[int] = Counter()
        self._in_thread: dict[int, trio.Event] = {}
        self._apart: Counter[int] = Counter()

    @asynccontextmanager
    async def on(self, fd: int) -> AsyncIterator[None]:
        """Keep all other daemons from checked changes and truncations of the file behind *fd*.

        INVARIANT: no await inside, where the caller checks the conditions of the change: entering may wait.
        Raise OSError(EBUSY) if another daemon does not finish in time (see patiently()), or the mount ends.
        """
        at = await self._taken(fd, beside_loop=True)
        self._on_loop[at] += 1
        try:
            yield
        finally:
            self._on_loop[at] -= 1
            self._give(at)

    async def in_thread(self, fd: int, fence: Callable[[], None], change: Callable[[], T]) -> T:
        """Run *change* on a thread, and no other change of the file meanwhile; before it call *fence*, which
        raises if it is no longer allowed.

        INVARIANT: *change* checks its conditions itself: time passes until it runs. Raises as both do, and as
        on()."""
        at = await self._taken(fd, beside_loop=False)
        done = self._in_thread[at] = trio.Event()
        try:
            fence()
            return await trio.to_thread.run_sync(change)
        finally:
            del self._in_thread[at]
            done.set()
            self._give(at)

    @asynccontextmanager
    async def apart(self, fd: int) -> AsyncIterator[None]:
        """Keep all other daemons from the file during several changes by this one, each with the lock as
        usual, and other changes in between. Raise OSError(EBUSY) as on() does."""
        at = await self._taken(fd, beside_loop=True)
        self._apart[at] += 1
        try:
            yield
        finally:
            self._apart[at] -= 1
            self._give(at)

    def _give(self, at: int) -> None:
        for used in (self._on_loop, self._apart):
            if not used[at]:
                del used[at]
        if at not in self._on_loop and at not in self._apart and at not in self._in_thread:
            self._latches.give(at)

    async def _taken(self, fd: int, *, beside_loop: bool) -> int:
        """Take a file's latch, and return its number. INVARIANT: no await after the last check."""
        at, patient = self._latches.number(fd), _PATIENT.get()
        until, is_late = trio.current_time() + _WAIT_S, False
        while True:
            while (busy := self._in_thread.get(at)) is not None:
                await busy.wait()  # for a change by this daemon, even if the disk takes long
                until = trio.current_time() + _WAIT_S
            if beside_loop or not self._on_loop[at]:
                if self._latches.take(fd) is not None:
                    return at
                await self._waited(fd)
            was_late, is_late = is_late, trio.current_time() > until
            if is_late and patient and not was_late:
                self._warn(_LATE, os.readlink(libc.proc_fd(fd)))
            if is_late and (not patient or self._is_over()):
                raise OSError(errno.EBUSY, "another daemon is still changing this file")
            await trio.sleep(_LATE_PAUSE_S if is_late else _PAUSE_S)

    async def _waited(self, fd: int) -> None:
        """Wait a moment, because another daemon is changing the file behind *fd*."""
        del fd
        await trio.sleep(_PAUSE_S)
