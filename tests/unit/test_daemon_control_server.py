"""The control socket: whatever is asked, or breaks in the answer, the daemon goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from policyfs.daemon.control import control
from policyfs.daemon.control import server as control_server
from policyfs.errors import PolicyfsError, UsageError


async def broken(*_: object) -> control.Json:
    raise RecursionError("a bug")


async def group(*_: object) -> control.Json:
    raise ExceptionGroup("bugs", [OSError(5, "x")])


async def unprintable(*_: object) -> control.Json:
    return {"a": object()}


async def refused(*_: object) -> control.Json:
    raise UsageError("not so")


async def fine(*_: object) -> control.Json:
    return {"said": "yes"}


async def echo(path: str) -> control.Json:
    return {"path": path}


SHORT_S = 0.1
QUESTIONS = {"echo": echo}
COMMANDS: dict[str, control_server.Command] = {
    "broken": broken, "group": group, "unprintable": unprintable, "refused": refused, "fine": fine,
}  # fmt: skip


def served(path: Path, client: Callable[[], None]) -> list[str]:
    """Run a client against a served socket; returns where bugs were."""
    bugs: list[str] = []

    class Log:
        def bug(self, where: str, error: BaseException) -> None:
            bugs.append(where)

    async def main() -> None:
        with trio.fail_after(20):
            listener = control_server.answer_on(control_server.claim(path))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control_server.serve, listener, COMMANDS, Log(), QUESTIONS)
                await trio.to_thread.run_sync(client)
                nursery.cancel_scope.cancel()

    trio.run(main)
    return bugs


class Slow:
    """A command that takes longer than a client may take for its request, and then says so."""

    def __init__(self) -> None:
        self.done = threading.Event()

    async def __call__(self, *_: object) -> control.Json:
        await trio.sleep(4 * SHORT_S)
        self.done.set()
        return {"said": "at last"}


@contextlib.contextmanager
def full(path: Path) -> Iterator[socket.socket]:
    """Yield the socket of a daemon that hangs: it accepts no connection any more, and its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(control_server.claim(path))
        server.listen(1)
        for _ in range(64):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.settimeout(5)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        else:
            raise AssertionError("the queue is never full")
        yield server


def test_the_socket_of_a_daemon_that_hangs_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as runtime:
        monkeypatch.setenv("POLICYFS_RUNTIME_DIR", runtime)
        path = control.socket_path("/mnt/a")
        with full(path):
            inode = path.stat().st_ino
            control_server.claim(path).close()
            assert [left.stat().st_ino for left in control.leaving_paths("/mnt/a")] == [inode]
            assert path.stat().st_ino != inode
            control_server.release(inode, "/mnt/a")
        assert list(Path(runtime).iterdir()) == [path]


def test_the_socket_of_a_dead_daemon_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as runtime:
        monkeypatch.setenv("POLICYFS_RUNTIME_DIR", runtime)
        path = control.socket_path("/mnt/a")
        for _ in range(2):
            with control_server.claim(path) as server:
                server.listen(1)
            assert list(Path(runtime).iterdir()) == [path]


def test_a_path_that_is_too_long_for_a_socket_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("POLICYFS_RUNTIME_DIR", f"{place}/{'x' * 100}")
        path = control.socket_path("/mnt/a")
        with pytest.raises(PolicyfsError, match="longer than 107 bytes; set POLICYFS_RUNTIME_DIR"):
            control_server.claim(path)
        with pytest.raises(control.ControlError, match="too long"):
            control.ask(path, "status")


def raw(path: Path, data: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return json.loads(b"".join(iter(lambda: client.recv(4096), b"")))


def test_a_command_that_breaks_is_an_error_and_a_logged_bug(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    def client() -> None:
        for name in ("broken", "group", "unprintable"):
            with pytest.raises(control.ControlError, match="bug"):
                control.ask(path, name)
            assert control.ask(path, "fine") == {"said": "yes"}
        with pytest.raises(control.ControlError, match="not so"):
            control.ask(path, "refused")

    assert served(path, client) == ["broken", "group", "unprintable"]


def test_a_question_is_about_a_path(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    def client() -> None:
        assert control.ask(path, "echo", about="/a\udcff") == {"path": "/a\udcff"}
        with pytest.raises(control.ControlError, match="the commands are"):
            control.ask(path, "echo")

    assert served(path, client) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"[]\n", b'{"command": []}\n', b'{"command": {}}\n', b"\xff\n", b"7\n", b"[" * 100_000],
)
def test_nonsense_is_answered(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.sock"

    def client() -> None:
        assert "the commands are" in str(raw(path, data)["error"])
        assert control.ask(path, "fine") == {"said": "yes"}

    assert served(path, client) == []


def test_a_client_that_goes_away_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    def client() -> None:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(str(path))
            gone.sendall(b'{"command": "fine"}')
        assert control.ask(path, "fine") == {"said": "yes"}

    assert served(path, client) == []


def test_a_slow_command_is_answered_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload of a large policy on a slow machine takes longer than any request."""
    path, slow = tmp_path / "s.sock", Slow()
    monkeypatch.setattr(control_server, "DEADLINE_S", SHORT_S)
    monkeypatch.setitem(COMMANDS, "slow", slow)

    def client() -> None:
        assert control.ask(path, "slow") == {"said": "at last"}

    assert served(path, client) == []


def test_a_command_is_finished_though_its_client_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload that was cut off would leave two policies in force, each in a part of the daemon."""
    path, slow = tmp_path / "s.sock", Slow()
    monkeypatch.setattr(control_server, "DEADLINE_S", SHORT_S)
    monkeypatch.setitem(COMMANDS, "slow", slow)

    def client() -> None:
        with pytest.raises(control.ControlError, match=r"did not answer within 0\.2 s, but may answer later"):
            control.ask(path, "slow", 2 * SHORT_S)
        assert slow.done.wait(10)

    assert served(path, client) == []


def test_a_client_that_says_nothing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sock"
    monkeypatch.setattr(control_server, "DEADLINE_S", SHORT_S)

    def client() -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.settimeout(5)
            silent.connect(str(path))
            assert silent.recv(1) == b""

    assert served(path, client) == []
