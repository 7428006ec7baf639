"""An upgrade of a mount in use: a daemon of other code, the candidate, takes over from the one that serves.

The candidate is started by a command (`mount --follow`), and has its own keeper. It asks the daemon, which
ends in a moment in which all can be continued. The old keeper's spare closes what was the daemon's, and
waits: the candidate copies the state and the descriptors, and takes the mount; else the spare serves it
(decision 70).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from policyfs.errors import PolicyfsError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.state_memory import Handover, name_of
from policyfs.journal.writing.journal import Journal
from policyfs.kernel import work
from policyfs.linux.libc import LIBC, fail

_CALM_S: Final = 0.2
"""The time in which a daemon waits until no request is in work. After it, the kernel sends them again."""
_OFFER_S: Final = 10.0
"""The time after which a daemon that cannot be followed yet refuses."""
ANSWER_S: Final = _OFFER_S + 20.0
"""The time after which a daemon that is asked must have refused, or ended."""
_GIVEN_S: Final = 90.0
_TAKEN_S: Final = 20.0
"""The time after which the old keeper's spare kills a candidate that has not taken over, and then waits for
_DYING_S."""
_DYING_S: Final = 1.0
_LOOK_S: Final = 0.001
_GETFD: Final = 438
"""The number of pidfd_getfd(2), on every machine (asm-generic/unistd.h)."""


Json = dict[str, object]


class Before:
    """The daemon that a candidate follows. code, policy: digests of its code, and of its policy. is_changed:
    True if the policy's text is another one by now. room: SavedState.room."""

    def __init__(self, status: Json, ask: Callable[[int], object]) -> None:
        """status: the daemon's. ask: sends it the command `follow` with the pid of the candidate's keeper;
        raises PolicyfsError. Raises PolicyfsError if this code cannot follow the daemon."""
        takeover = status.get("takeover")
        if not isinstance(takeover, dict):
            raise PolicyfsError("it has no keeper")
        self._ask = ask
        self._numbers: dict[int, int] = {}
        self.code, self.policy = str(status.get("code")), _part(status, "policy", "digest")
        self._keeper = int(takeover.get("keeper") or 0)
        if not self._keeper:
            raise PolicyfsError("its keeper has ended")
        try:
            self._pidfd = os.pidfd_open(self._keeper)
            self._fd = self._memory()
            self._state = SavedState.of(self._fd)
        except OSError as error:
            raise PolicyfsError(f"the running daemon's state cannot be read: {error.strerror}") from error
        self.handover = self._state.handover
        self.room = self._state.room
        self.is_changed = False

    @property
    def serves(self) -> bool:
        """True until the mount has been taken from it."""
        return not self.handover.is_taken

    def hand_over(self, state: SavedState) -> None:
        """Ask the daemon, wait until it has ended, and continue its state in *state*. Raises PolicyfsError if
        it goes on, its keeper does not give the state, or this process's keeper has ended."""
        _check_keeper(state)
        try:
            self._ask(state.keeper)
        except PolicyfsError:  # it has ended, or refuses
            if not self.handover.candidate[0]:
                raise
        until = time.monotonic() + _GIVEN_S
        while not self.handover.is_given:
            is_withdrawn = not self.handover.candidate[0]
            if is_withdrawn or time.monotonic() > until or _has_ended(self._pidfd):
                raise PolicyfsError("the keeper of the running daemon does not give the mount's state")
            time.sleep(_LOOK_S)
        state.succeed(self._fd, self._number)
        os.close(self._fd)
        os.close(self._pidfd)

    def forget(self) -> None:
        """Free the memory of the state before. Called once the candidate serves."""
        self._state.forget()

    def _memory(self) -> int:
        """Get the memory of the keeper's state. Raises OSError, also if this process may get nothing."""
        for entry in Path(f"/proc/{self._keeper}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry) == f"/memfd:{name_of(self._keeper)} (deleted)":
                    break
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if (found := self._number(int(entry.name))) < 0:
            raise fail(b"pidfd_getfd")
        return found

    def _number(self, theirs: int) -> int:
        if theirs not in self._numbers:
            self._numbers[theirs] = LIBC.syscall(_GETFD, self._pidfd, ctypes.c_int(theirs), 0)
        return self._numbers[theirs]


def _part(status: Json, name: str, field: str) -> str:
    found = status.get(name)
    return str(found.get(field, "")) if isinstance(found, dict) else ""


def _pidfd_of(pid: int) -> int:
    """Return a pidfd, or -1 if the process has ended."""
    try:
        return os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1


def _has_ended(pidfd: int) -> bool:
    if pidfd < 0:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _check_keeper(state: SavedState) -> None:
    if os.getppid() != state.keeper:
        raise PolicyfsError("the keeper of this process has ended, so nobody would follow this process")


def check_candidate(state: SavedState) -> None:
    """Raise PolicyfsError if this process, a candidate, may not take the mount: its own keeper has ended, or
    the other one's spare serves."""
    if state.before is None or state.before.is_taken:
        return
    _check_keeper(state)
    if not state.before.candidate[0]:
        raise PolicyfsError("the running daemon's keeper has not waited for this process")


async def follow(
    state: SavedState | None, candidate: int, keeper: int, journal: Journal, settle: Callable[[], None]
) -> None:
    """End this process in a moment in which a candidate can continue everything. Raises PolicyfsError if
    there is none. candidate, keeper: their pids. settle: puts the opens of the bridge on record."""
    if state is None or os.getppid() != state.keeper:
        raise PolicyfsError("the daemon has no keeper")
    if not candidate or not keeper:
        raise PolicyfsError("the candidate cannot be seen")
    began, reason = time.monotonic(), ""
    state.handover.offer(candidate, keeper)
    try:
        while (waited := time.monotonic() - began) < _OFFER_S:
            await trio.to_thread.run_sync(journal.flush)
            settle()
            calm = waited > _CALM_S or not (journal.is_busy or work.read(state.work))
            if calm and not (reason := state.obstacle):
                # INVARIANT: no await since the look.
                signal.pthread_kill(threading.get_ident(), signal.SIGKILL)
            await trio.sleep(_LOOK_S)
    finally:
        state.handover.withdraw()
    raise PolicyfsError(f"nobody can follow the daemon now: {reason}")


def wait_for_candidate(handover: Handover, warn: Callable[..., object]) -> bool:
    """Give the ended daemon's state to the candidate. Return False if it has not taken over, and has ended:
    then this process serves. warn: logs an event with fields."""
    candidate, keeper = map(_pidfd_of, handover.candidate)
    handover.give()
    until = time.monotonic() + _TAKEN_S
    # INVARIANT: the candidate runs no more when this process serves. (A thread in the store may last.)
    while not (handover.is_taken or (_has_ended(candidate) and _has_ended(keeper))):
        until = min(until, time.monotonic()) if _has_ended(keeper) else until
        if (late_s := time.monotonic() - until) >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(candidate, signal.SIGKILL)
        if late_s > _DYING_S:
            break
        time.sleep(_LOOK_S)
    for fd in {candidate, keeper} - {-1}:
        os.close(fd)
    if handover.is_taken:
        return True
    pid, _ = handover.candidate
    handover.withdraw()
    warn("the candidate has ended before it took over: this code goes on", pid=pid)
    return False
