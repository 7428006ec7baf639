"""The execution of the launcher, the process that starts the zygotes of a daemon (launcher.py).

This module imports no event loop. So the launcher imports its modules while the daemon imports its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence

import policyfs

# INVARIANT: the version of the detectors is read before the launcher reads their code.
from policyfs.content import detector_version  # noqa: F401
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.uids import BLOCK, NoUidsError, free_block
from policyfs.content.workers.zygote import LAUNCH, Worker, become_launcher
from policyfs.errors import PolicyfsError
from policyfs.linux.interpreter import interpreter


class SnifferError(PolicyfsError):
    """The error if the sniffing workers cannot be started."""


def worker_limits(
    apps: Sequence[tuple[int, int]] = (), *, uid: int | None = None, gid: int | None = None,
    address_space: int = 512 << 20,
) -> Limits:  # fmt: skip
    """Return the limits of workers, with uids that are unused now; without root, with the uid of the user.

    apps: the ranges of uids (first, last) that the policy names. uid, gid: the ids of the workers; then only
    one can live at a time. address_space: in bytes. Raises SnifferError.
    """
    users = os.geteuid() != 0
    try:
        if users:
            first, gid, uids = os.geteuid(), os.getegid(), BLOCK - 1
        else:
            first, uids = (free_block(apps), BLOCK - 1) if uid is None else (uid, 1)
    except (NoUidsError, OSError) as error:
        raise SnifferError(f"cannot start the sniffing workers: {error}") from error
    return Limits(
        uid=first, gid=first if gid is None else gid, address_space=address_space, cpu_s=600,
        descriptors=8, uids=uids, users=users,
    )  # fmt: skip


class LauncherProcess:
    """The process of a launcher, and the daemon's end of its control socket. is_child: True if it is a child
    of the daemon or its keeper."""

    is_child = True

    def __init__(self, limits: Limits) -> None:
        """Execute a fresh interpreter with the daemon's module path. This takes a few ms.

        The interpreter inherits only its control socket, and a memfd as its standard error. It then imports
        modules for 0.3 s. Raises OSError if the interpreter cannot be executed.
        """
        self.limits = limits
        theirs = self._connect()
        options = json.dumps(dataclasses.asdict(limits))
        program = interpreter(
            "policyfs.content.workers.zygote", str(theirs.fileno()), options, LAUNCH, path=_module_path()
        )
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 # our own interpreter and arguments
                    program.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.stderr,
                    cwd="/", env=program.environment, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
        except OSError:
            self.control.close()
            os.close(self.stderr)
            raise
        self._made(self._process.pid)

    def _made(self, pid: int) -> None:
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def descriptors(self) -> list[int]:
        """Return the descriptors of this object."""
        return [self.control.fileno(), self.stderr, self.pidfd]

    def wait(self) -> None:
        """Wait for its end, and reap a child of this process."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll()
        os.close(self.pidfd)
        if self.is_child:
            self._process.wait()

    def _connect(self) -> socket.socket:
        """Make the control socket and the file of standard error. Return the launcher's end of the socket."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        # Not the daemon's stderr: a program that reads the daemon's stderr to its end would wait for the
        # zygotes, too.
        self.stderr = os.memfd_create("policyfs-zygote-stderr")
        return theirs


class ForkedLauncher(LauncherProcess):
    """A launcher that is a fork of this process, and shares the memory of what it has imported. It is made
    before this process reads a policy, and becomes the launcher of a daemon that is another fork.

    INVARIANT: this process has one thread, and the kernel tells of the ends of threads (tells_of_threads).
    """

    is_child = False

    def __init__(self, worker: Worker) -> None:
        """worker: the code of the workers, which this process has imported."""
        theirs = self._connect()
        with theirs:
            if (pid := os.fork()) == 0:
                become_launcher(theirs, self.stderr, worker)
        self._made(pid)

    def limit(self, limits: Limits) -> None:
        """Tell the launcher the limits of its workers. Raises SnifferError."""
        self.limits = limits
        try:
            self.control.send(json.dumps(dataclasses.asdict(limits)).encode())
        except OSError as error:
            raise SnifferError(f"cannot start the sniffing workers: no launcher: {error}") from error

    def leave(self) -> None:
        """Leave the launcher to other processes: close the descriptors here. Once all have, it ends."""
        self.control.close()
        os.close(self.stderr)
        os.close(self.pidfd)


def execute_launcher(apps: Sequence[tuple[int, int]]) -> LauncherProcess:
    """Execute a launcher for a daemon. apps: as for worker_limits(). Raises SnifferError."""
    limits = worker_limits(apps)
    try:
        return LauncherProcess(limits)
    except OSError as error:
        raise SnifferError(f"cannot start the sniffing workers: {error}") from error


def _module_path() -> list[str]:
    """Return the absolute directories of this interpreter's module path, so that zygotes find its modules."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(policyfs.__file__)))
    return [own, *(entry for entry in sys.path if os.path.isabs(entry) and entry != own)]
