"""The watchdog frees a test that hangs in a mount whose daemon never answers."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from policyfs.kernel.session import mount_device
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import call_as, wait_for
from tests.support.machine.watchdog import Watchdog

pytestmark = pytest.mark.mount


def _hanging_mount(where: Path) -> int:
    """A FUSE mount with nobody behind it: whoever enters it waits for ever."""
    device = mount_device(
        str(where), source="hang", user_id=0, group_id=0, allow_other=False, default_permissions=False
    )
    return device.fd


def test_a_wait_in_a_hung_mount_ends_with_an_error(arena: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = arena / "mnt"
    where.mkdir()
    fd = _hanging_mount(where)
    watchdog = Watchdog(arena)
    try:
        watchdog.arm(0.3, "this very test")
        with pytest.raises(OSError) as caught:
            os.stat(where / "name")
        assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    finally:
        watchdog.close()
        os.close(fd)
    assert "this very test" in capfd.readouterr().err
    assert mounts_below(arena) == []


def _die_with_a_mount(where: Path, number: int) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup(1) has it ignored
    Watchdog(where.parent).arm(60, "a run that is killed")
    _hanging_mount(where)
    if number == signal.SIGKILL:
        os.kill(os.getpid(), number)
    os.killpg(0, number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_what_a_killed_run_left_is_cleared_away(arena: Path, number: int) -> None:
    """SIGTERM and SIGHUP come to the whole process group, from timeout(1) or a terminal."""
    where = arena / "mnt"
    where.mkdir()
    with pytest.raises(AssertionError, match="died"):
        call_as(0, _die_with_a_mount, where, number)
    wait_for(lambda: not mounts_below(arena), "the mounts are gone")


def test_a_disarmed_watchdog_leaves_mounts_alone(arena: Path) -> None:
    where = arena / "mnt"
    where.mkdir()
    watchdog = Watchdog(arena)
    watchdog.arm(0.1, "short")
    watchdog.disarm()
    fd = _hanging_mount(where)
    with pytest.raises(AssertionError):
        call_as(0, os.stat, str(where / "name"), deadline_s=0.5)
    assert mounts_below(arena)
    watchdog.close()
    os.close(fd)
    assert mounts_below(arena) == []
