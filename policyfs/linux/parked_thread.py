"""A thread that only waits, and a descriptor that reports its end to another process.

The kernel ends the threads of a killed process one by one. A thread that waits in the kernel for a disk or
for a lock ends late, or never. A parked thread always ends at once.
"""

from __future__ import annotations

import os
import threading
from typing import Final

_PIDFD_THREAD: Final = os.O_EXCL  # include/uapi/linux/pidfd.h


class ParkedThread:
    """A thread that waits for end(), or for the process to be killed.

    pidfd: a descriptor that is readable once this thread has ended (pidfd_open(2), PIDFD_THREAD). It is -1 if
    the kernel is older than Linux 6.9 and cannot open such a descriptor.
    """

    def __init__(self) -> None:
        """Start the thread. It has the rights and the blocked signals of the calling thread."""
        self._over = threading.Event()
        thread = threading.Thread(target=self._over.wait, name="parked", daemon=True)
        thread.start()
        try:
            self.pidfd = os.pidfd_open(thread.native_id or 0, _PIDFD_THREAD)
        except OSError:
            self.pidfd = -1

    def end(self) -> None:
        """Let the thread end, and close the descriptor. Further calls do nothing."""
        self._over.set()
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
