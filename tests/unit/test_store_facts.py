"""What probe() says of file systems, held against what they are known to do."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.linux.mountinfo import mount_of_fd, mounts
from policyfs.store import trial
from policyfs.store.facts import StoreFacts, directory_folds
from policyfs.store.trial import probe
from tests.support.machine.images import IMAGE_KINDS, file_system
from tests.support.machine.namespace import detach
from tests.support.machine.processes import call_as
from tests.support.mount import layers

pytestmark = pytest.mark.mount

LOCAL = StoreFacts(
    f_type=0xEF53,
    name="ext4",
    reflink=False,
    leases=True,
    trusted_xattr=True,
    user_xattr=True,
    casefold=False,
    read_only=False,
    fanotify=True,
    stable_inodes=True,
    tried=True,
    unnamed=True,
    noreplace=True,
    exchange=True,
    hard_links=True,
    birth_times=True,
    range_locks=True,
    file_locks=True,
)
NOT_TRIED = (
    "tried", "unnamed", "noreplace", "exchange", "hard_links", "birth_times", "range_locks", "file_locks",
)  # fmt: skip
"""What a trial cannot know of a store in which it can make no name."""
EXPECTED = {
    "ext4": LOCAL,
    "xfs": dataclasses.replace(LOCAL, name="xfs", f_type=0x58465342, reflink=True),
    "btrfs": dataclasses.replace(LOCAL, name="btrfs", f_type=0x9123683E, reflink=True),
    "tmpfs": dataclasses.replace(LOCAL, name="tmpfs", f_type=0x01021994, times_tell=False),
    "vfat": dataclasses.replace(
        LOCAL,
        name="vfat",
        f_type=0x4D44,
        trusted_xattr=False,
        user_xattr=False,
        casefold=True,
        stable_inodes=False,
        times_tell=False,
        unnamed=False,
        hard_links=False,
    ),
}


def facts_of(path: Path) -> StoreFacts:
    before = set(os.listdir("/proc/self/fd"))
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        return probe(fd)
    finally:
        os.close(fd)
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", [*IMAGE_KINDS, "tmpfs"])
def test_of_the_usual_file_systems(kind, tmp_path):
    with file_system(kind, tmp_path) as root:
        assert facts_of(root) == EXPECTED[kind]
        assert set(os.listdir(root)) <= {"lost+found"}
        (root / "DCIM").mkdir()
        names, before = os.listdir(root), root.stat()
        assert facts_of(root) == EXPECTED[kind]
        assert (os.listdir(root), root.stat().st_nlink) == (names, before.st_nlink), "no trace is left"
        below = root / "below"
        below.mkdir()
        assert facts_of(below) == EXPECTED[kind]
        subprocess.run(["mount", "-o", "remount,ro", root], check=True, timeout=20)
        facts = facts_of(root)
        assert facts.read_only
        assert (facts.trusted_xattr, facts.leases) == (EXPECTED[kind].trusted_xattr, True)
        assert [getattr(facts, name) for name in NOT_TRIED] == [False] * len(NOT_TRIED)


def test_of_xfs_without_reflink(tmp_path):
    with file_system("xfs", tmp_path, "-m", "reflink=0") as root:
        assert facts_of(root) == dataclasses.replace(EXPECTED["xfs"], reflink=False)


def test_only_nfs_4_has_delegations():
    assert [dataclasses.replace(EXPECTED["ext4"], name=name).delegates for name in ("nfs", "nfs4")] == [
        False,
        True,
    ]


def test_leases_of_an_overlay_mean_nothing(tmp_path):
    with file_system("tmpfs", tmp_path) as root:
        for name in ("lower", "upper", "work", "merged"):
            (root / name).mkdir()
        options = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
        subprocess.run(
            ["mount", "-t", "overlay", "-o", options, "overlay", root / "merged"], check=True, timeout=20
        )
        facts = facts_of(root / "merged")
        detach(os.fspath(root / "merged"))
    assert (facts.name, facts.leases, facts.reflink) == ("overlay", False, False)


def test_leases_of_fuse_mean_nothing(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "Upper").write_bytes(b"")
    (tmp_path / "merged").mkdir()
    subprocess.run(["bindfs", tmp_path / "store", tmp_path / "merged"], check=True, timeout=20)
    try:
        facts = facts_of(tmp_path / "merged")
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True, timeout=20)
    assert (facts.name, facts.leases, facts.reflink, facts.stable_inodes) == ("fuse", False, False, False)
    assert not facts.casefold
    assert (tmp_path / "store").stat().st_size, "the store under it was not touched"


@pytest.mark.parametrize(
    ("layer", "checks"),
    [(layers.mergerfs, True), (layers.gocryptfs, True), (layers.bindfs, False), (layers.sshfs, False)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_which_stores_check_the_rights_of_the_caller(
    tmp_path: Path, layer: Callable[[Path, Path], AbstractContextManager[Path]], checks: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with layer(source, tmp_path) as root:
        facts = facts_of(root)
        assert (facts.checks_callers, facts.root_as, facts.squashes_root) == (checks, 0, False)
        assert facts.one_owner is (layer is layers.sshfs)
        assert os.listdir(root) == [], "no trace is left"


def test_without_rights_it_says_what_is_possible(tmp_path):
    with file_system("tmpfs", tmp_path) as root:
        os.chown(root, 10010, 10010)
        fd = os.open(root, os.O_PATH)
        facts = call_as(10010, probe, fd)
        os.close(fd)
    assert (facts.trusted_xattr, facts.fanotify, facts.user_xattr) == (False, False, True)


@pytest.mark.parametrize("names", [[], ["dcim"], ["DCIM", "dcim"], ["1", "2"], ["x" * 255]])
def test_a_case_sensitive_directory_does_not_fold(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    assert not directory_folds(fd)
    os.close(fd)


class TestMountinfo:
    def test_the_mount_of_a_descriptor(self, tmp_path):
        with file_system("tmpfs", tmp_path) as root:
            fd = os.open(root, os.O_PATH)
            mount = mount_of_fd(fd)
            os.close(fd)
            device = os.stat(root).st_dev
            assert (mount.path, mount.fstype, mount.source) == (str(root), "tmpfs", "tmpfs")
            assert mount.device_name == f"{os.major(device)}:{os.minor(device)}"
            assert mount in mounts()
            assert mount in mounts(os.getpid())

    def test_odd_characters_in_a_mountpoint(self, tmp_path):
        odd = tmp_path / "a b\tc\\d\n\xff040"
        odd.mkdir()
        with file_system("tmpfs", odd) as root:
            assert str(root) in {mount.path for mount in mounts()}

    def test_a_descriptor_without_a_mount_of_ours(self):
        reader, writer = os.pipe()
        assert mount_of_fd(reader) is None
        os.close(reader)
        os.close(writer)

    def test_a_process_that_is_gone(self):
        with pytest.raises(OSError):
            mounts(2**22)


@pytest.mark.parametrize(
    ("f_type", "remote"), [(0x7461636F, True), (0x73717368, False)], ids=["ocfs2", "squashfs"]
)
def test_a_file_system_that_is_not_known_counts_as_remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, f_type: int, remote: bool
) -> None:
    """The event loop and the bridge must not wait for another machine."""
    monkeypatch.setattr(trial.libc, "file_system_type", lambda fd: f_type)
    assert facts_of(tmp_path).remote is remote


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, True)]
    + [({name: name != "stable_inodes"}, False) for name in ("remote", "stable_inodes", "trusted_xattr")],
)
def test_owners_are_in_a_database_only_where_no_other_machine_writes(
    more: dict[str, bool], expected: bool
) -> None:
    assert replace(LOCAL, **({"trusted_xattr": False} | more)).owners_in_database is expected
