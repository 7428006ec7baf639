"""The output of the stream: a file, a pipe or a socket, and what of it its reader has taken."""

from __future__ import annotations

import array
import fcntl
import os
import select
import stat
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from policyfs.errors import PolicyfsError

_PIECE: Final = select.PIPE_BUF
"""So many bytes fit into a pipe that is ready, without a wait."""
_WAIT_MS: Final = 20
_PATIENCE_S: Final = 5.0


class StoppedError(Exception):
    """The process was asked to end, and the reader takes no more lines."""


class Output:
    """The output, by its descriptor. is_stopped: a function that returns True if the process shall end."""

    def __init__(self, fd: int, is_stopped: Callable[[], bool]) -> None:
        self._fd: Final = fd
        self._mode: Final = os.fstat(fd).st_mode
        self._is_stopped: Final = is_stopped
        self._end_s: float | None = None
        self._poll: Final = select.poll()
        self._poll.register(fd, 0)  # it reports POLLERR also with 0: the reader has ended

    def write(self, data: bytes) -> None:
        """Write lines. Raises StoppedError, and PolicyfsError if that is not possible, such as on a full
        disk; then a file has none of these lines."""
        is_file = stat.S_ISREG(self._mode)
        size, rest = os.fstat(self._fd).st_size, memoryview(data)
        try:
            while rest:
                if not is_file and not select.select([], [self._fd], [], _WAIT_MS / 1000)[1]:
                    self._lose_patience()
                    continue
                rest = rest[os.write(self._fd, rest if is_file else rest[:_PIECE]) :]
        except OSError as exc:
            with suppress(OSError):
                if is_file and os.fstat(self._fd).st_size == size + len(data) - len(rest):
                    os.ftruncate(self._fd, size)
            raise _failed(exc) from exc

    def wait_until_taken(self) -> None:
        """Wait until a file is on the disk, or until the reader of a pipe or socket has read all. Raises
        StoppedError and PolicyfsError."""
        try:
            if stat.S_ISREG(self._mode):
                os.fsync(self._fd)
            while self._unread():
                if self._poll.poll(_WAIT_MS):
                    raise BrokenPipeError
                self._lose_patience()
            if stat.S_ISSOCK(self._mode) and self._poll.poll(0):
                raise BrokenPipeError  # what its reader has left unread counts as read
        except OSError as exc:
            raise _failed(exc) from exc

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises PolicyfsError if the reader has ended."""
        if self._poll.poll(seconds * 1000):
            raise _failed(BrokenPipeError())

    def _unread(self) -> int:
        """Return the number of bytes that the reader of a pipe or socket has not read yet."""
        number = array.array("i", [0])
        if stat.S_ISFIFO(self._mode):
            fcntl.ioctl(self._fd, termios.FIONREAD, number)
        elif stat.S_ISSOCK(self._mode):
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, number)
        return number[0]

    def _lose_patience(self) -> None:
        if self._is_stopped():
            self._end_s = self._end_s or time.monotonic() + _PATIENCE_S
            if time.monotonic() > self._end_s:
                raise StoppedError


def end_last_line(fd: int) -> None:
    """Write a newline to a file to which lines are appended, if a killed process has cut its last line."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or not info.st_size or not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
        return
    try:
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            if os.pread(file.fileno(), 1, info.st_size - 1) == b"\n":
                return
    except OSError:
        pass  # this user may not read the file: an empty line does no harm
    try:
        os.write(fd, b"\n")
    except OSError as exc:
        raise _failed(exc) from exc


def _failed(exc: OSError) -> PolicyfsError:
    if isinstance(exc, BrokenPipeError):
        return PolicyfsError("the program that reads the lines has ended")
    return PolicyfsError(f"cannot write the lines: {exc.strerror}. The next start goes on at the cursor")
