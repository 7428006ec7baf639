"""Read leases of files (fcntl(2), F_SETLEASE): they show whether a program has a file open for writing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import signal
from collections.abc import Callable, Iterator
from typing import Final

_UNKNOWN: Final = "policyfs cannot find out if a program has this file open for writing"


@contextlib.contextmanager
def writers_seen(fd: int) -> Iterator[Callable[[], bool]]:
    """Hold a read lease. Yield a function that returns True once a program has, or had, the file open for
    writing in this block. *fd*: an O_RDONLY descriptor of a regular file.

    For the main thread of a process that has no LeaseKeeper yet. Some file systems refuse all leases with
    EAGAIN (StoreFacts.leases is False): there the function always returns True. Raises OSError if the kernel
    gives no answer (EACCES without CAP_LEASE).
    """
    # INVARIANT: ignore SIGIO before taking the lease, and until it is released. If a program opens the file
    # for writing meanwhile, the kernel sends this signal, which would end the process.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise OSError(error.errno, f"{_UNKNOWN} ({error.strerror})") from error
            yield lambda: True
            return
        try:
            yield lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK
        finally:
            release(fd)
    finally:
        signal.signal(signal.SIGIO, before or signal.SIG_DFL)


def release(fd: int) -> None:
    """Release the lease of a descriptor, also if the kernel has taken it by force. Raises OSError."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno != errno.EAGAIN:  # EAGAIN: the kernel had taken the lease by force
            raise
