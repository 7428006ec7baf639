"""The launcher: a process that starts zygotes for the daemon, and has imported all modules that zygotes need.

A zygote is the parent of workers (zygote.py). A serving daemon cannot execute a program, so it could not
replace a killed zygote. Before the daemon serves, it or its keeper executes the launcher. A new zygote is a
fork of the launcher: the zygote shares the launcher's memory and is ready at once. The launcher reads only
orders: one word with one or two descriptors. So an attacker who has taken over the daemon gains nothing
through the launcher.

Messages on the control socket (SOCK_SEQPACKET): the daemon sends START with the descriptor that becomes the
new zygote's control socket. The launcher answers with the zygote's pid as a decimal and a pidfd, or with the
reason why it cannot start one. ANNOUNCE starts an announcer (announcer.py) in the same way, and PARSE a
process that parses a policy (policy_parser.py). When the daemon's end closes, the launcher exits.

The daemon sends GUARD with the control file that ends its mount's connection (kernel: fs/fuse/control.c).
There is no answer. If the daemon is killed, the launcher ends the connection. Otherwise the kernel may keep
the connection: a thread of the killed daemon may wait for the lock of a file or directory. If an app has this
lock and waits for the daemon's answer, the thread and the app wait for ever. A second descriptor with GUARD
is the pidfd of a thread that only waits (linux/threads.py). This descriptor reports that the daemon was
killed, even if all other threads wait for such a lock. Without this descriptor (Linux before 6.9) the
launcher notices only the end of the daemon's main thread. A closed control socket counts as an end, too.

A daemon with a keeper (daemon/keeper) sends a pidfd of the keeper, too, and its own pid and the keeper's as
words after GUARD. Then the launcher sends DYING to the keeper, and ends the connection only if the keeper
ends before another daemon has closed the dead one's descriptors.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from policyfs.content.workers.announcer import live as announce
from policyfs.content.workers.policy_parser import live as parse
from policyfs.linux.child import send_as
from policyfs.linux.confinement.prctl import request_parent_death_signal

START: Final = b"start"
ANNOUNCE: Final = b"announce"
PARSE: Final = b"parse"
GUARD: Final = b"guard"
DYING: Final = signal.SIGUSR2
"""The signal to the keeper that its daemon was killed. Its sender seems to be the daemon. Threads of the
daemon may last longer, and with them the process."""
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


def serve(
    control: socket.socket, live: Live | str, *, is_child: bool = True, nice: int | None = None
) -> None:
    """Start zygotes until the daemon is gone.

    live: the main function of a zygote, or the reason (text) why no zygote can be started. is_child: True if
    this process is a child of the daemon. nice: the nice value of zygotes; None: that of this process.
    """
    guarded = _Guarded(control, is_child=is_child)
    mains: dict[bytes, Live | str] = {START: live, ANNOUNCE: announce, PARSE: parse}
    while True:
        guarded.wait()
        message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 3)
        if message.startswith(GUARD) and fds:
            guarded.begin(fds, [int(word) for word in message.split()[1:]])
            continue
        try:
            main = mains.get(message)
            if main is None or len(fds) != 1:
                return
            answer, passed = (
                (main.encode(), []) if isinstance(main, str) else _start(control, fds[0], main, nice)
            )
        finally:
            for fd in fds:
                os.close(fd)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(control, [answer[:MAX_MESSAGE]], passed)
        finally:
            for fd in passed:
                os.close(fd)


class _Guarded:
    """The connection that the launcher ends when the daemon has been killed; none before begin()."""

    def __init__(self, control: socket.socket, *, is_child: bool) -> None:
        self._control = control
        self._is_child = is_child
        self._abort_fd = self._thread_fd = self._keeper_fd = -1
        self._pids: list[int] = []
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def begin(self, fds: list[int], pids: list[int]) -> None:
        """Guard a connection from now on. fds: its control file; the pidfd of a thread of the daemon; the
        pidfd of the keeper. They stay open. pids: those of the daemon and its keeper, if it has one."""
        self._abort_fd, self._thread_fd, self._keeper_fd = (*fds, -1, -1)[:3]
        self._pids = pids
        if self._thread_fd >= 0:
            self._poll.register(self._thread_fd, select.POLLIN)
        if self._is_child and self._keeper_fd < 0:
            signal.signal(DAEMON_KILLED, lambda _number, _frame: self._end())
            request_parent_death_signal(DAEMON_KILLED)

    def wait(self) -> None:
        """Wait for an order of the daemon, or for its end. Meanwhile end the connection if the daemon is
        killed.
        """
        while True:
            ready = [fd for fd, _ in self._poll.poll()]
            if self._thread_fd in ready:
                self._poll.unregister(self._thread_fd)
                if self._keeper_fd < 0 or not self._is_followed():
                    self._end()
            if self._control.fileno() in ready:
                if self._keeper_fd < 0 and not self._has_order():
                    self._end()
                return

    def _has_order(self) -> bool:
        """Return False if the daemon's end is closed. A dying process closes its sockets before the pidfd of
        its last thread is readable (kernel: do_exit() in kernel/exit.c)."""
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK))
        except ConnectionResetError:  # it died before it had read an answer
            return False

    def _is_followed(self) -> bool:
        """Tell the keeper of the daemon's death, and wait for another daemon: it closes the dead one's
        descriptors. Return False if the keeper ends before."""
        poll = select.poll()
        poll.register(self._control, 0)  # only its end, not an order of the dead daemon
        poll.register(self._keeper_fd, select.POLLIN)
        if not poll.poll(0):
            daemon, keeper = self._pids
            with contextlib.suppress(ProcessLookupError):
                send_as(keeper, DYING, pid=daemon, uid=0)
        return self._control.fileno() in [fd for fd, _ in poll.poll()]

    def _end(self) -> None:
        abort_fd, self._abort_fd = self._abort_fd, -1
        if abort_fd >= 0:
            with contextlib.suppress(OSError):  # the connection has ended
                os.write(abort_fd, b"1")
            os.close(abort_fd)


def _start(control: socket.socket, theirs: int, live: Live, nice: int | None) -> tuple[bytes, list[int]]:
    try:
        pid = os.fork()
        if pid == 0:
            control.detach()  # its descriptor is closed below, with all others
            _become_zygote(theirs, live, nice)
        return b"%d" % pid, [os.pidfd_open(pid)]
    except OSError as error:
        return f"cannot fork a zygote: {error}".encode(), []


def _become_zygote(control_fd: int, live: Live, nice: int | None) -> NoReturn:
    """Run a zygote in the forked process, and never return.

    Close all descriptors except 0, 1, 2 and *control_fd*.
    """
    status = 1
    try:
        os.setsid()
        if nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
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
