"""Starts zygotes when the daemon asks, from a process that has imported all they need.

Once it serves, the daemon can execute nothing any more, so a zygote that was killed could not be
replaced. This process, executed before, forks one, which shares its memory and is ready at once. It reads
nothing but orders: a byte and the descriptor that becomes the new zygote's control socket, so that a
daemon that was taken over gets nothing through it that it would not have anyway.

Messages on the control socket (SOCK_SEQPACKET): START with one descriptor, answered by the zygote's
pid as a decimal with a pidfd, or by a reason. When the daemon's end closes, it exits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

START: Final = b"start"
MAX_MESSAGE: Final = 2000
ZYGOTE_FD: Final = 3
"""The number of the control socket in a zygote: it has 0, 1, 2 and this."""

Live = Callable[[socket.socket], int]
"""The life of a zygote with its control socket; its exit code."""


def serve(control: socket.socket, live: Live | str) -> None:
    """Start zygotes until the daemon is gone. *live*: or why none can be started."""
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        try:
            if message != START or len(fds) != 1:
                return
            answer, passed = (live.encode(), []) if isinstance(live, str) else _start(control, fds[0], live)
        finally:
            for fd in fds:
                os.close(fd)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(control, [answer[:MAX_MESSAGE]], passed)
        finally:
            for fd in passed:
                os.close(fd)


def _start(control: socket.socket, theirs: int, live: Live) -> tuple[bytes, list[int]]:
    try:
        pid = os.fork()
        if pid == 0:
            control.detach()  # closed with all else, and not once more
            _become_zygote(theirs, live)
        return b"%d" % pid, [os.pidfd_open(pid)]
    except OSError as error:
        return f"cannot fork a zygote: {error}".encode(), []


def _become_zygote(control_fd: int, live: Live) -> NoReturn:
    """In the forked process: keep the one descriptor, and never return."""
    status = 1
    try:
        os.setsid()
        os.dup2(control_fd, ZYGOTE_FD)
        os.set_inheritable(ZYGOTE_FD, False)
        os.closerange(ZYGOTE_FD + 1, 1 << 20)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the launcher's are reaped by the kernel
        status = live(socket.socket(fileno=ZYGOTE_FD))
    except BaseException:  # noqa: BLE001 # nothing may unwind into the launcher's code
        traceback.print_exc()
    finally:
        os._exit(status)
