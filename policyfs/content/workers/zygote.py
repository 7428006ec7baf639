"""The prepared parent: ``python -m policyfs.content.workers.zygote CONTROL_FD LIMITS [launch]``.

This program is a fresh interpreter, not a fork of the daemon. With ``launch`` it becomes the launcher, which
forks zygotes (launcher.py); otherwise it becomes a zygote. So no worker inherits the daemon's memory,
descriptors or locks. (The launchers of `policyfs up` are forks of a process that has read no policy:
become_launcher.) The zygote stays root, because only root can give its children another uid. It reads only
orders of one word from the daemon, so nothing hostile ever reaches it. It has only one thread: a fork would
copy the locks that other threads hold, but not these threads.

Messages on the control socket (SOCK_SEQPACKET): the zygote first sends READY, or the reason why it
cannot run. The answer to FORK is the worker's pid as a decimal with three descriptors:
the daemon's end of the worker's socket, a pidfd, and a pipe on which the zygote reports how the
worker ended (see ENDED). If the zygote forked no worker, the answer is the reason. When the daemon's end
closes, the zygote kills and reaps its children and exits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from policyfs.content.workers.launcher import serve
from policyfs.content.workers.sandbox import Limits
from policyfs.linux.confinement.capabilities import ZYGOTE, keep, no_new_privs
from policyfs.linux.confinement.namespaces import leave_network
from policyfs.linux.confinement.prctl import name_process
from policyfs.linux.scheduling import go_first

if TYPE_CHECKING:
    from policyfs.content.workers.worker import Detector

LAUNCH: Final = "launch"
READY: Final = b"ready"
FORK: Final = b"fork"
ENDED: Final = struct.Struct("=i")
"""The report of a worker's end: its exit code, or the negative number of the signal that ended it."""
MAX_MESSAGE: Final = 2000
_CONTROL_FD: Final = 3
_REAP_MS: Final = 2000
"""Time (ms) that an ending zygote waits for killed workers. A worker in a hung disk read is left to init."""


class _Child(NamedTuple):
    """A worker whose end was not collected by waitpid() yet.

    number: its uid minus the first uid of all workers (Limits.uids). said: the write end of the pipe on which
    the zygote reports the worker's end (ENDED).
    """

    pid: int
    number: int
    said: int


class Zygote:
    """Forks workers on the daemon's orders, and reaps them when they end."""

    def __init__(self, control: socket.socket, limits: Limits, worker: Worker) -> None:
        self._control = control
        self._limits = limits
        self._detector, self._run = worker
        self._children: dict[int, _Child] = {}  # by pidfd
        self._last = -1
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Fork a worker for each order of the daemon, until the daemon is gone."""
        gc.collect()
        gc.freeze()  # living objects stay shared with the workers: no collector writes to them
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
        """Kill and reap all workers, except those that cannot die because they hang in a disk read."""
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
        number = self._free_number()
        if number is None:
            self._control.send(f"all {self._limits.uids} uids of workers are in use".encode())
            return
        own = 0 if self._limits.users else number
        uid, gid = self._limits.uid + own, self._limits.gid + own
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        heard, said = os.pipe()
        with ours, theirs:
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                os.close(heard)
                os.close(said)
                self._control.send(f"fork: {error}".encode()[:MAX_MESSAGE])
                return
            if pid == 0:
                limits = dataclasses.replace(self._limits, uid=uid, gid=gid)
                self._run(theirs, self._detector, limits, parent)
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = _Child(pid, number, said)
            self._poll.register(pidfd, select.POLLIN)
            socket.send_fds(self._control, [b"%d" % pid], [ours.fileno(), pidfd, heard])
            os.close(heard)

    def _free_number(self) -> int | None:
        """Return the number of the uid that has been unused for the longest time; None if all uids are in
        use.

        Numbers count from the first uid of all workers.
        """
        taken = {child.number for child in self._children.values()}
        for step in range(1, self._limits.uids + 1):
            number = (self._last + step) % self._limits.uids
            if number not in taken:
                self._last = number
                return number
        return None

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        child = self._children.pop(pidfd)
        _, status = os.waitpid(child.pid, 0)
        with contextlib.suppress(OSError):  # the daemon may have closed its end of the pipe
            os.write(child.said, ENDED.pack(os.waitstatus_to_exitcode(status)))
        os.close(child.said)
        os.close(pidfd)


class Worker(NamedTuple):
    """The code that a forked worker runs: its detector, imported and loaded, and its main function."""

    detector: Detector
    run: Callable[..., NoReturn]


@functools.cache
def prepared() -> Worker:
    """Load libmagic, and import the locators (the parsers that find the parts to hide). Call this function
    before any worker is forked.

    Raises ImportError if a module or libmagic is missing, magic.MagicException if libmagic has no database.
    """
    from policyfs.content.workers.worker import Detector, run  # noqa: PLC0415 # so that the daemon hears of errors

    return Worker(Detector(), run)


def live(control: socket.socket, limits: Limits, worker: Worker) -> int:
    """Run a zygote until the daemon is gone; return its exit code."""
    name_process("policyfs-zygot")
    zygote = Zygote(control, limits, worker)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        zygote.serve()
    zygote.close()
    return 0


def become_launcher(control: socket.socket, stderr: int, worker: Worker) -> NoReturn:
    """Run the launcher in a forked process, and never return: with nothing of the other process but what it
    has imported. control: the first message on it has the limits. stderr: the standard error to be.
    """
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for number, fd in enumerate((null, null, stderr, control.detach())):
            os.dup2(fd, number, inheritable=number < _CONTROL_FD)
        os.closerange(_CONTROL_FD + 1, 1 << 20)
        os.environ.clear()
        leave_network()
        _take_no_signals()
        with socket.socket(fileno=_CONTROL_FD) as orders:
            if said := orders.recv(MAX_MESSAGE):
                status = launch(orders, Limits(**json.loads(said)), worker)
            else:
                status = 0  # there is no daemon
    except BaseException:  # noqa: BLE001 # no exception may reach the code of the other process
        traceback.print_exc()
    finally:
        os._exit(status)


def launch(control: socket.socket, limits: Limits, worker: Worker | None = None) -> int:
    """Run the launcher; return its exit code. worker: the code of the workers, if it is imported already, in
    a process that is no child of the daemon.

    INVARIANT: the launcher has only one thread, and no more rights than a zygote.
    """
    name_process("policyfs-launch")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    before = go_first()  # if the daemon is killed, apps wait until this process has noticed it
    no_new_privs()
    keep(ZYGOTE)
    start: Callable[[socket.socket], int] | str
    try:
        start = partial(live, limits=limits, worker=worker or prepared())
    except Exception as error:  # noqa: BLE001 # the daemon must hear of any error
        start = f"{type(error).__name__}: {error}"
    gc.collect()
    gc.freeze()  # the collector does not write to living objects, so their memory stays shared
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(control, start, is_child=worker is None, nice=before)
    return 0


def _take_no_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon ends this process, not a terminal


def main() -> int:
    """Run a zygote or the launcher until the daemon is gone. Return the exit code.

    argv: number of the control socket, limits as JSON, ``launch`` (only for the launcher).
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    _take_no_signals()
    try:
        limits = Limits(**json.loads(sys.argv[2]))
        if sys.argv[3:] == [LAUNCH]:
            return launch(control, limits)
        worker = prepared()
    except Exception as error:  # noqa: BLE001 # the daemon must hear of any error
        control.send(f"{type(error).__name__}: {error}".encode()[:MAX_MESSAGE])
        return 1
    return live(control, limits, worker)


if __name__ == "__main__":
    sys.exit(main())
