"""Work done as a plain uid: tools through setpriv, Python functions in forked children.

A plain uid may not be able to read the interpreter or the checkout, so a child is forked from
the test process, with everything imported, and gives up its rights before the function runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.machine.counts import PATIENCE
from tests.support.machine.namespace import die_with_parent

DEADLINE_S: Final = 30.0 * PATIENCE
TOOL_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
}
T = TypeVar("T")


class DeadlineExceeded(AssertionError):
    """Something did not happen in the time it was given."""


def wait_for(condition: Callable[[], T], what: str, deadline_s: float = 10.0 * PATIENCE) -> T:
    """Call a condition until it gives something true; returns that.

    Raises DeadlineExceeded, naming `what`. Polls every 5 ms at first, every 50 ms later, and waits as long as
    the condition took: some are commands that compute for a second.
    """
    start = time.monotonic()
    pause_s = 0.005
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        answered = time.monotonic()
        if answered - start > deadline_s:
            raise DeadlineExceeded(f"after {deadline_s:g} s still not: {what}")
        time.sleep(max(pause_s, answered - asked))
        pause_s = min(0.05, pause_s * 1.5)


def thread_states(pid: int) -> dict[int, tuple[str, str]]:
    """Name and state ("S", "D") of each thread of a process, by its number; without those that end now."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            found[int(task.name)] = (name, rest.split()[0])
    return found


def state_of(pid: int) -> str:
    """The state ("S", "D", "Z") of a process's main thread. Raises FileNotFoundError without the process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_blocked(pid: int) -> bool:
    """Whether a process's main thread waits in the kernel, where nothing can interrupt it."""
    return state_of(pid) == "D"


def pause(pid: int) -> None:
    """Stop a process until it gets SIGCONT. SIGSTOP asks: its threads run on until each has seen it."""
    os.kill(pid, signal.SIGSTOP)

    def have_stopped() -> bool:
        return all(state == "T" for _, state in thread_states(pid).values())

    wait_for(have_stopped, f"all threads of {pid} have stopped")


def code_of(function: Callable[..., object], *arguments: object) -> str:
    """The name of the errno that a call fails with; empty if it does not fail."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def drop_to(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> None:
    """Become a plain uid for good (real, effective and saved), gid = uid unless said."""
    group = uid if gid is None else gid
    os.setgroups(list(groups))
    os.setresgid(group, group, group)
    os.setresuid(uid, uid, uid)


class Child:
    """A forked process that runs one function and may exchange messages with the test."""

    def __init__(self, pid: int, channel: Connection) -> None:
        self.pid = pid
        self.channel = channel
        self._status: int | None = None

    def send(self, message: Any) -> None:
        """Hand a message to the function's channel."""
        self.channel.send(message)

    def receive(self, deadline_s: float = DEADLINE_S) -> Any:
        """The next message that the function sent; raises what the function raised instead."""
        kind, value = self._next(deadline_s)
        if kind == "error":
            self._reap()
            raise value
        assert kind == "message", f"the function ended with {value!r} instead of sending a message"
        return value

    def result(self, deadline_s: float = DEADLINE_S) -> Any:
        """What the function returned; raises what it raised. Messages on the way are dropped."""
        while True:
            kind, value = self._next(deadline_s)
            if kind == "message":
                continue
            self._reap()
            if kind == "error":
                raise value
            return value

    def kill(self) -> None:
        """End the process, at whatever it is."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _next(self, deadline_s: float) -> tuple[str, Any]:
        if not self.channel.poll(deadline_s):
            where = _kernel_stack(self.pid)
            self.kill()
            raise DeadlineExceeded(f"child {self.pid} said nothing for {deadline_s:g} s; it was at {where}")
        try:
            return self.channel.recv()
        except EOFError:
            self._reap()
            raise AssertionError(f"child {self.pid} died, wait status {self._status}") from None

    def _reap(self) -> None:
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
            self.channel.close()


def _kernel_stack(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            return file.read() or "user space"
    except OSError:
        return "?"


def start_as(
    uid: int,
    function: Callable[..., Any],
    *arguments: Any,
    gid: int | None = None,
    groups: Sequence[int] = (),
    cwd: str = "/",
) -> Child:
    """Run `function(channel, *arguments)` in a forked child as a plain uid. The channel is a multiprocessing
    Connection whose send() and recv() meet Child.receive and Child.send. uid 0 keeps root's rights."""
    parent_end, child_end = Pipe()
    pid = os.fork()
    if pid == 0:
        parent_end.close()
        _child_main(_Channel(child_end), uid, gid, groups, cwd, function, arguments)
    child_end.close()
    return Child(pid, parent_end)


class _Channel:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, message: Any) -> None:
        self.connection.send(("message", message))

    def recv(self) -> Any:
        return self.connection.recv()

    def poll(self, timeout_s: float = 0) -> bool:
        return self.connection.poll(timeout_s)


def _child_main(channel, uid, gid, groups, cwd, function, arguments) -> None:
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/")
        if uid != 0 or gid is not None:
            drop_to(uid, gid, groups)
        die_with_parent(signal.SIGKILL)
        os.chdir(cwd)
        channel.connection.send(("result", function(channel, *arguments)))
        status = 0
    except BaseException as error:
        _send_error(channel.connection, error)
    finally:
        os._exit(status)


def _send_error(connection: Connection, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    error.add_note(f"in the child:\n{text}")
    try:
        pickle.loads(pickle.dumps(error))
        connection.send(("error", error))
    except Exception:
        connection.send(("error", RuntimeError(text)))


def _without_channel(_channel: _Channel, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def call_as(
    uid: int,
    function: Callable[..., T],
    *arguments: Any,
    gid: int | None = None,
    groups: Sequence[int] = (),
    cwd: str = "/",
    deadline_s: float = DEADLINE_S,
) -> T:
    """Run `function(*arguments)` as a plain uid and return its result or raise its exception."""
    child = start_as(uid, _without_channel, function, *arguments, gid=gid, groups=groups, cwd=cwd)
    return child.result(deadline_s)


def tool_as(
    uid: int,
    *command: str | os.PathLike[str],
    gid: int | None = None,
    cwd: str | os.PathLike[str] = "/",
    input_bytes: bytes | None = None,
    check: bool = False,
    deadline_s: float = DEADLINE_S,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run an ordinary tool as a plain uid (setpriv); output is captured as bytes."""
    group = uid if gid is None else gid
    become = ["setpriv", "--reuid", str(uid), "--regid", str(group), "--clear-groups", "--"] if uid else []
    # env -C changes directory with the plain uid's rights: root may not enter an app's own mount.
    line = [*become, "env", "-C", os.fspath(cwd), *map(os.fspath, command)]
    process = subprocess.run(
        line,
        input=input_bytes,
        **({"stdin": subprocess.DEVNULL} if input_bytes is None else {}),
        capture_output=True,
        cwd="/",
        env=TOOL_ENVIRONMENT | (environment or {}),
        timeout=deadline_s,
        check=False,
    )
    if check and process.returncode != 0:
        said = (process.stderr[-2000:] + process.stdout[-500:]).decode(errors="replace")
        raise AssertionError(f"uid {uid}: {' '.join(line)}: exit {process.returncode}\n{said}")
    return process
