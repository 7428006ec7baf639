"""Backing ids: which files the kernel takes, and what it refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from policyfs.kernel.backing import BackingRefused
from tests.support.machine.processes import tool_as


def test_ids_go_up_and_are_released(tiny):
    fs = tiny()
    fs.initialised()
    first = fs.call("register", str(fs.backing))
    assert fs.call("release_id", first) == 0
    second = fs.call("register", str(fs.backing))
    assert 0 < first < second  # so ids need all of their 31 bits in a handle
    assert fs.call("release_id", second) == 0


def test_release_leaves_open_files_open(tiny):
    fs = tiny(b"0123456789")
    with open(fs.path("f"), "rb") as file:
        [backing_id] = fs.call("look").ids.values()
        fs.call("release_id", backing_id)
        assert file.read() == b"0123456789"
    assert fs.count("READ") == 0


def test_what_is_no_regular_file_raises(tiny, arena):
    fs = tiny()
    fs.initialised()
    os.mkfifo(arena / "fifo")
    assert fs.call("register", str(arena)) == "EISDIR"
    assert fs.call("register", str(arena / "fifo"), os.O_RDONLY | os.O_NONBLOCK) == "EINVAL"


def test_without_cap_sys_admin_files_are_mediated(tiny):
    fs = tiny(b"0123456789", weak=True)
    assert Path(fs.path("f")).read_bytes() == b"0123456789"
    [(code, reason)] = fs.call("look").refused
    assert code == errno.EPERM
    assert "CAP_SYS_ADMIN" in reason
    assert fs.count("READ") == 1


def test_overlay_files_are_mediated(tiny, arena):
    layers = {name: arena / name for name in ("lower", "upper", "work", "merged")}
    for directory in layers.values():
        directory.mkdir()
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**layers)
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", options, layers["merged"], check=True)
    try:
        fs = tiny(b"0123456789", backing=layers["merged"] / "file")
        assert Path(fs.path("f")).read_bytes() == b"0123456789"
        [(code, reason)] = fs.call("look").refused
        assert code == errno.ELOOP
        assert "overlay" in reason
        fs.stop()
    finally:
        tool_as(0, "umount", layers["merged"], check=True)


def test_proc_files_are_refused(tiny):
    fs = tiny()
    fs.initialised()
    answer = fs.call("register", "/proc/self/status")
    assert isinstance(answer, BackingRefused)
    assert answer.errno == errno.ELOOP
