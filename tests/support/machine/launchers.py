"""Launchers forked off an interpreter that has imported all they need: a mount is there 0.2 s earlier.

Every daemon executes an interpreter for its launcher (content/workers/launcher.py), which then imports
for 0.2 s of processor time. Here one interpreter, executed with the same options, imports once for all
daemons of a process of tests. `attach` makes a daemon that is forked off the tests (forked.py)
order its launcher there. The fork gets what an executed one would get of its daemon, and runs the same
module. One difference is left: the daemon is not its parent. A test that needs that sets Mount.executed.

A connection (SOCK_SEQPACKET) orders one launcher: the words, environment and limits as JSON, with the
descriptors of its standard error, of the daemon's network, and of its control socket. The answer is its pid.
A message without descriptors is the pid of one that has ended and is to be reaped: thousands of commands run
in one process of tests, and each daemon that starts looks at every process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NoReturn

from policyfs.linux.libc import LIBC
from tests.support.machine.huge_pages import Collapsed
from tests.support.machine.namespace import die_with_parent

PREPARED: Final = ("-P", "-s", "-S", "-m", "policyfs.content.workers.zygote")
"""The first words of a command line, after the interpreter, that the prepared interpreter can run."""
_SOCKET: Final = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
_MOST: Final = 1 << 16
_ABOVE: Final = 100
"""Received descriptors move above this number, out of the way of the numbers that they are to have."""
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_LIMITS: Final = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_interpreters: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
"""Socket and process of the prepared interpreter, by the pid of the process that has executed it."""


# -- in the process of the tests ------------------------------------------------------------------


def prepared() -> str:
    """Return the socket of this process's prepared interpreter; executes it at the first call."""
    if os.getpid() not in _interpreters:
        _interpreters[os.getpid()] = _execute()
    return _interpreters[os.getpid()][0]


def _execute() -> tuple[str, subprocess.Popen[bytes]]:
    from policyfs.content.workers.execution import _module_path
    from policyfs.linux.interpreter import interpreter

    top = str(Path(__file__).parents[3])
    modules = [top, *(entry for entry in _module_path() if entry != top)]
    directory = tempfile.mkdtemp(prefix="policyfs-launchers-")
    with socket.socket(*_SOCKET) as server:
        server.bind(f"{directory}/socket")
        server.listen(64)
        program = interpreter(__name__, str(server.fileno()), directory, path=modules)
        process = subprocess.Popen(
            program.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            cwd="/", env=program.environment,
            pass_fds=[server.fileno()], start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, signal.SIGTERM),
        )  # fmt: skip
    return f"{directory}/socket", process


# -- in a daemon ----------------------------------------------------------------------------------


def attach(path: str = "", *, reaps: bool = False) -> None:
    """Make this process, a daemon forked off the tests, order its launcher at a prepared interpreter.

    path: its socket, unless it is this process's own. reaps: have launchers reaped once they were waited for.
    """
    from policyfs.content.workers import execution

    popen = functools.partial(_popen, path, reaps)
    execution.subprocess = SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL)


@contextlib.contextmanager
def forked_launchers() -> Iterator[None]:
    """Let sniffers of this process fork their launchers off the prepared interpreter. Commands that a test
    runs in its own process have one for each look at a file."""
    from policyfs.content.workers import execution

    before = execution.subprocess
    attach(reaps=True)
    try:
        yield
    finally:
        execution.subprocess = before


def _popen(path: str, reaps: bool, words: Sequence[str], **named: Any) -> Any:
    """Order a launcher; execute what is none."""
    if tuple(words[1 : 1 + len(PREPARED)]) != PREPARED:
        return subprocess.Popen(words, **named)
    (control,) = named["pass_fds"]
    order = {
        "words": words[len(PREPARED) :], "environment": named["env"], "control": control,
        "limits": {limit: resource.getrlimit(limit) for limit in _LIMITS},
    }  # fmt: skip
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked,
        open("/proc/self/ns/net", "rb") as net,
    ):
        asked.connect(path or prepared())
        socket.send_fds(asked, [json.dumps(order).encode()], [named["stderr"], net.fileno(), control])
        return Launcher(int(asked.recv(_MOST)), path or prepared() if reaps else "")


