"""One interpreter that has imported what a daemon imports, and forks daemons: mounts cost a fifth less.

A fork of the tests' own process copies the page tables of all tests, and both sides then copy each page that
either writes. This interpreter is a fifth as large, and writes nothing. What it forks runs as `daemon_of`
(forked.py) does it, with the streams, environment, limits, directory and umask of the process that orders it.
Two differences are left: the tests' process is not its parent, and what a test has patched in its own process
does not show in it.

A connection (SOCK_SEQPACKET) orders one daemon, and lasts as long as it: the order as JSON, with the
descriptors of its log and of a pipe. The answer is its pid. The pipe closes once the daemon answers, or has
ended. Another message asks for the wait status of a daemon that has ended, which is reaped then, not before.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.support.machine.huge_pages import Collapsed
from tests.support.machine.namespace import die_with_parent

_MOST: Final = 1 << 17
_WAIT: Final = b"wait"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_LIMITS: Final = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_templates: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
"""Socket and process of the template, by the pid of the process that has executed it."""


# -- in the process of the tests ------------------------------------------------------------------


class Forked:
    """A daemon forked off the template: as much of a subprocess.Popen as tests use."""

    def __init__(self, connection: socket.socket, pid: int, answers: int) -> None:
        """answers: the pipe that closes once the daemon answers."""
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection
        self._pidfd = os.pidfd_open(pid)
        self._answers = answers

    def __del__(self) -> None:
        for fd in (self._pidfd, self._answers):
            with contextlib.suppress(OSError):
                os.close(fd)

    def wait_for_answer(self, timeout_s: float) -> bool:
        """Return True once the daemon answers or has ended, False after so many seconds."""
        return _is_readable(self._answers, timeout_s)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None and _is_readable(self._pidfd, 0):
            self._connection.send(_WAIT)
            self.returncode = int(self._connection.recv(_MOST))
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not _is_readable(self._pidfd, timeout):
            raise subprocess.TimeoutExpired(["policyfs", "mount"], timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _is_readable(fd: int, timeout_s: float | None) -> bool:
    waiting = select.poll()  # select(2) takes no descriptor above 1,023
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(None if timeout_s is None else max(0, timeout_s) * 1000))


def start(
    program: Sequence[str], words: Sequence[str], environment: Mapping[str, str], launchers: str, log: int,
    most_descriptors: int = 0,
) -> Forked:  # fmt: skip
    """Fork a daemon off the template. log: for its standard output and error. The others: see daemon_of."""
    umask = os.umask(0)
    os.umask(umask)
    order = {
        "program": program, "words": words, "environment": dict(os.environ), "added": dict(environment),
        "launchers": launchers, "most_descriptors": most_descriptors,
        "directory": os.getcwd(), "umask": umask,
        "limits": {limit: resource.getrlimit(limit) for limit in _LIMITS},
    }  # fmt: skip
    if os.getpid() not in _templates:
        _templates[os.getpid()] = _execute()
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect(_templates[os.getpid()][0])
    answers, answered = os.pipe()
    try:
        socket.send_fds(asked, [json.dumps(order).encode()], [log, answered])
    finally:
        os.close(answered)
    return Forked(asked, int(asked.recv(_MOST)), answers)


def _execute() -> tuple[str, subprocess.Popen[bytes]]:
    directory = tempfile.mkdtemp(prefix="policyfs-template-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(f"{directory}/socket")
        server.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.machine.template", str(server.fileno()), directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[3],
            pass_fds=[server.fileno()], start_new_session=True,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )  # fmt: skip
    return f"{directory}/socket", process


# -- in the template ------------------------------------------------------------------------------


class _Server:
    """Forks daemons on orders, and reaps those whose end was asked for."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._pages = Collapsed()
        self._poll = select.poll()
        self._poll.register(server, select.POLLIN)
        self._orders: dict[int, tuple[socket.socket, int]] = {}
        self._unasked: list[int] = []
        """Daemons that nobody will ask for."""

    def serve(self) -> NoReturn:
        """Serve for as long as the tests run."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._server.fileno():
                    self._fork()
                else:
                    self._reap(fd)
            self._unasked = [pid for pid in self._unasked if not os.waitpid(pid, os.WNOHANG)[0]]

    def _fork(self) -> None:
        from tests.support.machine.forked import prepare

        asked, _ = self._server.accept()
        message, fds, _, _ = socket.recv_fds(asked, _MOST, 2)
        order = json.loads(message)
        prepare(order["program"])
        self._pages.renew()
        # INVARIANT: a signal for the new process waits until that has the handlers of a daemon.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = os.fork()
        if not pid:
            _become_daemon(order, *fds)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        for fd in fds:
            os.close(fd)
        self._orders[asked.fileno()] = asked, pid
        self._poll.register(asked, select.POLLIN)
        asked.send(b"%d" % pid)

    def _reap(self, fd: int) -> None:
        asked, pid = self._orders.pop(fd)
        self._poll.unregister(fd)
        with asked:
            try:
                is_asked = asked.recv(_MOST) == _WAIT
            except OSError:
                is_asked = False
            if not is_asked:
                self._unasked.append(pid)
                return
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):
                asked.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become_daemon(order: Mapping[str, Any], log: int, answered: int) -> NoReturn:
    from policyfs.cli import main as command
    from tests.support.machine.forked import daemon_of

    try:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(order["directory"])
        os.umask(order["umask"])
        for name, values in order["limits"].items():
            if resource.getrlimit(int(name)) != tuple(values):
                resource.setrlimit(int(name), values)
        for name in os.environ.keys() - order["environment"].keys():
            del os.environ[name]
        changed = order["environment"].items() - os.environ.items()  # few: each costs a page
        os.environ.update(changed)
        daemon_of(
            order["program"], order["words"], order["added"], order["launchers"], order["most_descriptors"],
            answered=answered, process=command.process if order["program"] == [command.__name__] else None,
        )  # fmt: skip
    finally:
        os._exit(1)


def _import_all() -> None:
    """Import all that a daemon imports, have its regular expressions compiled, and its command line built."""
    from policyfs.cli import main as command
    from policyfs.linux.confinement.capabilities import rights_of
    from tests.support.machine.forked import prepare

    prepare(("policyfs.cli.main",))
    parser, build = command.build_parser("mount"), command.build_parser
    parser.parse_args(["mount", "--policy", "P", "STORE", "MOUNTPOINT"])
    command.build_parser = lambda *words: parser if words[0] == "mount" else build(*words)
    rights_of()


def main() -> NoReturn:
    """Import, then serve until the tests have ended. argv: number of the listening socket, its directory."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _import_all()
        gc.collect()
        gc.freeze()
        _Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    main()
