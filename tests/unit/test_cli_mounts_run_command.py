"""The command of `policyfs run`: its user, its exit code, and signals."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.mounts import run_command
from policyfs.cli.mounts.run_command import Identity
from tests.support.machine.inchild import child, exit_code
from tests.support.machine.processes import call_as

APP = 10010
_OF_LIBC = 1 << 31 | 1 << 32
"""Signals 32 and 33 in SigIgn. They belong to the C library (nptl(7)), which lets no program reset them."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("store", "shown"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def handlers() -> Iterator[None]:
    """The tests' own handlers, again after a command had others."""
    before = {number: signal.getsignal(number) for number in run_command.CAUGHT}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# -- the user --------------------------------------------------------------------------------------------


def become(uid: int, gid: int) -> dict[str, Any]:
    environment = Identity(uid, gid).environment()
    names = {name: environment[name] for name in ("HOME", "USER", "LOGNAME")}
    Identity(uid, gid).take()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {"ids": [os.getresuid(), os.getresgid()], "groups": sorted(os.getgroups()), **names,
            "no_new_privs": "NoNewPrivs:\t1" in status}  # fmt: skip


def test_a_user_without_an_account_has_its_own_group_alone() -> None:
    found = call_as(0, become, 7654321, 7654322)
    assert found["ids"] == [(7654321,) * 3, (7654322,) * 3]
    assert found["groups"] == [7654322]
    assert (found["HOME"], found["USER"], found["LOGNAME"]) == ("/", "7654321", "7654321")
    assert found["no_new_privs"]


def test_a_user_with_an_account_has_its_home_and_groups() -> None:
    account = pwd.getpwnam("daemon")
    found = call_as(0, become, account.pw_uid, account.pw_gid)
    assert found["groups"] == sorted(os.getgrouplist("daemon", account.pw_gid))
    assert (found["HOME"], found["USER"]) == (account.pw_dir, "daemon")


# -- the command -----------------------------------------------------------------------------------------


def ran(place: Path, *command: str, uid: int = APP) -> int:
    return run_command.run(command, Identity(uid, uid), str(place / "shown"), str(place / "store"))


def test_the_command_finds_the_mount_in_the_place_of_the_store_and_nobody_else(
    place: Path, handlers: None, capfd
) -> None:
    (place / "shown/a").write_text("from the mount")
    (place / "store/a").write_text("from the store")
    assert ran(place, "cat", str(place / "store/a"), uid=0) == 0
    assert capfd.readouterr().out == "from the mount"
    assert (place / "store/a").read_text() == "from the store"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -KILL $$"), 128 + 9),
        (("/none/such",), 127),
        (("/etc/hostname",), 126),
    ],
)
def test_the_exit_code_is_the_commands(
    place: Path, handlers: None, capfd, command: tuple[str, ...], code: int
) -> None:
    assert ran(place, *command) == code
    assert (f"policyfs: {command[0]}: " in capfd.readouterr().err) == (code in {126, 127})


def test_a_command_has_nothing_of_its_caller(place: Path, handlers: None, capfd, monkeypatch) -> None:
    """Neither descriptors, nor a directory that it may not enter, nor ignored signals."""
    held = os.open(place / "store", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(held, True)
    (place / "private").mkdir(mode=0o700)
    monkeypatch.chdir(place / "private")
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert ran(place, "sh", "-c", "pwd; id -u; echo $(ls /proc/self/fd); grep SigIgn /proc/self/status") == 0
    signal.signal(signal.SIGHUP, ignored)
    os.close(held)
    here, uid, fds, signals = capfd.readouterr().out.splitlines()
    assert (here, uid) == ("/", str(APP))
    assert fds == "0 1 2 3", "the last one is of ls"
    assert int(signals.split()[1], 16) & ~_OF_LIBC == 0


def test_signals_are_handed_on_to_the_command(place: Path) -> None:
    fifo = place / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)
    script = f"trap 'exit 9' TERM; echo x > {fifo}; while :; do sleep 0.01; done"
    pid = child(lambda: ran(place, "sh", "-c", script, uid=0))
    os.read(reader, 1)  # the command is there
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 9
    os.close(reader)


def test_a_signal_that_comes_while_the_command_starts_is_handed_on(place: Path, monkeypatch) -> None:
    """It ended policyfs, and with it the mount; the command went on without one."""
    fork = os.fork

    def fork_and_be_told_to_end() -> int:
        pid = fork()
        if pid:
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    def work() -> int:
        monkeypatch.setattr(os, "fork", fork_and_be_told_to_end)
        return ran(place, "sleep", "20", uid=0)

    assert exit_code(child(work)) == 128 + signal.SIGTERM


def test_a_signal_that_comes_right_after_the_commands_end_changes_nothing(place: Path, monkeypatch) -> None:
    """A service manager sends it to the command and to policyfs. There was no exit code then."""
    waitpid = os.waitpid

    def wait_and_be_told_to_end(pid: int, options: int) -> tuple[int, int]:
        found = waitpid(pid, options)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    def work() -> int:
        monkeypatch.setattr(os, "waitpid", wait_and_be_told_to_end)
        return ran(place, "sh", "-c", "exit 7", uid=0)

    assert exit_code(child(work)) == 7


