"""Real daemons on real mounts, for tests, the demo and the benchmark.

A Mount is one `policyfs mount --foreground` process. It ends in one way only: SIGTERM, and what
does not answer to that is aborted through its FUSE connection, detached and killed, and then the
test fails. What the daemon logged and what it left behind is looked at every time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from policyfs.cli.main import _COMMANDS
from policyfs.daemon.control import control
from policyfs.journal.files.reader import raw_lines
from policyfs.journal.files.segments import Chain
from tests.support.machine import template
from tests.support.machine.counts import PATIENCE
from tests.support.machine.forked import daemon_of, prepare
from tests.support.machine.launchers import forked_launchers, prepared
from tests.support.machine.namespace import (
    abort_connection,
    control_of,
    detach,
    die_with_parent,
    mounts_below,
)
from tests.support.machine.processes import wait_for
from tests.support.machine.template import Forked
from tests.support.mount.line_shapes import unknown_lines

READY_S: Final = 20.0 * PATIENCE
STOP_S: Final = 15.0 * PATIENCE
COMMAND: Final = "policyfs.cli.main"
SUSPICIOUS: Final = re.compile(r"Traceback|\b(ERROR|CRITICAL|error|critical|exception|bug)\b")


class MountFailed(AssertionError):
    """The daemon ended, or never answered, instead of mounting."""

    def __init__(self, message: str, returncode: int | None, output: str) -> None:
        super().__init__(f"{message}\n{output}")
        self.returncode = returncode
        self.output = output


@dataclass(frozen=True, slots=True)
class Said:
    """What one policyfs command answered."""

    returncode: int
    stdout: str
    stderr: str


def policyfs(*arguments: str | os.PathLike[str]) -> Said:
    """Run a policyfs command in this process (no interpreter to start); for short ones only."""
    # Imported here: tests that mount nothing must not load what the commands load.
    from policyfs.cli.main import main as policyfs_main

    out, err = io.StringIO(), io.StringIO()
    with forked_launchers(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = policyfs_main([os.fspath(argument) for argument in arguments])
        except SystemExit as leave:  # argparse leaves so
            code = leave.code if isinstance(leave.code, int) else 1
    return Said(code, out.getvalue(), err.getvalue())


def policyfs_process(
    *arguments: str | os.PathLike[str],
    environment: Mapping[str, str] | None = None,
    deadline_s: float = 60.0,
    executed: bool = False,
) -> Said:
    """Run a policyfs command as its own process: forked off this one, or *executed*, as a person would."""
    process = policyfs_started(
        *arguments, environment=environment, executed=executed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            out, err = process.communicate(timeout=deadline_s)
        except BaseException:
            process.kill()
            raise
    return Said(process.returncode, out, err)


def policyfs_started(
    *arguments: str | os.PathLike[str],
    environment: Mapping[str, str] | None = None,
    executed: bool = False,
    **streams: Any,
) -> subprocess.Popen[str]:
    """Start a policyfs command as its own process; see policyfs_process. streams: as subprocess has them."""
    words = list(map(os.fspath, arguments))
    if executed:
        line, before = [sys.executable, "-m", COMMAND, *words], None
    else:
        prepare((COMMAND,))
        for module, _ in _COMMANDS.values():
            importlib.import_module(f"policyfs.cli.{module}")
        line = ["/nonexistent"]  # never reached
        before = functools.partial(daemon_of, (COMMAND,), words, environment or {}, prepared())
    return subprocess.Popen(
        line, stdin=subprocess.DEVNULL, text=True, env=os.environ | (environment or {}), preexec_fn=before,
        **streams,
    )  # fmt: skip


def mount_id(mountpoint: str | os.PathLike[str]) -> str:
    """The name of a mount's control socket and trail directory."""
    return hashlib.sha256(os.fsencode(os.path.abspath(mountpoint))).hexdigest()[:16]


