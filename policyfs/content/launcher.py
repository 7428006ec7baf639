"""The launcher: a process that starts zygotes for the daemon, and has imported all modules that zygotes need.

A zygote is the parent of workers (zygote.py). A serving daemon cannot execute a program, so it could not
replace a killed zygote. Before the daemon serves, it executes the launcher. A new zygote is a fork of the
launcher: the zygote shares the launcher's memory and is ready at once. The launcher reads only orders: one
word and one descriptor. So an attacker who has taken over the daemon gains nothing through the launcher.

Messages on the control socket (SOCK_SEQPACKET): the daemon sends START with the descriptor that becomes the
new zygote's control socket. The launcher answers with the zygote's pid as a decimal and a pidfd, or with the
reason why it cannot start one. When the daemon's end closes, the launcher exits.

The daemon sends GUARD with the control file that ends its mount's connection (fs/fuse/control.c). There is no
answer. If the daemon is killed, the launcher ends the connection. Otherwise the kernel may keep the
connection: a thread of the killed daemon may send a notification and wait for the lock of a directory. If an
app has this lock and waits for the daemon's answer, the thread and the app wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from policyfs.content.sandbox import request_parent_death_signal

START: Final = b"start"
GUARD: Final = b"guard"
DAEMON_KILLED: Final = signal.SIGUSR1
"""The signal that the kernel sends to the launcher when the daemon's main thread ends. Other threads of the
daemon, and with them its sockets, may last longer.
"""
MAX_MESSAGE: Final = 2000
ZYGOTE_FD: Final = 3
"""The number of the control socket's descriptor in a zygote. The zygote starts with descriptors 0 to 3
only.
"""

Live = Callable[[socket.socket], int]
"""Main function of a zygote: takes its control socket, returns its exit code."""


def serve(control: socket.socket, live: Live | str) -> None:
    """Start zygotes until the daemon is gone.

    live: the main function of a zygote, or the reason (text) why no zygote can be started.
    """
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if message == GUARD and len(fds) == 1:
            _guard(fds[0])
            continue
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


def _guard(abort_fd: int) -> None:
    """End a FUSE connection when the daemon has been killed. abort_fd: its control file, which stays open."""

    def end(_number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):  # the connection has ended
            os.write(abort_fd, b"1")

    signal.signal(DAEMON_KILLED, end)
    request_parent_death_signal(DAEMON_KILLED)


def _start(control: socket.socket, theirs: int, live: Live) -> tuple[bytes, list[int]]:
    try:
        pid = os.fork()
        if pid == 0:
            control.detach()  # its descriptor is closed below, with all others
            _become_zygote(theirs, live)
        return b"%d" % pid, [os.pidfd_open(pid)]
    except OSError as error:
        return f"cannot fork a zygote: {error}".encode(), []


def _become_zygote(control_fd: int, live: Live) -> NoReturn:
    """Run a zygote in the forked process, and never return.

    Close all descriptors except 0, 1, 2 and *control_fd*.
    """
    status = 1
    try:
        os.setsid()
        os.dup2(control_fd, ZYGOTE_FD)
        os.set_inheritable(ZYGOTE_FD, False)
        os.closerange(ZYGOTE_FD + 1, 1 << 20)
        signal.signal(DAEMON_KILLED, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the kernel reaps the launcher's children
        status = live(socket.socket(fileno=ZYGOTE_FD))
    except BaseException:  # noqa: BLE001 # no exception may reach the launcher's code
        traceback.print_exc()
    finally:
        os._exit(status)
