"""The spare of a mount: the process that becomes the next daemon if the present one is killed.

It has started before the keeper gives up its system calls, and sleeps until the keeper wakes it. Before it
serves, it forks the next spare, so that each is a child of the keeper with nothing of a daemon in its memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Final, NoReturn

from policyfs.daemon.keeper.clone import fork_sharing_descriptors
from policyfs.linux.confinement import prctl

WAKE: Final = signal.SIGUSR1
"""The signal to the spare that the daemon is dead. All processes of the keeper block it."""
_NAME: Final = "policyfs-spare"
_WORD: Final = struct.Struct("=Q")
_PID, _DEATHS, _LASTING = 0, 8, 16
_TRIES, _TRY_S = 100, 0.01


class Spare:
    """The spare, as the keeper and each spare see it. All share the memory with its pid, the number of dead
    daemons, and the pid of the last one if it has not ended yet."""

    def __init__(self) -> None:
        """For the keeper, which blocks WAKE, before its first daemon."""
        self._memory = mmap.mmap(-1, 3 * _WORD.size)
        self._keeper = os.getpid()
        self._seen = 0
        with open("/proc/self/comm", encoding="utf-8", errors="replace") as comm:
            self._name = comm.read().strip()

    def _get(self, word: int) -> int:
        return int(_WORD.unpack_from(self._memory, word)[0])

    def _set(self, word: int, value: int) -> None:
        _WORD.pack_into(self._memory, word, value)

    def fork(self, serve: Callable[[], NoReturn]) -> None:
        """Fork the first spare. serve: what a spare does when the keeper wakes it. Raises OSError."""
        pid = fork_sharing_descriptors()
        if pid == 0:
            self._become(serve)
        self._set(_PID, pid)

    def _become(self, serve: Callable[[], NoReturn]) -> NoReturn:
        """Sleep until the daemon is dead. Then fork the next spare, and serve."""
        while True:
            prctl.request_parent_death_signal(signal.SIGKILL)
            if os.getppid() != self._keeper:
                os._exit(0)  # the keeper is dead already
            prctl.name_process(_NAME)
            self._set(_PID, os.getpid())
            signal.sigwaitinfo({WAKE})
            while self._get(_DEATHS) == self._seen:  # another process has sent it
                signal.sigwaitinfo({WAKE})
            self._seen = self._get(_DEATHS)
            pid = 0
            with contextlib.suppress(OSError):
                pid = fork_sharing_descriptors(sibling=True)
                if pid == 0:
                    continue  # this is the next spare
            self._set(_PID, pid)
            prctl.name_process(self._name)
            prctl.forgo_parent_death_signal()
            serve()

    @property
    def lasting(self) -> int:
        """The pid of a killed daemon for whose threads the woken spare waits first; 0: all have ended."""
        return self._get(_LASTING)

    # -- for the keeper ------------------------------------------------------------------------------

    def wake(self, lasting: int = 0) -> int:
        """Let the spare serve, after the daemon's death. Return its pid, or 0 if there is none. lasting: the
        daemon's pid, if threads of it have not ended yet."""
        self._set(_LASTING, lasting)
        self._set(_DEATHS, self._get(_DEATHS) + 1)
        for _ in range(_TRIES):  # a daemon that was killed in its first moments may have forked a spare
            if self.is_there():
                pid = self._get(_PID)
                os.kill(pid, WAKE)
                return pid
            time.sleep(_TRY_S)
        return 0

    def is_there(self) -> bool:
        """Return True if the spare lives. INVARIANT: the memory is the daemons', too: only a child counts."""
        pid = self._get(_PID)
        try:
            return pid > 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except (ChildProcessError, OverflowError):
            return False

    def end(self) -> None:
        """Kill the spare, and wait until its descriptors are closed."""
        if self.is_there():
            pid = self._get(_PID)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
