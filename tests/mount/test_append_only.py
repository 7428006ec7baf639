"""Files and directories of chattr +a in mounts with rules (without: tests/posix)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.posix.calls import chattr, write
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.stores import Mounts

APP, OTHER = 10110, 10111
APPEND = os.O_WRONLY | os.O_APPEND
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{writer: {{uid: {APP}}}, other: {{uid: {OTHER}}}}}
rules:
  - {{id: writer, allow: [all], who: {{app: writer}}, paths: "/**"}}
  - {{id: own, allow: [all], who: {{app: other}}, paths: "/**", when: {{owner: self}}}}
  - {{id: texts, require: {{content: [text/plain]}}, paths: "/texts/**"}}
"""


def held_open(channel, path: Path) -> None:
    with open(path, "rb") as file:
        assert file.read() == b"one\n"
        channel.send("open")
        channel.recv()


@pytest.fixture
def disk(tmp_path: Path):
    tmp_path.chmod(0o711)
    with file_system("ext4", tmp_path) as root:
        for name in ("logs", "texts"):
            (root / name).mkdir()
            (root / name / "log").write_bytes(b"one\n")
        yield root


def test_an_append_waits_for_no_reader_but_one_of_before(mounts: Mounts, disk: Path) -> None:
    mount = mounts.start(POLICY, disk)
    log = mount / "logs/log"
    reader = start_as(APP, held_open, log)
    assert reader.receive() == "open"
    chattr("+a", str(disk / "logs/log"))
    assert call_as(APP, code_of, write, str(log), b"two\n", APPEND) == "EPERM"
    reader.send("close")
    reader.result()
    wait_for(lambda: call_as(APP, code_of, write, str(log), b"two\n", APPEND) == "", "the reader is gone")
    assert (disk / "logs/log").read_bytes() == b"one\ntwo\n"
    assert call_as(APP, log.read_bytes) == b"one\ntwo\n"
    assert mounts.stop_all() == []


def test_what_is_checked_as_a_whole_is_refused(mounts: Mounts, disk: Path) -> None:
    chattr("+a", str(disk / "texts/log"))
    mount = mounts.start(POLICY, disk)
    assert call_as(APP, code_of, write, str(mount / "texts/log"), b"two\n", APPEND) == "EPERM"
    assert (disk / "texts/log").read_bytes() == b"one\n"
    assert mounts.stop_all() == []


def test_an_empty_store_that_can_only_grow_is_mounted_and_gets_no_trial_file(
    mounts: Mounts, tmp_path: Path
) -> None:
    tmp_path.chmod(0o711)
    with file_system("tmpfs", tmp_path) as root:
        chattr("+a", str(root))
        mount = mounts.start(POLICY, root)
        assert call_as(APP, os.listdir, mount.mountpoint) == []
        call_as(APP, os.mkdir, mount / "made")
        assert os.listdir(root) == ["made"]
        assert mounts.stop_all() == []


def test_new_objects_in_such_a_directory_are_the_apps(mounts: Mounts, disk: Path) -> None:
    chattr("+a", str(disk / "logs"))
    mount = mounts.start(POLICY, disk)
    at = mount / "logs"
    call_as(OTHER, os.mkdir, at / "mine")
    call_as(OTHER, os.symlink, "mine", at / "link")
    call_as(OTHER, os.mkdir, at / "mine/more")
    assert call_as(OTHER, code_of, os.rmdir, at / "mine/more") == "", "it is the app's"
    assert call_as(OTHER, code_of, os.unlink, at / "link") == "EPERM"
    assert sorted(os.listdir(disk / "logs")) == ["link", "log", "mine"]
    assert mounts.stop_all() == []
