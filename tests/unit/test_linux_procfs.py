"""Files of processes, read by /proc or by an instance of procfs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.kernel import mount_api
from policyfs.linux import procfs


@pytest.fixture(params=["proc", "own"])
def in_use(request: pytest.FixtureRequest) -> Iterator[None]:
    fd = -1 if request.param == "proc" else mount_api.detached("proc", (), 0)
    procfs.use(fd)
    yield
    procfs.use(-1)
    if fd >= 0:
        os.close(fd)


def test_files_of_a_process_are_read(in_use: None) -> None:
    pid = os.getpid()
    assert procfs.link(pid, "exe") == os.readlink(b"/proc/self/exe")
    assert procfs.owner(pid) == os.geteuid()
    assert procfs.text(pid, "stat").startswith(f"{pid} (")
    assert os.readlink(procfs.root() / "self") == str(pid)
    assert (procfs.root() / str(pid) / "comm").read_bytes() == Path("/proc/self/comm").read_bytes()


def test_a_process_that_is_gone_is_an_error(in_use: None) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        procfs.link(pid, "exe")
    with pytest.raises(OSError):
        procfs.owner(pid)
    with pytest.raises(OSError):
        procfs.text(pid, "stat")
