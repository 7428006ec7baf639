"""Special files and suid bits under --posix: native where an app may do everything, else not there."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, tool_as
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER = 10041, 10042
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], paths: ["/***"]}}
  - {{id: mine, deny: [write], who: {{app: other}}, paths: ["/mine/***"]}}
  - {{id: typed, require: {{content: [text/plain]}}, paths: ["/typed/**"]}}
  - {{id: hidden, require: {{redact: location}}, paths: ["/photos/**"]}}
  - {{id: recorded, allow: [all], audit: required, paths: ["/recorded/**"]}}
  - {{id: owned, deny: [delete], when: {{owner: other}}, paths: ["/owned/**"]}}
"""
RESTRICTED = ("typed", "photos", "recorded", "owned")
FIFO, SOCKET, CHAR = stat.S_IFIFO | 0o640, stat.S_IFSOCK | 0o600, stat.S_IFCHR | 0o666
NULL = os.makedev(1, 3)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("free", "mine", *RESTRICTED):
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "store" / name).chmod(0o777)
    (tmp_path / "store").chmod(0o755)
    return tmp_path / "store"


@pytest.fixture(params=first(1, [("shared",), ("app",)]))
def mount(request: pytest.FixtureRequest, mounts: Mounts, place: Path) -> Mount:
    own = ("--app", "app", "--any-uid") if request.param == "app" else ()
    return mounts.start(POLICY, place, "--posix", *own)


