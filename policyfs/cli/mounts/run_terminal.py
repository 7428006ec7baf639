"""A terminal for the command of `policyfs run`: a pty (pty(7)) in place of the terminal of the caller.

Without a pty the command, and all processes that it starts, could read what the caller types later, or type
into the terminal themselves (TIOCSTI).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import termios
import tty
from typing import Final

_CHUNK: Final = 1 << 16
_END_MS: Final = 1000
"""Time (ms) to wait for the last output. The command has ended; a process elsewhere may have its terminal."""
_WINDOW_BYTES: Final = 8
_OFLAG: Final = 1
"""The place of the output flags in the list of termios.tcgetattr."""


class Terminal:
    """A pty, and the relay between it and the terminal of the caller. Input is relayed only if standard input
    is the terminal."""

    def __init__(self, streams: list[int], uid: int) -> None:
        """Make a pty. streams: those of the descriptors 0, 1 and 2 that are terminals. Raises OSError."""
        self._streams: Final = streams
        self._real: Final = streams[0]
        self._out: Final = next((fd for fd in (1, 2) if fd in streams), self._real)
        self._modes = termios.tcgetattr(self._real)
        self._raw = False
        self._pending = b""
        self._ours, self._theirs = os.openpty()
        os.fchown(self._theirs, uid, -1)
        os.fchmod(self._theirs, 0o600)
        modes = termios.tcgetattr(self._real)
        if 0 not in streams:  # the caller's terminal is not set to raw, and makes the line ends itself
            modes[_OFLAG] &= ~termios.OPOST
        termios.tcsetattr(self._theirs, termios.TCSANOW, modes)
        os.set_blocking(self._ours, False)
        self._resize()

    def take(self) -> None:
        """Make the pty the terminal of this process, which leads a session, and its standard streams."""
        fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)
        for fd in self._streams:
            os.dup2(self._theirs, fd)

    def begin(self) -> None:
        """Set the caller's terminal to raw if this process may read it: the command's pty makes the modes."""
        signal.signal(signal.SIGWINCH, lambda _number, _frame: self._resize())
        signal.signal(signal.SIGCONT, lambda _number, _frame: self._set_raw())  # `fg` of a shell
        self._set_raw()

    def pause(self) -> None:
        """Give the caller's terminal its own modes again."""
        if self._raw:
            self._raw = False
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._real, termios.TCSADRAIN, self._modes)

    def end(self) -> None:
        """Relay the last output, and close the pty. Call it when the command has ended."""
        for number in (signal.SIGWINCH, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._theirs)
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        while poll.poll(_END_MS) and self._relay_output():
            pass
        self.pause()
        os.close(self._ours)

    def watched(self) -> list[tuple[int, int]]:
        """Return the descriptors and events to poll before the next call of relay()."""
        if self._pending:
            return [(self._ours, select.POLLIN | select.POLLOUT)]
        return [(self._ours, select.POLLIN), *([(self._real, select.POLLIN)] if self._raw else [])]

    def relay(self, ready: dict[int, int]) -> None:
        """Relay input and output. ready: events by descriptor, as from poll."""
        if ready.get(self._ours, 0) & select.POLLIN:
            self._relay_output()
        if self._raw and ready.get(self._real):
            self._pending = self._read(self._real)
            self._raw = bool(self._pending)  # else the terminal is gone
        if self._pending:
            with contextlib.suppress(BlockingIOError):
                self._pending = self._pending[os.write(self._ours, self._pending) :]

    def _relay_output(self) -> bool:
        data = self._read(self._ours)
        left = data
        while left:
            try:
                left = left[os.write(self._out, left) :]
            except OSError:  # the caller's terminal is gone, or was opened only for reading
                break
        return bool(data)

    @staticmethod
    def _read(fd: int) -> bytes:
        try:
            return os.read(fd, _CHUNK)
        except OSError:  # EIO: the other side is closed
            return b""

    def _set_raw(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            if 0 in self._streams and os.tcgetpgrp(self._real) == os.getpgrp():
                tty.setraw(self._real, termios.TCSADRAIN)
                self._raw = True

    def _resize(self) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._real, termios.TIOCGWINSZ, bytes(_WINDOW_BYTES))
            fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, size)


def terminal_for(uid: int) -> Terminal | None:
    """Return a terminal for a command of a user, or None if no standard stream of this process is one."""
    streams = [fd for fd in (0, 1, 2) if os.isatty(fd)]
    return Terminal(streams, uid) if streams else None
