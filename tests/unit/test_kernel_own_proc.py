"""The daemon's own instance of procfs: in use from its creation to its end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.kernel import mount_api, own_proc
from policyfs.linux import procfs


def test_an_own_instance_is_read_until_its_end() -> None:
    opened = own_proc.own_proc()
    own, directory = opened
    assert os.readlink(f"/proc/self/fd/{own}") == f"/proc/{os.getpid()}/fd", "it keeps the way there cached"
    assert os.fstat(directory).st_dev != os.stat("/proc").st_dev, "its locks are not those of /proc"
    assert procfs.root() == Path(f"/proc/self/fd/{directory}")
    own_proc.end(opened)
    assert procfs.root() == Path("/proc")
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_proc_itself_is_read_if_no_instance_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(mount_api, "detached", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError):
        own_proc.own_proc()
    assert os.listdir("/proc/self/fd") == before
    assert procfs.root() == Path("/proc")
