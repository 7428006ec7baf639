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
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from policyfs.content.workers.execution import LauncherProcess
from policyfs.content.workers.launcher import DYING
from policyfs.daemon.keeper.clone import Known, close_others, fork_sharing_descriptors, now_open
from policyfs.daemon.keeper.dead_threads import LIMIT_S, wait_for_end
from policyfs.daemon.keeper.spare import WAKE, Spare
from policyfs.daemon.keeper.upgrade import wait_for_candidate
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.linux.child import send_as
from policyfs.linux.confinement.capabilities import no_new_privs
from policyfs.linux.confinement.seccomp import only_wait
from policyfs.linux.libc import LIBC
from policyfs.linux.scheduling import SERVING_NICE, weigh_own_session

_PASSED_ON: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_SHORT_NS: Final = 1_000_000_000
"""A daemon that did not serve longer than this has died early."""
_MOST_EARLY: Final = 5
"""The number of daemons in a row that die early and end the mount."""
_DYING_S: Final = 0.02
"""The time for the threads of a killed daemon to end, before its successor waits for them."""
_LOOK_S: Final = 5.0
"""The time between two looks if the daemon is dead: its launcher, which tells it, may be dead, too."""


class Serve(Protocol):
    """A function that serves the mount, and returns the exit code. is_first: False to take over."""

    def __call__(self, *, is_first: bool) -> int:
        """Serve the mount until it ends."""


class Keeper:
    """The parent of a mount's daemons. state: what each daemon leaves to the next one."""

    def __init__(
        self, state: SavedState, serve: Serve, warn: Callable[..., object],
        launcher: LauncherProcess | None = None,
    ) -> None:  # fmt: skip
        """serve: serves the mount in a new process. warn: logs an event with fields, at once and here.
        launcher: that of the first daemon, which alone uses its descriptors."""
        self._state = state
        self._warn = warn
        self._serve = serve
        self._of_first = launcher.descriptors() if launcher else []
        self._early = 0
        self._spare = Spare()
        self._mask: set[signal.Signals | int] = set()
        self._known: Known = {}
        self._lasting = {launcher.pid} if launcher and launcher.is_child else set()
        """Children to reap: the killed daemons that have threads which have not ended yet, and a launcher."""

    def run(self) -> int:
        """Serve the mount in child processes, one after the other. Return the exit code of the last, also in
        the child. If a killed daemon has no successor, this process ends as the daemon did."""
        blocked = {signal.SIGCHLD, WAKE, DYING, *_PASSED_ON}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        weigh_own_session(SERVING_NICE)  # its daemons are in it
        self._known = {fd: inode for fd, inode in now_open().items() if fd not in self._of_first}
        gc.collect()
        gc.freeze()  # so that a daemon's collector copies no pages that it shares with the keeper
        LIBC.malloc_trim(0)  # so that no daemon clears free memory that was in use before
        self._spare.fork(self._follow)
        pid = fork_sharing_descriptors()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return self._serve(is_first=True)
        no_new_privs()
        only_wait()
        while True:
            code = os.waitstatus_to_exitcode(self._status_of(pid))
            if code >= 0 or not (pid := self._successor_of(pid)):
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
        code = EXIT_REFUSED
        try:
            code = self._take_over()
        except PolicyfsError as error:
            code = error.exit_code
            self._warn("no other daemon can take over: the mount ends", reason=str(error))
        except BaseException:  # noqa: BLE001 - the end of a process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _take_over(self) -> int:
        if dead := self._spare.lasting:
            told = "threads of the killed daemon wait for the store or the trail: the next one waits for them"
            if not wait_for_end(dead, lambda threads: self._warn(told, pid=dead, threads=threads)):
                raise PolicyfsError(f"the killed daemon {dead} waits in a system call for {LIMIT_S:g} s")
        close_others(self._known, self._state)
        handover = self._state.handover
        if handover.candidate[0] and wait_for_candidate(handover, self._warn):
            return EXIT_OK  # and so does the keeper: another one has the mount
        return self._serve(is_first=False)

    def _successor_of(self, pid: int) -> int:
        """Let the spare follow a killed daemon. Return its pid; 0, and log the reason, if none does."""
        now = time.monotonic_ns()
        since = self._state.serving_ns
        self._early = 0 if since and now - since > _SHORT_NS else self._early + 1
        self._state.died(now, was_early=self._early > 0)
        reason = self._state.obstacle
        if self._early >= _MOST_EARLY:
            reason = f"{self._early} daemons in a row were killed within {_SHORT_NS / 1e9:g} s"
        if not reason:
            if following := self._spare.wake(pid if pid in self._lasting else 0):
                return following
            reason = "the spare was killed before"
        self._warn("the daemon was killed, and none follows: the mount ends", pid=pid, reason=reason)
        return 0

    def _status_of(self, pid: int) -> int:
        """Wait until a daemon has ended, and return its wait status; that of a kill, if it was killed and has
        threads that do not end yet. Meanwhile pass signals of processes (not of a terminal) on."""
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            received = signal.sigtimedwait({signal.SIGCHLD, DYING, *_PASSED_ON}, _LOOK_S)
            if received is None or received.si_signo == DYING:
                is_dead = self._state.is_dead if received is None else received.si_pid == pid
                if is_dead and not self._ends(pid):
                    self._lasting.add(pid)
                    return int(signal.SIGKILL)
            elif received.si_signo == signal.SIGCHLD:
                self._lasting = set(filter(_lasts, self._lasting))
                if received.si_pid != pid and not self._spare.is_there():
                    self._state.no_successor()
            elif received.si_pid:
                with suppress(ProcessLookupError):
                    send_as(pid, received.si_signo, pid=received.si_pid, uid=received.si_uid)

    @staticmethod
    def _ends(pid: int) -> bool:
        """Kill a daemon, whatever has told that it is dead. Return False if it does not end in _DYING_S."""
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + _DYING_S
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if (left := until - time.monotonic()) <= 0:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, left)
        return True


def _lasts(pid: int) -> bool:
    """Return False for a child that has ended, and is reaped now."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    return False