class Mount:
    """One daemon and its mount.

    store, mountpoint, trail: directories. process: the daemon. log: the file that has its
    standard error. expected_log: patterns of log lines that this test provokes on purpose.
    wrapper: words before the daemon's command line, such as setpriv and its options. executed: give
    it an interpreter of its own (see forked.py). most_descriptors: limit of its descriptors, 0 for none.
    expected_mediated: the kernel is to refuse passthrough for some files of this store.
    """

    def __init__(
        self,
        store: Path,
        mountpoint: Path,
        policy: Path,
        *,
        options: Sequence[str | os.PathLike[str]] = (),
        work: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Name the parts; start() mounts. work: a directory of root's for log, trail, sockets."""
        self.store = store
        self.mountpoint = mountpoint
        self.policy = policy
        self.trail = work / "trail"
        self.runtime = work / "run"
        self.log = work / f"daemon-{mount_id(mountpoint)}.log"
        self.options = tuple(map(os.fspath, options))
        self.program: tuple[str, ...] = (os.environ.get("POLICYFS_TEST_DAEMON", COMMAND),)
        """Module and leading arguments of the daemon; tests of the tests put a weakened one here, and
        `make sanitize` its own."""
        self.environment = dict(environment or {}) | {
            "POLICYFS_RUNTIME_DIR": str(self.runtime),
            "POLICYFS_TRAIL_DIR": str(self.trail),
            "POLICYFS_KEY_DIR": str(work / "keys"),
        }
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.expected_log: list[str] = []
        self.expected_mediated = "--no-passthrough" in self.options
        self.expected_exit = 0
        self._device: int | None = None
        self._control = 0
        self.wrapper: tuple[str, ...] = ()
        self.most_descriptors = 0
        self.executed = "POLICYFS_TEST_DAEMON" in os.environ

    # ------------------------------------------------------------ life

    def start(self, deadline_s: float = READY_S) -> Mount:
        """Mount, and return once the daemon answers. Raises MountFailed with its output."""
        self.process = self.launch()
        try:
            told = isinstance(self.process, Forked) and self.process.wait_for_answer(deadline_s)
            wait_for(functools.partial(self._answers, told=told), "the daemon answers", deadline_s)
        except BaseException as error:
            output = self.log.read_text(errors="replace")
            returncode = self.process.poll()
            self.force_away()
            if isinstance(error, AssertionError):
                raise MountFailed(f"mount of {self.store}: {error}", returncode, output) from None
            raise
        return self

    def launch(self) -> subprocess.Popen[bytes] | Forked:
        """Start the daemon, and do not wait until it has mounted."""
        for directory in (self.trail, self.runtime):
            directory.mkdir(parents=True, exist_ok=True)
        words = ["mount", "--foreground", "--policy", str(self.policy), *self.options]
        if not {"--keeper", "--read-only"} & set(self.options):
            words.insert(1, "--no-keeper")  # which takes less time
        words += [str(self.store), str(self.mountpoint)]
        with self.log.open("ab") as log:
            self.process = self._launched(words, log)
        return self.process

    def _launched(self, words: list[str], log: BinaryIO) -> subprocess.Popen[bytes] | Forked:
        """The daemon's process: forked off a template where nothing speaks against it, since a new
        interpreter takes a second to import what is imported there already."""
        if not self.wrapper and not self.executed:
            return template.start(
                self.program, words, self.environment, prepared(), log.fileno(), self.most_descriptors
            )
        line = [*self.wrapper, sys.executable, "-X", "faulthandler", "-m", *self.program, *words]
        if self.most_descriptors:
            line = ["prlimit", f"--nofile={self.most_descriptors}:{self.most_descriptors}", "--", *line]
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | self.environment, preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )  # fmt: skip

    def _answers(self, *, told: bool = False) -> bool:
        """told: the daemon has told that it answers, or has ended. Others are asked."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with exit code {self.process.returncode}")
        if not (told or self._listens()):
            return False
        for entry in mounts_below(self.mountpoint):  # read last: many mounts are many lines
            if entry.mountpoint == str(self.mountpoint):
                try:
                    self._device, self._control = entry.device, control_of(entry.device)
                except FileNotFoundError:  # it is a killed daemon's, whose connection has ended
                    return False
                return True
        return False

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as control:
            try:
                control.connect(str(self.control_socket))
            except OSError:
                return False
        return True

    def waiting(self) -> int:
        """How many requests the kernel has that are not answered."""
        return int(Path(f"/sys/fs/fuse/connections/{self._device}/waiting").read_text())

    def abort(self) -> bool:
        """End the mount's FUSE connection by force. False if it is gone already."""
        return self._device is not None and abort_connection(self._device, self._control)

    @property
    def control_socket(self) -> Path:
        """Where the daemon listens for `status`, `reload` and `umount`."""
        return self.runtime / f"{mount_id(self.mountpoint)}.sock"

    @property
    def trail_dir(self) -> Path:
        """Where this mount's chain of segments is."""
        return self.trail / mount_id(self.mountpoint)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None
        return self.process.pid

    def is_mounted(self) -> bool:
        """True while the mount table shows the mount."""
        return any(entry.mountpoint == str(self.mountpoint) for entry in mounts_below(self.mountpoint))

    def stop(self, deadline_s: float = STOP_S) -> list[str]:
        """End the daemon; returns everything that was wrong about its life and its end."""
        wrong: list[str] = []
        if self.process is None:
            return wrong
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                wrong.append(f"the daemon did not end within {deadline_s:g} s of SIGTERM")
        if self.is_mounted():
            wrong.append(f"{self.mountpoint} was still mounted after the daemon's end")
        self.force_away()
        if not wrong and self.process.returncode != self.expected_exit:
            wrong.append(f"the daemon's exit code was {self.process.returncode}")
        if self.control_socket.exists():
            wrong.append("the daemon left its control socket behind")
        wrong += [f"log: {line}" for line in self.unexpected_log()]
        wrong += unknown_lines(self.trail_dir)
        self.process = None
        return wrong

    def force_away(self) -> None:
        """Abort the connection, detach the mount, kill the daemon: cannot hang."""
        for entry in mounts_below(self.mountpoint):
            if entry.fstype.startswith("fuse"):
                abort_connection(entry.device)
            detach(entry.mountpoint)
        if self.process is not None and self.process.poll() is None:
            self.abort()  # detached, and yet not ended: requests may wait in it
            self.process.kill()
            self.process.wait(STOP_S)

    def start_after_kill(self) -> None:
        """Kill the daemon, clean up after it, and mount again."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(10)
        self.force_away()
        self.process = None
        self.control_socket.unlink()
        self.start()

    # ------------------------------------------------------------ looking

    def unexpected_log(self) -> list[str]:
        """Lines of the daemon's log that no test expects: errors, bugs, tracebacks."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [
            "\n".join([line, *_frames(lines[number + 1 :])]) if line.startswith("Traceback") else line
            for number, line in enumerate(lines)
            if is_suspicious(line) and not any(re.search(pattern, line) for pattern in self.expected_log)
        ]

    def notices(self, id_: str) -> list[str]:
        """The levels of the messages for administrators with this id (daemon/log.py)."""
        lines = self.log.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry["level"] for entry in found if entry.get("id") == id_]

    def status(self) -> dict[str, Any]:
        """What the daemon answers to `policyfs status`, asked without the command: tests ask all the time."""
        try:
            return control.ask(self.control_socket, "status")
        except control.ControlError as error:
            raise AssertionError(f"{self.mountpoint}: {error}") from error

    def fuse(self, opcode: str) -> int:
        """How many requests of one opcode (`READ`, `LOOKUP`, ...) have reached the daemon."""
        return int(self.fuse_counters().get(opcode, 0))

    def fuse_counters(self) -> dict[str, int]:
        """Requests that have reached the daemon, by opcode."""
        return {name: int(count) for name, count in self.status()["fuse"].items()}

    def reload(self) -> Said:
        """`policyfs reload` of this mount."""
        with self.as_environment():
            return policyfs("reload", self.mountpoint)

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """The trail's events so far, in order; `wanted` compares fields."""
        found = []
        for line in self.trail_lines():
            event = json.loads(line)
            if all(event.get(key) == value for key, value in wanted.items()):
                found.append(event)
        return found

    def trail_lines(self) -> Iterator[bytes]:
        """The lines of the trail so far, in order, also those of segments that are sealed and compressed."""
        chain = Chain(self.trail_dir.name, self.trail_dir)
        for segment in chain.segments() if self.trail_dir.is_dir() else []:
            yield from raw_lines(self.trail_dir, segment, 5.0 * PATIENCE)  # the last may be in the making

    def descriptors(self) -> int:
        """How many descriptors the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @contextlib.contextmanager
    def as_environment(self):
        """This process's environment as the mount's commands need it."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    # ------------------------------------------------------------ paths

    def __truediv__(self, name: str) -> Path:
        """A path in the mount: `mount / "DCIM/a.jpg"`."""
        return self.mountpoint / name

    def __fspath__(self) -> str:
        return str(self.mountpoint)


def _frames(lines: list[str]) -> list[str]:
    """What belongs to a traceback whose first line comes before these lines: its frames, and its error."""
    end = next((number for number, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    return lines[: end + 1]


def is_suspicious(line: str) -> bool:
    """True for a log line that tells of an error or a bug, in JSON or in plain text."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            level = str(entry.get("level", "")).lower()
            return level in {"error", "critical"} or "exception" in entry or "bug" in entry
    return bool(SUSPICIOUS.search(line))


def write_policy(policy: str | Path, directory: Path, name: str = "policy.yaml") -> Path:
    """A policy given as text goes into a file; a path stays what it is."""
    if isinstance(policy, Path):
        return policy
    path = directory / name
    path.write_text(policy, encoding="utf-8")
    return path
