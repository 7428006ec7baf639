"""The keeper of a mount: a process that waits for the daemon, and makes another one if the daemon is killed.

The keeper is the process that the command has started. It has imported and compiled all that a daemon needs,
so a daemon that it forks can serve soon. Each daemon shares the keeper's table of descriptors: the device and
open files outlive it under their numbers. The keeper itself opens, closes and reads nothing (decision 70).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from policyfs.daemon.keeper.clone import fork_sharing_descriptors, pass_on
from policyfs.daemon.keeper.descriptors import Known, close_others, now_open
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.linux.scheduling import SERVING_NICE, weigh_own_session

_PASSED_ON: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_SHORT_NS: Final = 1_000_000_000
"""A daemon that did not serve longer than this has died early. Two of these in a row end the mount."""


class Serve(Protocol):
    """A function that serves the mount, and returns the exit code. is_first: False to take over."""

    def __call__(self, *, is_first: bool) -> int:
        """Serve the mount until it ends."""


class Keeper:
    """The parent of a mount's daemons. state: what each daemon leaves to the next one."""

    def __init__(self, state: SavedState, serve: Serve) -> None:
        """serve: serves the mount in a new process."""
        self._state = state
        self._serve = serve
        self._early = 0
        self._known: Known = {}

    def run(self) -> int:
        """Serve the mount in child processes, one after the other. Return the exit code of the last, also in
        the child. If a killed daemon has no successor, this process ends as the daemon did."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_PASSED_ON})
        weigh_own_session(SERVING_NICE)  # its daemons are in it
        self._known = now_open()
        gc.collect()
        gc.freeze()  # so that a daemon's collector copies no pages that it shares with the keeper
        is_first = True
        while True:
            pid = fork_sharing_descriptors()
            if pid == 0:
                # A successor gets signals once it reads them (SignalReader), and then ends in order.
                signal.pthread_sigmask(signal.SIG_SETMASK, before if is_first else before | _PASSED_ON)
                if is_first:
                    return self._serve(is_first=True)
                _end_with(self._take_over)
            code = os.waitstatus_to_exitcode(_status_of(pid))
            if code >= 0 or not self._is_followed():
                break
            is_first = False
        if code >= 0:
            return code
        number = -code if -code in _PASSED_ON else signal.SIGKILL
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return 128 + number

    def _take_over(self) -> int:
        close_others(self._known, self._state)
        return self._serve(is_first=False)

    def _is_followed(self) -> bool:
        """Return True if a daemon that was just killed gets a successor."""
        now = time.monotonic_ns()
        since = self._state.serving_ns
        self._early = 0 if since and now - since > _SHORT_NS else self._early + 1
        self._state.died(now)
        return self._early < 2 and self._state.can_continue


def _end_with(take_over: Callable[[], int]) -> NoReturn:
    """Run a successor, and end this process: what called the keeper ends the command, and its descriptors are
    of the first daemon."""
    code = 1
    try:
        code = take_over()
    except BaseException:  # noqa: BLE001 - the end of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _status_of(pid: int) -> int:
    """Wait until a child has ended, and return its wait status. Meanwhile pass signals of other processes on.
    (Those of a terminal come to the child, too.)"""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        received = signal.sigwaitinfo({signal.SIGCHLD, *_PASSED_ON})
        if received.si_signo != signal.SIGCHLD and received.si_pid:
            pass_on(pid, received)
