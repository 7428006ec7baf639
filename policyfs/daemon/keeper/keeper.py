"""The keeper of a mount: a process that waits for the daemon, and makes another one if the daemon is killed.

The keeper is the process that the command has started. It has imported and compiled all that a daemon needs.
It forks the first daemon and a spare, and from then on can only wait and signal. All share one table of
descriptors: the device and open files outlive a daemon under their numbers (decision 70).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from typing import Final, NoReturn, Protocol

from policyfs.daemon.keeper.clone import fork_sharing_descriptors, pass_on
from policyfs.daemon.keeper.descriptors import Known, close_others, now_open
from policyfs.daemon.keeper.spare import WAKE, Spare
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.linux.confinement.capabilities import no_new_privs
from policyfs.linux.confinement.seccomp import only_wait
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
        self._spare = Spare()
        self._mask: set[signal.Signals | int] = set()
        self._known: Known = {}

    def run(self) -> int:
        """Serve the mount in child processes, one after the other. Return the exit code of the last, also in
        the child. If a killed daemon has no successor, this process ends as the daemon did."""
        blocked = {signal.SIGCHLD, WAKE, *_PASSED_ON}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        weigh_own_session(SERVING_NICE)  # its daemons are in it
        self._known = now_open()
        gc.collect()
        gc.freeze()  # so that a daemon's collector copies no pages that it shares with the keeper
        self._spare.fork(self._follow)
        pid = fork_sharing_descriptors()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return self._serve(is_first=True)
        no_new_privs()
        only_wait()
        while True:
            code = os.waitstatus_to_exitcode(self._status_of(pid))
            if code >= 0 or not self._is_followed() or not (pid := self._spare.wake()):
                break
        self._spare.end()
        if code >= 0:
            return code
        number = -code if -code in _PASSED_ON else signal.SIGKILL
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return 128 + number

    def _follow(self) -> NoReturn:
        """Serve the mount in a spare, and end this process: what called the keeper ends the command, and its
        descriptors are of the first daemon."""
        # It gets signals once it reads them (SignalReader), and then ends in order.
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask | _PASSED_ON)
        code = 1
        try:
            code = self._take_over()
        except BaseException:  # noqa: BLE001 - the end of a process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

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

    def _status_of(self, pid: int) -> int:
        """Wait until a daemon has ended, and return its wait status. Meanwhile pass signals of other
        processes on. (Those of a terminal come to the daemon, too.)"""
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            received = signal.sigwaitinfo({signal.SIGCHLD, *_PASSED_ON})
            if received.si_signo == signal.SIGCHLD:
                if received.si_pid != pid and not self._spare.is_there():
                    self._state.no_successor()
            elif received.si_pid:
                pass_on(pid, received)
