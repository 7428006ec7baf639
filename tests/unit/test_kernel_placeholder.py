"""A placeholder answers everybody with an error, and a mount goes over it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.kernel.placeholder import put_placeholder
from policyfs.linux.mountinfo import ABSENT, mounts_at
from tests.support.machine.namespace import detach
from tests.support.machine.processes import call_as
from tests.support.mount import layers

CALLS = [
    os.stat, os.listdir, os.statvfs, lambda path: os.mkdir(f"{path}/new"), lambda path: os.stat(f"{path}/a"),
]  # fmt: skip


def _error(call: Callable[[str], object], path: str) -> int:
    try:
        call(path)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.mount
def test_nobody_gets_an_empty_directory(tmp_path: Path) -> None:
    for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
        directory.chmod(directory.stat().st_mode | 0o011)
    at = tmp_path / "at"
    at.mkdir()
    before = set(os.listdir("/proc/self/fd"))
    put_placeholder(str(at))
    try:
        assert set(os.listdir("/proc/self/fd")) == before
        for call in CALLS:
            assert _error(call, str(at)) == errno.ENOTCONN
        assert call_as(10010, _error, os.listdir, str(at)) == errno.ENOTCONN
        put_placeholder(str(at))
        assert [mount.fstype for mount in mounts_at(str(at))] == [ABSENT], "there is one, however often"
        layers.mount("-t", "tmpfs", "over", at)
        assert os.listdir(at) == []
        layers.unmount(at)
        assert _error(os.listdir, str(at)) == errno.ENOTCONN
    finally:
        detach(str(at))
