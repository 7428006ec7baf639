"""The helper that makes file systems: they go away, whatever happens to the test."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.machine.images import IMAGE_KINDS, file_system, loop_devices
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import start_as, wait_for

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("kind", [*IMAGE_KINDS, "tmpfs"])
def test_empty_writable_and_gone_afterwards(kind, tmp_path):
    with file_system(kind, tmp_path) as root:
        (root / "file").write_bytes(b"x" * 4096)
        assert [entry.fstype for entry in mounts_below(root)] == [kind]
    assert os.listdir(tmp_path) == []


def test_a_failing_test_leaves_no_loop_device(tmp_path):
    with pytest.raises(ZeroDivisionError), file_system("ext4", tmp_path):
        image = tmp_path / "ext4-memory/ext4.img"
        assert len(loop_devices(image)) == 1
        _ = 1 / 0
    assert (os.listdir(tmp_path), mounts_below(tmp_path)) == ([], [])


def test_a_busy_one_is_detached_and_reported(tmp_path):
    with pytest.raises(AssertionError, match="busy"), file_system("tmpfs", tmp_path) as root:
        held = os.open(root, os.O_RDONLY)
    assert mounts_below(tmp_path) == []
    os.close(held)


def _mount_and_wait(channel, directory: Path) -> None:
    assert not ctypes.CDLL(None).unshare(0x00020000)
    with file_system("ext4", directory, memory=False):
        channel.send("mounted")
        time.sleep(1000)


def test_kill_9_leaves_no_loop_device(tmp_path):
    child = start_as(0, _mount_and_wait, tmp_path)
    assert child.receive() == "mounted"
    image = tmp_path / "ext4.img"
    assert len(loop_devices(image)) == 1
    os.kill(child.pid, signal.SIGKILL)
    child.kill()
    wait_for(lambda: not loop_devices(image), "the kernel to detach the loop device")
