"""The mount of one command: its place, and its end."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from policyfs.cli import main
from policyfs.cli.mounts import run_view
from policyfs.errors import EXIT_REFUSED, PolicyfsError
from tests.support.machine.inchild import child


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "runtime/policyfs"))
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    for name in ("store", "shown"):
        (tmp_path / name).mkdir()
    return tmp_path


# -- places --------------------------------------------------------------------------------------------


def test_each_command_of_an_app_has_the_first_free_place(place: Path) -> None:
    claimed = [run_view._claimed_place("web") for _ in range(3)]
    assert [Path(at).name for at, _ in claimed] == ["web-0", "web-1", "web-2"]
    other, lock = run_view._claimed_place("mail")
    assert Path(other).name == "mail-0"
    os.close(claimed[1][1])
    again = run_view._claimed_place("web")
    assert again[0] == claimed[1][0], "it goes on with its trail"
    assert Path(again[0]).stat().st_mode & 0o777 == 0o755
    for directory in (Path(other).parent, Path(other).parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700, "control sockets lie beside"
    for fd in (claimed[0][1], claimed[2][1], lock, again[1]):
        os.close(fd)


def test_there_are_places_for_so_many(place: Path, monkeypatch) -> None:
    monkeypatch.setattr(run_view, "_PLACES", 2)
    claimed = [run_view._claimed_place("web") for _ in range(2)]
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PolicyfsError, match="2 commands run as web already"):
        run_view._claimed_place("web")
    assert os.listdir("/proc/self/fd") == before
    for _, fd in claimed:
        os.close(fd)


def test_a_place_that_cannot_be_made_is_told(place: Path, monkeypatch) -> None:
    (place / "file").touch()
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(place / "file/below"))
    with pytest.raises(PolicyfsError, match="set POLICYFS_RUNTIME_DIR to a writable directory"):
        run_view._claimed_place("web")


def is_claimed(place: Path) -> bool:
    fd = os.open(place / "runtime/policyfs/run/web-0", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_a_place_is_free_again_after_a_failure(place: Path, monkeypatch) -> None:
    claimed: list[bool] = []

    def fails(*_: object) -> int:
        claimed.append(is_claimed(place))
        raise PolicyfsError("no mount")

    monkeypatch.setattr(run_view, "_mounted", fails)
    words = ["run", "--app", "web", "--policy", "p", str(place / "store"), "--", "true"]
    assert main.main(words) == EXIT_REFUSED
    assert (claimed, is_claimed(place)) == ([True], False)


# -- the end ---------------------------------------------------------------------------------------------


def test_the_daemon_is_ended_and_its_failure_told(capfd) -> None:
    reader, writer = os.pipe()

    def ends_in_order() -> int:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        os.write(writer, b"x")
        time.sleep(20)
        return 1

    pid = child(ends_in_order)
    os.read(reader, 1)
    run_view._end(pid, Path("/log"))
    assert capfd.readouterr().err == ""
    pid = child(lambda: 3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    run_view._end(pid, Path("/log"))
    assert capfd.readouterr().err == "policyfs: the daemon of the mount ended with an error; see /log\n"
    for fd in (reader, writer):
        os.close(fd)


def test_a_daemon_that_does_not_end_is_told(monkeypatch) -> None:
    monkeypatch.setattr(run_view, "_END_S", 0.05)

    def stays() -> int:
        time.sleep(20)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the child inherits it
    pid = child(stays)
    signal.signal(signal.SIGTERM, before)
    with pytest.raises(PolicyfsError, match=f"pid {pid}. did not end within 0.05 s; see /log"):
        run_view._end(pid, Path("/log"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
