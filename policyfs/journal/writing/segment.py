"""The file of the trail that is being written (the newest segment)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from contextlib import suppress
from typing import Protocol

from policyfs.journal.files.segments import UNLOCK, flock


class Appender(Protocol):
    """A thread that appends to a file without the interpreter lock (kernel/door/_appender.c)."""

    def begin(self, fd: int, offset: int, data: bytes, /) -> bool:
        """Begin to write *data* at *offset*, the end of the file. Return False if no thread can do this."""

    def wait(self, seconds: float, /) -> bool:
        """Wait at most *seconds* for the end of the write. Return True if no write is under way then."""

    def result(self) -> tuple[int, int]:
        """Wait until the write has ended. Return its errno, and the number of written bytes."""

    def close(self) -> None:
        """End the thread once its write has ended."""


class Segment:
    """The segment that is being written. A batch of lines is appended completely or not at all. INVARIANT:
    while it is partly written, the file is locked from its beginning on (settled_tail(); an OFD lock for
    which nobody waits)."""

    def __init__(self, name: str, number: int, fd: int, size: int) -> None:
        self.name = name
        self.number = number
        self.size = size
        """The bytes of all complete lines, which is the offset of the next line."""
        self._fd = fd
        self._torn = False

    def damage(self) -> str:
        """Return a text about a change of the file by another process, or an empty string."""
        try:
            if self._torn:
                self._mend()
            info = os.fstat(self._fd)
        except OSError as exc:
            return f"a half-written line could not be removed: {exc.strerror}"
        if info.st_nlink == 0:
            return "deleted"
        if info.st_size != self.size:
            return f"{info.st_size} bytes long instead of {self.size}"
        return ""

    def append(self, data: bytes) -> None:
        """Append all of *data*. After an error, remove the part that was written, and raise OSError."""
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
        """Make the thread *appender* append *data*, and then call finish(). Return False if there is no
        thread."""
        return appender.begin(self._fd, self.size, data)

    def finish(self, error: int, written: int) -> None:
        """Note the errno (0: success) and the written bytes of a write that start() began; after an error,
        remove these, and raise OSError. ESTALE: another process had changed the file, and nothing was
        written."""
        if not error:
            self.size += written
            return
        self._torn = written > 0
        if error != errno.ESTALE:
            self._mend()
        raise OSError(error, os.strerror(error))

    def _mend(self) -> None:
        """Remove lines of a write that was not completed. If this fails, the next write first tries again."""
        if self._torn:
            os.ftruncate(self._fd, self.size)
        self._torn = False
        self._lock(UNLOCK)

    def _lock(self, what: bytes) -> None:
        with suppress(OSError):  # on a file system without locks, settled_tail() finds no lock
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, what)

    def duplicate(self) -> int:
        """Return a second descriptor of the file, for an fsync on another thread. The caller closes it."""
        return fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0)

    def detach(self) -> int:
        """Return the descriptor of the file. The caller closes it, and must not use this object any more."""
        return self._fd

    def close(self) -> None:
        """Close the file without an fsync, which alone would prove that lines are on the disk: errors say
        nothing."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
