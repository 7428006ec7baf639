"""Starts zygotes when the daemon asks: ``python -m policyfs.content.launcher CONTROL_FD COMMAND ENV``.

Once it serves, the daemon can execute nothing any more, so a zygote that was killed could not be
replaced. This process, started before, can. What it executes stands on its own command line: an
order from the daemon is one byte and the descriptor that becomes the new zygote's control socket,
so that a daemon that was taken over gets nothing through it that it would not have anyway.

Messages on the control socket (SOCK_SEQPACKET): START with one descriptor, answered by the zygote's
pid as a decimal with a pidfd, or by a reason. When the daemon's end closes, it exits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Final

from policyfs.content.rights import ZYGOTE, keep, no_new_privs

START: Final = b"start"
MAX_MESSAGE: Final = 2000
ZYGOTE_FD: Final = 3
"""The number of the control socket in a zygote: it has 0, 1, 2 and this."""


def serve(control: socket.socket, command: list[str], environment: dict[str, str]) -> None:
    """Start zygotes until the daemon is gone."""
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        try:
            if message != START or len(fds) != 1:
                return
            answer, passed = _start(fds[0], command, environment)
        finally:
            for fd in fds:
                os.close(fd)
        try:
            socket.send_fds(control, [answer], passed)
        finally:
            for fd in passed:
                os.close(fd)


def _start(control_fd: int, command: list[str], environment: dict[str, str]) -> tuple[bytes, list[int]]:
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, control_fd, ZYGOTE_FD)],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGCHLD],  # ignored here, so that the kernel reaps; a zygote reaps itself
        )
        return b"%d" % pid, [os.pidfd_open(pid)]
    except OSError as error:
        return f"cannot start {command[0]}: {error}".encode()[:MAX_MESSAGE], []


def main() -> int:
    """Run until the daemon is gone. argv: number of the control socket; a zygote's command line and
    environment as JSON.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides when this ends, not a terminal
    no_new_privs()
    keep(ZYGOTE)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(control, json.loads(sys.argv[2]), json.loads(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
