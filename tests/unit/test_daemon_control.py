"""The commands' end of the control socket: its names, and what they are told where nobody answers."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from policyfs.daemon import control


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
