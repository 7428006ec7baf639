"""The writer of the daemon's log. The event loop never waits long for the file, terminal or pipe of the log.

A terminal may be paused (Ctrl-S), the reader of a pipe may be stopped, and a disk may hang or be full. The
log only helps people to find causes. So in these cases the daemon loses lines of its log, and apps go on.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 0.05
"""The time that the caller waits for its line. While a late line is still being written, nobody waits."""
MOST_WAITING: Final = 1000
"""The limit of lines that wait in memory. Further lines are lost."""


def _tell_nobody(lines: int, reason: str) -> None:
    pass


class LogWriter:
    """A writer of lines to a descriptor, as structlog's logger: called with the name of the level. Lines that
    cannot be written are lost, and counted. on_loss: gets their number and the reason once a line could be
    written again; it may write a line itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()  # the first is being written, if there is a thread
        self._thread: threading.Thread | None = None
        self._is_late = False
        self._lost, self._reason = 0, ""
        self.on_loss: Callable[[int, str], None] = _tell_nobody

    def write_on_thread(self) -> None:
        """Write all later lines on a thread; before this call each is written at once, or lost. INVARIANT:
        the caller has given up its rights, of which each thread has its own (capabilities(7))."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Write a line, and wait for at most PATIENCE_S. Never raises."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        if self._thread is None:
            if not self._has_room():
                self._lose("nobody reads them")
            elif self._write(data):
                self._tell()
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._lose(f"{MOST_WAITING} lines waited")
                return
            self._waiting.append(data)
            self._changed.notify_all()
            if not self._is_late and threading.current_thread() is not self._thread:
                self._is_late = not self._changed.wait_for(lambda: not self._waiting, PATIENCE_S)

    info = warning = error = line

    def _has_room(self) -> bool:
        """Wait for at most PATIENCE_S. (A take-over must not wait for the reader of the log.)"""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(PATIENCE_S * 1000))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
            written = self._write(data)
            with self._changed:
                self._waiting.popleft()
                if self._waiting:
                    continue
                self._is_late = False
                self._changed.notify_all()
            if written:
                self._tell()

    def _write(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._lose(os.strerror(error.errno or 0))
            return False
        return True

    def _tell(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, 0
        if lost:
            self.on_loss(lost, self._reason)

    def _lose(self, reason: str) -> None:
        with self._changed:
            self._lost, self._reason = self._lost + 1, reason
