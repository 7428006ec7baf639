"""Messages to a service manager."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from policyfs.linux.service_manager import ServiceManager, is_journal
from tests.support.machine.inchild import in_child


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{address}" if abstract else address)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{address}" if abstract else address)
        manager = ServiceManager()
        assert manager.waits
        manager.ready()
        manager.ready()
        assert listening.recv(100, socket.MSG_DONTWAIT) == b"READY=1"
        with pytest.raises(BlockingIOError):
            listening.recv(100, socket.MSG_DONTWAIT)


def test_a_child_tells_it_in_the_name_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        manager = ServiceManager()
        in_child(manager.ready)
        manager.ready()  # closes its socket
        said, named, _, _ = listening.recvmsg(100, socket.CMSG_SPACE(12), socket.MSG_DONTWAIT)
        assert said == b"READY=1"
        assert struct.unpack("=iII", named[0][2])[0] == os.getpid()


def test_the_journal_is_known_by_the_file_that_systemd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as log:
        found = os.fstat(log.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        assert not is_journal(log.fileno()), "it is inherited by programs whose output is elsewhere"
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(log.fileno())


def test_without_one_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    manager = ServiceManager()
    assert not manager.waits
    manager.ready()


def test_a_reload_tells_the_new_main_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINPID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        manager = ServiceManager()
        assert not manager.is_reload, "it starts the unit"
        monkeypatch.setenv("MAINPID", "7")
        assert manager.is_reload
        manager.main_is(8)
        assert listening.recv(100, socket.MSG_DONTWAIT) == b"MAINPID=8"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not ServiceManager().is_reload, "the unit lets only its main process tell"
