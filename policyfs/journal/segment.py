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
        """Begin a write at the end of the file, at this offset. False if there is no thread."""

    def wait(self, seconds: float, /) -> bool:
        """Wait at most *seconds*; True if no write is under way any more."""

    def result(self) -> tuple[int, int]:
        """Return errno and the number of written bytes, once the write is over."""

    def close(self) -> None:
        """End the thread, after its write."""


class Segment:
    """The segment being written. A batch of lines is appended whole or not at all.

    INVARIANT: while a batch, or a part of one, is unfinished, the file is locked from the batch's
    beginning on (an OFD lock, which nobody ever waits for): see settled_tail().
    """

    def __init__(self, name: str, number: int, fd: int, size: int) -> None:
        self.name = name
        self.number = number
        self.size = size
        """Bytes of full lines in the file, the offset of the next line."""
        self._fd = fd
        self._torn = False

    def damage(self) -> str:
        """Return an empty text if the file is as this process left it, else the damage."""
        if self._torn:
            self._mend()
        info = os.fstat(self._fd)
        if info.st_nlink == 0:
            return "deleted"
        if info.st_size != self.size:
            return f"{info.st_size} bytes long instead of {self.size}"
        return ""

    def append(self, data: bytes) -> None:
        """Append all of *data*. On an error, cut off the part that was written, and raise OSError."""
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
        """Let a thread append data as `append` does; False if it cannot. Call `finish` after it."""
        return appender.begin(self._fd, self.size, data)

    def finish(self, error: int, written: int) -> None:
        """Note the end of a started write. On an error, cut off the part that was written, and raise OSError.

        ESTALE: the file was not as this process left it, and nothing was written.
        """
        if not error:
            self.size += written
            return
        self._torn = written > 0
        if error != errno.ESTALE:
            self._mend()
        raise OSError(error, os.strerror(error))

    def _mend(self) -> None:
        """Cut off a half-written batch. Raises OSError; then the next write tries this again first."""
        if self._torn:
            os.ftruncate(self._fd, self.size)
        self._torn = False
        self._lock(UNLOCK)

    def _lock(self, what: bytes) -> None:
        with suppress(OSError):  # a file system without locks: settled_tail() then sees none, and all goes on
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, what)

    def duplicate(self) -> int:
        """Return a second descriptor, to sync without holding up writers; the caller closes it."""
        return fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0)

    def close(self) -> None:
        """Close the file without syncing it."""
        os.close(self._fd)
