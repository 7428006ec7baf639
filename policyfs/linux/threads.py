"""Checks if a thread has ended, in this process or in another process."""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import Final

_PIDFD_THREAD: Final = os.O_EXCL  # include/uapi/linux/pidfd.h

_NONE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""The errors of pidfd_open(2) before Linux 6.9, and in a container that forbids the call."""


def has_ended(thread: int) -> bool:
    """Return True if the thread of this number (gettid(2)) has ended; False before Linux 6.9."""
    try:
        pidfd = os.pidfd_open(thread, _PIDFD_THREAD)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    try:
        poll = select.poll()  # select(2) takes no descriptor above 1,023
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)


def tells_of_threads() -> bool:
    """Return True if the kernel tells other processes of the end of a thread (ParkedThread.pidfd)."""
    try:
        os.close(os.pidfd_open(threading.get_native_id(), _PIDFD_THREAD))
    except OSError:
        return False
    return True


class ParkedThread:
    """A thread that waits for end(), or for the process to be killed. Its descriptor reports its end to
    another process.

    Of a killed process, a thread that waits in the kernel for a disk or a lock ends late, or never. A parked
    thread ends at once, except while another one waits to change the memory map (mmap_lock, exit_mm in
    kernel/exit.c). pidfd: readable once it has ended (pidfd_open(2), PIDFD_THREAD); -1 before Linux 6.9.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        thread = threading.Thread(target=self._over.wait, name="parked", daemon=True)
        thread.start()
        try:
            self.pidfd = os.pidfd_open(thread.native_id or 0, _PIDFD_THREAD)
        except OSError as error:
            if error.errno not in _NONE:
                self._over.set()
                raise
            self.pidfd = -1

    def end(self) -> None:
        """Let the thread end, and close the descriptor. Further calls do nothing."""
        self._over.set()
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
