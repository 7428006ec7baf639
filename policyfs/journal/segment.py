"""The segment that is being written."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import Protocol

from policyfs.journal.segments import UNLOCK, flock


class Appender(Protocol):
    """A thread that appends to a file without the interpreter lock (kernel/_appender.c)."""

    def begin(self, fd: int, offset: int, data: bytes, /) -> bool:
        """Begin a write at *offset*, the end of the file. Return False if there is no thread."""

    def wait(self, seconds: float, /) -> bool:
        """Wait at most *seconds*. Return True if no write is under way after that."""

    def result(self) -> tuple[int, int]:
        """Wait until the write has ended. Return its errno, and the number of written bytes."""

    def close(self) -> None:
        """End the thread once its write has ended."""


class Segment:
    """The segment that is being written. A batch of lines is appended completely or not at all.

    INVARIANT: while a batch is not complete, the file is locked from the beginning of this batch on.
    settled_tail() checks this lock. (It is an OFD lock for which no process ever waits.)
    """

    def __init__(self, name: str, number: int, fd: int, size: int) -> None:
        self.name = name
        self.number = number
        self.size = size
        """The size of the whole lines in the file in bytes, and so the offset of the next line."""
        self._fd = fd
        self._torn = False

    def damage(self) -> str:
        """Return the damage of the file as text, or an empty text if the file is as this process left it."""
        if self._torn:
            self._mend()
        info = os.fstat(self._fd)
        if info.st_nlink == 0:
            return "deleted"
        if info.st_size != self.size:
            return f"{info.st_size} bytes long instead of {self.size}"
        return ""

    def append(self, data: bytes) -> None:
        """Append all of *data*. After an error, cut off the part that was written, and raise OSError."""
        done = 0
        self._lock(flock(fcntl.F_WRLCK, self.size))
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError:
            self._torn = done > 0
            self._mend()
            raise
        self.size += len(data)
        self._lock(UNLOCK)

    def start(self, appender: Appender, data: bytes) -> bool:
        """Make a thread append *data* as append() does. Return False if no thread can.

        After True, call finish().
        """
        return appender.begin(self._fd, self.size, data)

    def finish(self, error: int, written: int) -> None:
        """End a write that start() began. After an error, cut off the written part, and raise OSError.

        ESTALE: the file was not as this process had left it, and nothing was written.
        """
        if not error:
            self.size += written
            return
        self._torn = written > 0
        if error != errno.ESTALE:
            self._mend()
        raise OSError(error, os.strerror(error))

    def _mend(self) -> None:
        """Cut off a batch that is not complete. After an OSError, the next write first tries this again."""
        if self._torn:
            os.ftruncate(self._fd, self.size)
        self._torn = False
        self._lock(UNLOCK)

    def _lock(self, what: bytes) -> None:
        with suppress(OSError):  # on a file system without locks, settled_tail() finds no lock
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, what)

    def duplicate(self) -> int:
        """Return a second descriptor for a sync that does not delay writers. The caller closes it."""
        return fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0)

    def close(self) -> None:
        """Close the file without a sync."""
        os.close(self._fd)
