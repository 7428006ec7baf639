"""A signal to this process when another one ends: when a pipe has no writer any more. PR_SET_PDEATHSIG
(prctl(2)) would not do: the kernel clears it at each change of identity, and the daemon takes the caller's
for each new file."""

from __future__ import annotations

import fcntl
import os
import select
from typing import Final

_F_SETSIG: Final = 10  # asm-generic/fcntl.h


def end_with_writer(read_end: int, number: int) -> None:
    """Make the kernel send this process the signal *number* when a pipe's last writer has ended (at once if
    it has already). *read_end* must stay open (fcntl(2), F_SETSIG). Raises OSError."""
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, _F_SETSIG, number)
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(read_end, 0)
    if poll.poll(0):
        os.kill(os.getpid(), number)
