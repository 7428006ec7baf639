"""The commands' end of the control socket: its names, and what they are told where nobody answers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from policyfs.daemon.control import control
from tests.support.machine.processes import wait_for


def test_sockets_are_named_after_their_mountpoint(monkeypatch, tmp_path):
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path))
    path = control.socket_path("/mnt/media")
    assert path == tmp_path / f"{control.mount_id('/mnt/media')}.sock"
    assert control.leaving_paths("/mnt/media") == []
    control.leaving_path("/mnt/media", 17).touch()
    control.leaving_path("/mnt/other", 17).touch()
    assert control.leaving_paths("/mnt/media") == [tmp_path / f"{path.stem}.17.sock"]


def test_nobody_answers(tmp_path):
    with pytest.raises(control.NoDaemonError, match="no policyfs daemon answers"):
        control.ask(tmp_path / "none.sock", "status")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "ended before"),
        (b"[]", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"error": "no"}', "no"),
    ],
)
def test_an_answer_that_says_nothing(tmp_path, answer, told):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen(1)

        def reply() -> None:
            with server.accept()[0] as client:
                client.recv(1000)
                client.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(control.ControlError, match=told):
            control.ask(path, "status", 5)
        thread.join()


def test_a_daemon_that_takes_no_commands_is_told(tmp_path):
    """Status checks of a daemon that hangs fill the queue of its socket, also those that gave up."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen(1)
        for _ in range(3):
            with pytest.raises(control.ControlError, match=r"did not answer|takes no commands"):
                control.ask(path, "status", 0.05)
        with pytest.raises(control.ControlError, match="hangs: it takes no commands"):
            control.ask(path, "status", 0.05)


def _serving(path: Path, parts: Iterable[bytes], *, uid: int = 0) -> int:
    """Answer one client as this uid, in a process of its own. Return its pid."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.fspath(path))
    if child := os.fork():
        server.close()
        return child
    try:
        os.setresuid(uid, uid, uid)
        server.listen(1)  # the kernel keeps who calls this
        client = server.accept()[0]
        client.recv(1000)
        for part in parts:
            client.sendall(part)
    finally:
        os._exit(0)


@contextlib.contextmanager
def served(path: Path, parts: Iterable[bytes], *, uid: int = 0) -> Iterator[None]:
    pid = _serving(path, parts, uid=uid)
    wait_for(lambda: str(path) in Path("/proc/net/unix").read_text(), "the socket")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _slowly() -> Iterator[bytes]:
    while True:
        yield b" "
        time.sleep(0.05)


def _asked(path: Path, timeout_s: float = 5.0) -> control.Json:
    """Ask, and try again while the other process does not listen yet."""
    while True:
        try:
            return control.ask(path, "status", timeout_s)
        except control.NoDaemonError:
            time.sleep(0.01)


def test_an_answer_of_another_user_is_none(tmp_path):
    """An app may listen where a daemon has ended, if the directory was made beforehand."""
    tmp_path.chmod(0o755)
    with (
        served(tmp_path / "a.sock", [b'{"forged": 1}'], uid=10010),
        pytest.raises(control.ControlError, match="belongs to uid 10010"),
    ):
        _asked(tmp_path / "a.sock")


def test_an_answer_ends_in_time(tmp_path):
    begun = time.monotonic()
    with served(tmp_path / "a.sock", _slowly()), pytest.raises(control.LateError):
        _asked(tmp_path / "a.sock", 0.3)
    assert time.monotonic() - begun < 5


def test_an_answer_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "MAX_BYTES", 1 << 17)
    with (
        served(tmp_path / "a.sock", itertools.repeat(b" " * 4096)),
        pytest.raises(control.ControlError, match="too long"),
    ):
        _asked(tmp_path / "a.sock")


@pytest.mark.parametrize("harm", ["\x1b[2J", "\x9b31m", "\x07", "\u202e"])
def test_no_answer_reaches_the_terminal_raw(tmp_path, harm):
    told = json.dumps({"a": [harm], harm: {"b": harm + "\n"}}).encode()
    with served(tmp_path / "a.sock", [told]):
        answer = _asked(tmp_path / "a.sock")
    assert harm[0] not in json.dumps(answer, ensure_ascii=False)
    assert "\\n" in json.dumps(answer)
    with (
        served(tmp_path / "b.sock", [json.dumps({"error": f"no{harm}"}).encode()]),
        pytest.raises(control.ControlError) as refused,
    ):
        _asked(tmp_path / "b.sock")
    assert harm[0] not in str(refused.value)
