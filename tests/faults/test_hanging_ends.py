"""The end of a mount while a request waits for a store that does not answer: who waits gets an error."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.mounts import umount
from tests.faults.test_hanging import SlowToWrite, slow
from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs, policyfs_started
from tests.support.mount.faulty import CAMERA
from tests.support.mount.tinyfs import TinyFs

__all__ = ["slow"]
FREED_S = 10.0


def _read(channel, path: Path) -> str:
    del channel
    return code_of(path.read_bytes)


@pytest.fixture(autouse=True)
def _only_files_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount answers STATFS, so it does not count as one that hangs."""
    monkeypatch.setattr(SlowToWrite, "statfs", TinyFs.statfs)


@contextmanager
def _waiting(slow) -> Iterator[tuple[Mount, Child]]:
    """A mount, and an app that waits for the store. Afterwards the store answers, and the daemon ends."""
    mount, tiny = slow
    app = start_as(CAMERA, _read, mount / "slow")
    wait_for(lambda: tiny.call("is_waiting"), "it waits for the store")
    try:
        yield mount, app
    finally:
        mount.abort()  # else nobody could be killed after a failure
        tiny.call("let_go")
        code, mount.process = mount.process.wait(20), None
    assert code == 0


def test_abort_frees_who_waits_and_does_not_wait_for_the_store(slow, monkeypatch) -> None:
    """The daemon ends only when the store answers: a thread of it waits, and no signal ends that.

    Fault store.24: A read or write of a file of a network or FUSE store hangs, and you end the mount
    (`policyfs umount --abort`, or SIGTERM after `umount --lazy`)
    App: ENOTCONN or ECONNABORTED at once. The daemon ends when the store answers; `umount --abort` waits
    30 s for that, and then reports it
    Store: accepted bytes
    Trail: the end of the trail, when the store answers
    Also: ::test_a_daemon_whose_mount_has_left_frees_who_waits_when_it_is_told_to_end
    """
    monkeypatch.setattr(umount, "_END_S", 5.0)
    with _waiting(slow) as (mount, app):
        aborting = policyfs_started(
            "umount", "--abort", mount.mountpoint, environment=mount.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert app.channel.poll(FREED_S), "the app waits"
            assert app.result() in {"ENOTCONN", "ECONNABORTED"}
            assert "did not end within 5 s" in aborting.communicate(timeout=20)[1]
        finally:
            aborting.kill()
            aborting.communicate()


def test_a_daemon_whose_mount_has_left_frees_who_waits_when_it_is_told_to_end(slow) -> None:
    with _waiting(slow) as (mount, app):
        with mount.as_environment():
            assert policyfs("umount", "--lazy", mount.mountpoint).returncode == 0
        assert not app.channel.poll(), "it waits still"
        os.kill(mount.pid, signal.SIGTERM)
        assert app.channel.poll(FREED_S), "the app waits"
        assert app.result() in {"ENOTCONN", "ECONNABORTED"}