class Launcher:
    """A launcher that another process started: as much of a subprocess.Popen as the daemon uses."""

    def __init__(self, pid: int, reaper: str = "") -> None:
        """reaper: the socket of the interpreter that is to reap it after wait(); empty: it does so after this
        process's end."""
        self.pid = pid
        self._reaper = reaper

    def wait(self) -> None:
        """Wait for its end. It is not reaped while a daemon lives, so the pid stays its own."""
        ended = select.poll()  # select(2) is refused to a serving daemon
        pidfd = os.pidfd_open(self.pid)
        try:
            ended.register(pidfd, select.POLLIN)
            ended.poll()
        finally:
            os.close(pidfd)
        if self._reaper:
            with socket.socket(*_SOCKET) as told:
                told.connect(self._reaper)
                told.send(b"%d" % self.pid)
            self._reaper = ""


# -- in the prepared interpreter ------------------------------------------------------------------


def serve(server: socket.socket) -> NoReturn:
    """Fork launchers on orders, for as long as the tests run."""
    children: dict[int, int] = {}
    pages = Collapsed()
    while True:
        asked, _ = server.accept()
        with asked, contextlib.ExitStack() as received:
            message, fds, _, _ = socket.recv_fds(asked, _MOST, 3)
            for fd in fds:
                received.callback(os.close, fd)
            _reap(children)
            pages.renew()
            if not message:
                continue  # the daemon was killed before it sent its order
            if not fds:
                if (pid := int(message)) in children and os.waitpid(pid, os.WNOHANG)[0]:
                    os.close(children.pop(pid))
                continue
            with contextlib.suppress(OSError):  # the daemon was killed
                pidfd = os.pidfd_open(_pid_of(asked))
                if not (pid := os.fork()):
                    _become_launcher(json.loads(message), *fds)
                children[pid] = pidfd
                asked.send(b"%d" % pid)


def _pid_of(connection: socket.socket) -> int:
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def _reap(children: dict[int, int]) -> None:
    """Reap those whose daemons have ended. Others stay, dead or alive, as they would for their parent."""
    ended, _, _ = select.select(list(children.values()), [], [], 0)
    for pid, pidfd in list(children.items()):
        if pidfd in ended and os.waitpid(pid, os.WNOHANG)[0]:
            os.close(children.pop(pid))


def _become_launcher(order: Mapping[str, Any], *fds: int) -> NoReturn:
    """Run the launcher in the forked process: with what the daemon would have handed on, alone."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        stderr, network, control = (fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE) for fd in fds)
        if LIBC.setns(network, _CLONE_NEWNET):
            raise OSError("the network namespace of the daemon cannot be entered")
        os.dup2(stderr, 2)
        os.dup2(control, order["control"])
        os.closerange(3, order["control"])
        os.closerange(order["control"] + 1, 1 << 20)
        for limit, values in order["limits"].items():
            resource.setrlimit(int(limit), values)
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = order["words"]  # the first is the module's
        status = sys.modules[PREPARED[-1]].main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> NoReturn:
    """Import, then serve until the tests have ended. argv: number of the listening socket, its directory."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        import policyfs.policy.analysis.invariants  # noqa: F401 - a reload parses its policy in a fork
        from policyfs.content.workers import worker
        from policyfs.content.workers.zygote import prepared as import_all

        detector = import_all().detector
        worker.Detector = lambda: detector  # for launchers: libmagic's rules are read once
        gc.collect()
        gc.freeze()  # living objects stay shared with the launchers: no collector writes to them
        serve(socket.socket(fileno=int(sys.argv[1])))
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    main()
