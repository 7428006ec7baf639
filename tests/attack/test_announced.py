"""An app with --inotify tries to get the answers that are meant for the announcer, or to use its requests."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.programs.inotify import END, watch

APP = 10133
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: "/***"}}
"""
_PTRACE_ATTACH = 16
_TRY_S = 0.4
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def store(empty_store: Path) -> Path:
    (empty_store / "d").mkdir()
    (empty_store / "d").chmod(0o777)
    for number in range(40):
        (empty_store / f"d/{number}").write_text("words")
    return empty_store


def _ready(mount: Mount) -> int:
    """The pid of the running announcer."""
    return wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")


def _guesses(channel: Connection, directory: Path, announcer: int) -> set[str]:
    """Stop the announcer, and make the calls that it would make. Return those that succeed."""
    os.listdir(directory)
    os.kill(announcer, signal.SIGSTOP)
    channel.send("stopped")
    channel.recv()
    calls = {
        "made": lambda: os.mknod(directory / "new"),
        "made and written": lambda: os.open(directory / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        "removed": lambda: os.unlink(directory / "1"),
        "written": lambda: os.close(os.open(directory / "2", os.O_WRONLY)),
        "moved": lambda: os.rename(directory / "3", directory / "4"),
    }
    done, end_s = set(), time.monotonic() + _TRY_S
    while time.monotonic() < end_s and not done:
        done |= {name for name, call in calls.items() if not code_of(call)}
    os.kill(announcer, signal.SIGCONT)
    return done


def _attacked(mount: Mount, store: Path, change) -> set[str]:
    child = start_as(APP, _guesses, mount / "d", _ready(mount))
    assert child.receive() == "stopped"
    change(store / "d")
    wait_for(lambda: mount.status()["inotify"]["waiting"], "the announcer has an order")
    child.send("changed")
    return child.result()


def _moved_in(outside: Path, new: Path) -> None:
    outside.touch()
    outside.rename(new)


CHANGES = {
    "made": lambda directory: os.mknod(directory / "new"),
    "made and written": lambda directory: _moved_in(directory.parent.parent / "elsewhere", directory / "new"),
    "removed": lambda directory: (directory / "1").unlink(),
    "moved": lambda directory: (directory / "3").rename(directory / "4"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_app_gets_no_answer_of_the_announcer(mounts, store: Path, change: str) -> None:
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    assert _attacked(mount, store, CHANGES[change]) == set()


@pytest.mark.parametrize("change", ["made", "made and written", "removed"])
def test_it_would_get_them(without, store: Path, change: str) -> None:
    mount = without("anyone-announces", POLICY, store, "--app", "viewer", "--inotify")
    assert _attacked(mount, store, CHANGES[change]) == {change}


def _told_after_reload(mount: Mount, store: Path) -> list[str]:
    """The events if a reload hides a name whose removal the announcer has not told yet."""
    child, announcer = start_as(APP, watch, [mount / "d"]), _ready(mount)
    assert child.receive() == "watching"
    call_as(APP, os.kill, announcer, signal.SIGSTOP)
    os.mknod(store / "d/new")
    (store / "d/1").unlink()
    wait_for(lambda: mount.status()["inotify"]["waiting"] == 2, "the announcer has an order, and one waits")
    mount.policy.write_text(f"{POLICY}  - {{id: since, deny: [see], paths: /d/1, errno: ENOENT}}\n")
    assert mount.reload().returncode == 0
    os.kill(announcer, signal.SIGCONT)
    (store / "d" / END).touch()
    return list(map(str, child.result()[:-1]))


def test_a_removal_is_not_told_once_a_reload_hides_the_name(mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    assert _told_after_reload(mount, store) == ["CREATE new"]


def test_it_would_be_told(without, store: Path) -> None:
    mount = without("old-orders-stay", POLICY, store, "--app", "viewer", "--inotify")
    assert _told_after_reload(mount, store) == ["CREATE new", "DELETE 1"]


def _traces(announcer: int) -> tuple[str, str]:
    traced = _libc.ptrace(_PTRACE_ATTACH, announcer, None, None)
    memory = code_of(os.open, f"/proc/{announcer}/mem", os.O_RDWR)
    return errno.errorcode[ctypes.get_errno()] if traced else "", memory


def test_an_app_cannot_trace_its_announcer(mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    assert call_as(APP, _traces, _ready(mount)) == ("EPERM", "EACCES")


def test_a_killed_announcer_changes_nothing_in_the_store(mounts, store: Path) -> None:
    """Killed at any moment, also while its request is under way."""
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    call_as(APP, os.listdir, mount / "d")
    directory, names = store / "d", {str(number) for number in range(40)}
    for number in range(40):
        (directory / f"{number}").rename(directory / f"{number} moved")
        (directory / f"{number}").touch()
        (directory / f"{number} moved").unlink()
        if number % 4 == 0 and (pid := mount.status()["inotify"]["pid"]):
            call_as(APP, os.kill, pid, signal.SIGKILL)
    told = mount.status()["inotify"]["told"]
    _ready(mount)
    (directory / "last").touch()
    wait_for(lambda: mount.status()["inotify"]["told"] > told, "it announces again")
    assert set(os.listdir(directory)) == names | {"last"}
    assert set(call_as(APP, os.listdir, mount / "d")) == names | {"last"}
    assert mount.status()["bugs"] == 0


def _stops(channel: Connection, announcer: int) -> None:
    """Stop the announcer at any moment, for a moment, until told to end."""
    chance = random.Random(1)
    while not channel.poll():
        os.kill(announcer, signal.SIGSTOP)
        time.sleep(chance.random() / 200)
        os.kill(announcer, signal.SIGCONT)
        time.sleep(chance.random() / 500)


def _works(channel: Connection, directory: Path) -> float:
    """Make calls in the directory. Return the time that the longest took."""
    longest_s = 0.0
    while not channel.poll(0.001):
        for call in (os.listdir, lambda at: code_of(os.unlink, at / "1"), lambda at: (at / "2").read_text()):
            begin_s = time.monotonic()
            call(directory)
            longest_s = max(longest_s, time.monotonic() - begin_s)
    return longest_s


def test_a_mount_ends_although_its_announcer_is_stopped(mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    call_as(APP, os.kill, _ready(mount), signal.SIGSTOP)
    call_as(APP, os.listdir, mount / "d")
    os.mknod(store / "d/new")
    wait_for(lambda: mount.status()["inotify"]["waiting"], "the announcer has an order")
    assert mount.stop() == []
    assert "detached while busy" not in mount.log.read_text()


def test_an_announcer_that_is_stopped_at_any_moment_holds_up_nobody(mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "viewer", "--inotify")
    app = [start_as(APP, _stops, _ready(mount)), start_as(APP, _works, mount / "d")]
    end_s = time.monotonic() + 2 * _TRY_S
    while time.monotonic() < end_s:
        for number in range(10, 20):
            (store / f"d/{number}").rename(store / f"d/{number} moved")
            (store / f"d/{number} moved").write_text("words")
            (store / f"d/{number} moved").rename(store / f"d/{number}")
        wait_for(lambda: mount.status()["inotify"]["waiting"] < 100, "some are told")
    for child in app:
        child.send("enough")
    assert app[0].result() is None
    assert app[1].result() < 2.0
    assert mount.status()["bugs"] == 0
