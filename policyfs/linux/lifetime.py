"""A signal to this process when another process ends. The kernel sends the signal when a pipe has no writer
any more.

PR_SET_PDEATHSIG (prctl(2)) cannot be used here: the kernel clears that setting each time a process takes
another identity. The daemon takes the caller's identity for each new file.
"""

from __future__ import annotations

import fcntl
import os
import select
from typing import Final

_F_SETSIG: Final = 10  # asm-generic/fcntl.h


def end_with_writer(read_end: int, number: int) -> None:
    """Make the kernel send this process the signal *number* when the last writer of a pipe has ended.

    If the last writer has already ended, the signal comes at once. *read_end* must stay open (fcntl(2),
    F_SETSIG). Raises OSError.
    """
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, _F_SETSIG, number)
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(read_end, 0)
    if poll.poll(0):
        os.kill(os.getpid(), number)
