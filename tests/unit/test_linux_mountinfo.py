"""Reading mountinfo, and finding a mountpoint without asking what is mounted."""

from __future__ import annotations

import errno
import os

import pytest

from policyfs.linux.mountinfo import (
    is_mountpoint,
    mount_of_fd,
    mounts,
    mounts_at,
    mounts_below,
    mounts_of_device,
    parse_mount,
    parse_mounts_at,
    resolve,
)


def test_a_line_with_optional_fields():
    mount = parse_mount(
        "36 35 98:7 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n"
    )
    assert (mount.mount_id, mount.device, mount.path) == (36, 98 << 20 | 7, "/mnt2")
    assert mount.options == {"rw", "noatime"}
    assert (mount.fstype, mount.source) == ("ext3", "/dev/root")
    assert mount.super_options == {"rw", "errors=continue"}


def test_escapes_and_bytes_that_are_no_text():
    line = b"1 2 0:39 / /a\\040b\\134040\\012\xff\xc3\xa9 rw - fuse.policyfs s\\011x rw,user_id=1\n"
    mount = parse_mount(line.decode("latin-1"))
    assert os.fsencode(mount.path) == b"/a b\\040\n\xff\xc3\xa9"
    assert mount.source == "s\tx"
    assert mount.device == 39


def test_those_on_one_path_in_order_by_its_name_as_it_is():
    lines = [
        "1 9 0:3 / /a rw - tmpfs under rw\n",
        "2 9 0:4 / /a\\040b rw - tmpfs beside rw\n",
        "3 1 0:5 / /a rw - fuse.policyfs over rw\n",
        "4 9 0:6 / /a\xff rw - tmpfs bytes rw\n",
        "5 9 0:7 /a /b rw - tmpfs /a rw\n",
    ]
    assert [mount.source for mount in parse_mounts_at("/a", lines)] == ["under", "over"]
    assert [mount.source for mount in parse_mounts_at("/a b", lines)] == ["beside"]
    assert [mount.source for mount in parse_mounts_at(os.fsdecode(b"/a\xff"), lines)] == ["bytes"]
    assert parse_mounts_at("/a\\040b", lines) == []


def test_an_empty_source():
    assert parse_mount("1 2 0:3 / /x rw - tmpfs  rw\n").source == ""


def test_the_running_kernels_own():
    assert any(mount.path == "/" for mount in mounts())
    assert mounts_at("/proc")[-1].fstype == "proc"
    assert is_mountpoint("/proc")
    assert is_mountpoint("/proc/")
    assert not is_mountpoint("/proc/self")
    assert not is_mountpoint("/does/not/exist")


def test_resolving_symlinks_on_the_way_and_at_the_end(tmp_path):
    base = tmp_path.resolve()
    (base / "real" / "deep").mkdir(parents=True)
    (base / "link").symlink_to("real")
    (base / "end").symlink_to("link/deep")
    assert resolve(f"{base}/link/deep") == f"{base}/real/deep"
    assert resolve(f"{base}/end") == f"{base}/real/deep"
    assert resolve(f"{base}/end/") == f"{base}/real/deep"
    assert resolve(f"{base}/end/..") == f"{base}/real"
    assert resolve(f"{base}/real/new") == f"{base}/real/new"
    assert resolve("/") == "/"
    (base / "proc").symlink_to("/proc")
    assert is_mountpoint(f"{base}/proc")


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("x") == f"{tmp_path.resolve()}/x"
    assert resolve(".") == str(tmp_path.resolve())


def test_what_cannot_be_resolved(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop") as caught:
        resolve(f"{tmp_path}/loop")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(FileNotFoundError):
        resolve(f"{tmp_path}/nothing/here")


def test_the_mounts_of_a_device_and_those_below_a_path_are_those_of_the_whole_table():
    table = mounts()
    for device in {mount.device for mount in table}:
        assert mounts_of_device(device) == [mount for mount in table if mount.device == device]
    assert mounts_below("/proc") == [mount for mount in table if mount.path.startswith("/proc/")]
    assert mounts_below("/") == table
    assert mounts_below("/does/not/exist") == []
    root = os.open("/", os.O_PATH)
    try:
        assert mount_of_fd(root) in mounts_at("/")
    finally:
        os.close(root)