def through(fifo: Path) -> bytes:
    """What comes out of a fifo that this process writes to."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"hello")
        return os.read(reader, 16)
    finally:
        os.close(reader)
        os.close(writer)


def bind(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_PATH)
        try:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)
    return stat.S_IFMT(os.lstat(path).st_mode)


def test_special_files_are_made_shown_used_moved_and_removed(mount: Mount, place: Path) -> None:
    call_as(APP, os.mknod, mount / "free/fifo", FIFO)
    status = call_as(APP, os.lstat, mount / "free/fifo")
    stored = (place / "free/fifo").lstat()
    for field in ("st_ino", "st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_blocks", "st_mtime_ns"):
        assert getattr(status, field) == getattr(stored, field), field
    assert (stored.st_uid, stat.S_IMODE(stored.st_mode)) == (APP, 0o640)
    assert call_as(APP, through, mount / "free/fifo") == b"hello"
    assert call_as(APP, bind, mount / "free/socket") == stat.S_IFSOCK
    call_as(0, os.mknod, mount / "free/null", CHAR, NULL)
    status = call_as(0, os.lstat, mount / "free/null")
    assert (status.st_rdev, status.st_blocks, stat.S_ISCHR(status.st_mode)) == (NULL, 0, True)
    assert call_as(APP, error, os.open, mount / "free/null", os.O_RDONLY) == "EACCES", "always nodev"
    assert call_as(APP, error, os.mknod, mount / "free/other", CHAR, NULL) == "EPERM", "no CAP_MKNOD"
    assert sorted(call_as(APP, os.listdir, mount / "free")) == ["fifo", "null", "socket"]
    call_as(APP, os.rename, mount / "free/fifo", mount / "free/moved")
    call_as(APP, os.link, mount / "free/moved", mount / "free/again")
    assert call_as(APP, os.lstat, mount / "free/again").st_nlink == 2
    call_as(APP, os.chmod, mount / "free/moved", 0o600)
    assert stat.S_IMODE((place / "free/again").lstat().st_mode) == 0o600
    for name in ("moved", "again", "socket", "null"):
        call_as(0, os.unlink, mount / "free" / name)
    assert os.listdir(place / "free") == []


@pytest.mark.parametrize("where", RESTRICTED)
def test_where_a_rule_asks_for_anything_they_are_neither_made_nor_there(
    mount: Mount, place: Path, where: str
) -> None:
    os.mkfifo(place / where / "fifo", 0o666)
    (place / where / "fifo").chmod(0o666)
    os.mkfifo(place / "free/fifo", 0o666)
    os.chown(place / "free/fifo", APP, APP)
    assert call_as(APP, os.listdir, mount / where) == []
    assert call_as(APP, error, os.lstat, mount / where / "fifo") == "ENOENT"
    assert call_as(APP, error, os.mknod, mount / where / "new", FIFO) == "EPERM"
    assert call_as(APP, error, os.rename, mount / "free/fifo", mount / where / "new") == "EXDEV"
    assert call_as(APP, error, os.link, mount / "free/fifo", mount / where / "new") == "EXDEV"
    assert call_as(APP, os.listdir, mount / "free") == ["fifo"]
    assert sorted(os.listdir(place / where)) == ["fifo"]


def test_another_app_under_a_rule_does_not_see_what_the_first_made(mounts: Mounts, place: Path) -> None:
    mount = mounts.start(POLICY, place, "--posix")
    call_as(APP, os.mknod, mount / "mine/fifo", stat.S_IFIFO | 0o666)
    call_as(APP, os.chmod, mount / "mine/fifo", 0o666)
    assert call_as(APP, through, mount / "mine/fifo") == b"hello"
    for _ in range(2):
        assert call_as(OTHER, error, os.open, mount / "mine/fifo", os.O_RDWR | os.O_NONBLOCK) == "ENOENT"
        assert call_as(OTHER, os.listdir, mount / "mine") == []
        assert call_as(APP, os.listdir, mount / "mine") == ["fifo"]
    assert mount.policy is not None
    mount.policy.write_text(POLICY.replace('paths: ["/typed/**"]', 'paths: ["/typed/**", "/mine/**"]'))
    assert mount.reload().returncode == 0
    assert call_as(APP, error, os.lstat, mount / "mine/fifo") == "ENOENT"


def test_suid_bits_are_native_where_nothing_is_asked_and_never_set_elsewhere(
    mount: Mount, place: Path
) -> None:
    for where, expected in (("free", 0o6755), ("typed", 0o755)):
        tool_as(APP, "touch", mount / where / "file", check=True)
        call_as(APP, os.chmod, mount / where / "file", 0o6755)
        assert stat.S_IMODE((place / where / "file").stat().st_mode) == expected
    tool_as(APP, "sh", "-c", f"echo text > {mount / 'free/file'}", check=True)
    assert stat.S_IMODE((place / "free/file").stat().st_mode) == 0o755, "a write takes them away"


def test_without_posix_they_are_not_there_whatever_the_policy(mounts: Mounts, place: Path) -> None:
    mount = mounts.start(POLICY, place)
    os.mkfifo(place / "free/fifo")
    assert call_as(0, error, os.mknod, mount / "free/new", FIFO) == "EPERM"
    assert call_as(0, os.listdir, mount / "free") == []
    tool_as(APP, "touch", mount / "free/file", check=True)
    call_as(APP, os.chmod, mount / "free/file", 0o6755)
    assert stat.S_IMODE((place / "free/file").stat().st_mode) == 0o755


def test_a_store_that_is_closed_to_all_but_root_is_open_in_the_mount(mount: Mount, place: Path) -> None:
    """`chmod 700` of the store keeps apps out of the store; the mount lets them in, by the policy."""
    (place / "free/one").write_text("one")
    call_as(APP, os.listdir, mount / "")
    place.chmod(0o700)
    for _ in range(2):
        shown = call_as(APP, os.stat, mount / "")
        assert (shown.st_mode & 0o777, shown.st_uid) == (0o755, 0)
        assert call_as(APP, (mount / "free/one").read_text) == "one"
        assert "free" in call_as(APP, os.listdir, mount / "")
        assert error(call_as, APP, os.mkdir, mount / "new") == "EACCES"
    place.chmod(0o750)
    os.chown(place, 0, OTHER)
    assert call_as(0, os.stat, mount / "").st_mode & 0o777 == 0o750, "a group may enter: it counts as it is"
