"""A killed daemon with threads that no signal ends: in a call of the store, or in a notification."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.test_contained import status_fields
from tests.mount.test_takeover import kill_daemon
from tests.mount.test_takeover_writes import APP, POLICY, kept, work  # noqa: F401 - a fixture
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.hanging import LOOK_S

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
STUCK_S = 2.5
"""Longer than the connection of a killed daemon once stayed without another one."""
LONG_S = 6 * LOOK_S


@contextmanager
def frozen(place: Path) -> Iterator[None]:
    """A file system whose changes wait, as those of a disk that does not answer."""
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
    finally:
        os.close(fd)


def is_stuck(pid: int, call: str) -> bool:
    """True if a thread of this process is in the kernel function *call*."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return any(call in (one / "stack").read_text() for one in threads)
    except (FileNotFoundError, ProcessLookupError):
        return False


def passed(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > until, "time passes")


def follows(mount: Mount, count: int) -> bool:
    try:
        return bool(mount.status()["takeover"]["count"] == count)
    except AssertionError:
        return False


def test_a_call_of_the_store_that_lasts_is_waited_for(mounts, tmp_path: Path) -> None:
    with file_system("ext4", tmp_path) as store:
        (store / "Work").mkdir()
        os.chown(store / "Work", APP, APP)
        mount = kept(mounts, store)
        mount.expected_log.append("threads of the killed daemon wait")
        pid, at = mount.status()["pid"], mount.mountpoint / "Work"

        def app(channel) -> None:
            for name in iter(channel.recv, ""):
                (at / name).mkdir()
                channel.send(sorted(os.listdir(at)))

        child = start_as(APP, app)
        child.send("before")
        assert child.receive() == ["before"]
        with frozen(store):
            child.send("while")
            wait_for(lambda: is_stuck(pid, "percpu_rwsem_wait"), "the daemon waits for the store")
            os.kill(pid, signal.SIGKILL)
            passed(STUCK_S)
            assert is_stuck(pid, "percpu_rwsem_wait")
        assert child.receive() == ["before", "while"]
        wait_for(lambda: follows(mount, 1), "another daemon")
        child.send("")
        child.result()
        assert mount.status()["bugs"] == 0
        mount.stop()


@pytest.mark.parametrize("told", [True, False])
def test_a_notification_that_waits_for_an_app_waits_on(mounts, empty_store: Path, told: bool) -> None:
    """told: False if the launcher, which tells the keeper of the death, was killed before."""
    (empty_store / "Work").mkdir()
    for name in ("held", "told"):
        (empty_store / "Work" / name).touch()
    mount = mounts.prepare(POLICY, empty_store, "--app", "editor", "--keeper", "--no-avc")
    mount.program = ("tests.support.mount.holding",)
    pid, at = mount.start().status()["pid"], mount.mountpoint / "Work"

    def app(channel) -> None:
        os.stat(at / "told")
        channel.send("ready")
        channel.recv()
        os.stat(at / "held")
        channel.send("answered")

    child = start_as(APP, app)
    assert child.receive() == "ready"
    child.send("go on")
    wait_for(mount.waiting, "the look-up waits")
    (empty_store / "Work/told").unlink()
    wait_for(lambda: is_stuck(pid, "fuse_reverse_inval_entry"), "the notification waits for the app")
    if not told:
        launcher = status_fields(mount.status()["sniffer"]["zygote_pid"])["PPid"]
        os.kill(int(launcher), signal.SIGKILL)
    kill_daemon(mount)
    assert child.receive() == "answered"
    child.result()
    assert mount.status()["bugs"] == 0


def hanging(mounts, store: Path) -> Mount:
    mount = mounts.prepare(POLICY, store, "--app", "editor", "--keeper")
    mount.program = ("tests.support.mount.hanging",)
    mount.expected_log.append("the event loop hangs")
    return mount.start()


def test_a_daemon_whose_loop_hangs_is_followed(mounts, work: Path) -> None:  # noqa: F811
    mount = hanging(mounts, work)
    assert call_as(APP, lambda: code_of(os.stat, mount.mountpoint / "Work/hang")) == "ENOENT"
    assert mount.status()["takeover"]["count"] == 1
    assert mount.status()["bugs"] == 0


def test_a_stopped_daemon_and_one_that_waits_for_the_store_are_not_followed(mounts, tmp_path: Path) -> None:
    with file_system("ext4", tmp_path) as store:
        (store / "Work").mkdir()
        os.chown(store / "Work", APP, APP)
        mount = hanging(mounts, store)
        pid, at = mount.status()["pid"], mount.mountpoint / "Work"
        os.kill(pid, signal.SIGSTOP)
        passed(LONG_S)
        os.kill(pid, signal.SIGCONT)
        with frozen(store):
            child = start_as(APP, lambda _channel: (at / "late").mkdir())
            wait_for(lambda: is_stuck(pid, "percpu_rwsem_wait"), "the daemon waits for the store")
            passed(LONG_S)
        child.result()
        assert (mount.status()["pid"], mount.status()["takeover"]["count"]) == (pid, 0)
        mount.stop()
