"""A process beside the test run that frees it when a mount hangs.

A test that waits in a FUSE request of a daemon that never answers cannot be interrupted: not by
an alarm, and with the interpreter's lock held (a page fault) not by a thread. From outside,
aborting the FUSE connection makes every such wait fail at once; the test then fails by itself.
It also clears the mounts away when the test run itself was killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from tests.support.machine.namespace import abort_connection, clear_away, mount_entries


class Watchdog:
    """Armed before each test, disarmed after it; kill -9 of the test run counts as a hang."""

    def __init__(self, directory: Path) -> None:
        """Start the process. directory: all mounts of the test run are below it."""
        read_end, self._write_end = os.pipe()
        # Blocked from its first moment on in the new process: they are sent to the whole group.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._write_end)
            try:
                _watch(read_end, directory)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(read_end)

    def arm(self, seconds: float, label: str) -> None:
        """From now on the test has this long."""
        os.write(self._write_end, f"{seconds:g} {label!r}\n".encode())

    def disarm(self) -> None:
        """The test is over."""
        os.write(self._write_end, b"0 -\n")

    def close(self) -> None:
        """The test run is over: the process clears away what is left and ends. Said in words: a child that a
        failed test left behind has the pipe open, too."""
        os.write(self._write_end, b"end -\n")
        os.close(self._write_end)
        os.waitpid(self.pid, 0)


def _watch(read_end: int, directory: Path) -> None:
    timeout_s: float | None = None
    label = "-"
    pending = b""
    while True:
        ready, _, _ = select.select([read_end], [], [], timeout_s)
        if not ready:
            _abort_all(directory, label)
            timeout_s = None
            continue
        data = os.read(read_end, 65536)
        if not data:
            clear_away(directory)
            return
        *lines, pending = (pending + data).split(b"\n")
        if lines:
            seconds, label = lines[-1].decode().split(" ", 1)
            if seconds == "end":
                clear_away(directory)
                return
            timeout_s = float(seconds) or None


def _abort_all(directory: Path, label: str) -> None:
    for entry in mount_entries():
        if entry.mountpoint.startswith(f"{directory}/") and entry.fstype.startswith("fuse"):
            sys.stderr.write(f"\nwatchdog: {label} hung; aborting the mount {entry.mountpoint}\n")
            abort_connection(entry.device)
