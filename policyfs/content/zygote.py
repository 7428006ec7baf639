"""The prepared parent of the workers: ``python -m policyfs.content.zygote CONTROL_FD LIMITS``.

It is a fresh interpreter, not a fork of the daemon, so that no worker inherits the daemon's
memory, descriptors or locks. It stays root, because only root can hand its children another uid;
it reads nothing but one-byte orders from the daemon, so nothing hostile ever reaches it. It has one
thread, so that a fork is always whole.

Messages on the control socket (SOCK_SEQPACKET): the zygote opens with READY or with a reason why
it cannot run. Each FORK is answered by the worker's pid as a decimal with two descriptors, the
daemon's end of the worker's socket and a pidfd, or by a reason. When the daemon's end closes, the
zygote kills and reaps what it forked and exits.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Final

from policyfs.content.confine import Limits, name_process

READY: Final = b"ready"
FORK: Final = b"fork"
MAX_MESSAGE: Final = 2000
_REAP_MS: Final = 2000
"""How long (ms) the zygote waits at its end for killed workers; one in a hung disk read is left to init."""
SESSION_NICE: Final = 10
"""A tenth of what a session counts that computes, where there is just one."""


class Zygote:
    """Forks workers when told to and reaps them when they end."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        # Imported here, so that a missing library is a message to the daemon and not a dead process.
        from policyfs.content.worker import Detector, run  # noqa: PLC0415 # see above

        self._control = control
        self._limits = limits
        self._detector = Detector()
        self._run = run
        self._children: dict[int, int] = {}  # pidfd -> pid
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Obey the daemon until it is gone."""
        gc.collect()
        gc.freeze()  # what is alive now stays shared with the workers: no collector writes to it
        self._control.send(READY)
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._reap(fd)
                elif self._control.recv(MAX_MESSAGE) == FORK:
                    self._fork()
                else:
                    return

    def close(self) -> None:
        """Kill and reap all workers, as far as the kernel lets them die."""
        self._poll.unregister(self._control)
        for pidfd in self._children:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        while self._children:
            ended = self._poll.poll(_REAP_MS)
            if not ended:
                return
            for fd, _ in ended:
                self._reap(fd)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                self._control.send(f"fork: {error}".encode()[:MAX_MESSAGE])
                return
            if pid == 0:
                self._run(theirs, self._detector, self._limits, parent)
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = pid
            self._poll.register(pidfd, select.POLLIN)
            socket.send_fds(self._control, [b"%d" % pid], [ours.fileno(), pidfd])

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.waitpid(self._children.pop(pidfd), 0)
        os.close(pidfd)


def weigh_less() -> None:
    """Where the kernel weighs sessions against each other (sched(7), autogroup), the nice value of a worker
    says nothing to the apps in others: so this session goes behind them.
    """
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "wb", buffering=0) as weight:
        weight.write(b"%d" % SESSION_NICE)


def main() -> int:
    """Run until the daemon is gone. argv: number of the control socket, limits as JSON."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    name_process("policyfs-zygot")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides when this ends, not a terminal
    try:
        weigh_less()
        zygote = Zygote(control, Limits(**json.loads(sys.argv[2])))
    except Exception as error:  # noqa: BLE001 # whatever it was, the daemon must hear of it
        control.send(f"{type(error).__name__}: {error}".encode()[:MAX_MESSAGE])
        return 1
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        zygote.serve()
    zygote.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
