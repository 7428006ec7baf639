"""Owners on the files themselves and in the database."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from policyfs.domain import OWNER_NONE
from policyfs.linux.statx import fstatx
from policyfs.store.owner import OWNER_XATTR, Owners
from tests.support.machine.images import STORE_KINDS, file_system

pytestmark = [pytest.mark.mount, pytest.mark.usefixtures("no_descriptor_leaks")]


@pytest.fixture(scope="module", params=STORE_KINDS)
def base(request, tmp_path_factory):
    with file_system(request.param, tmp_path_factory.mktemp("owner")) as root:
        yield root


@pytest.fixture
def file(base):
    path = base / "file"
    path.write_bytes(b"abc")
    yield path
    path.unlink()


@pytest.fixture(params=["xattr", "database"])
def owners(request, tmp_path):
    owners = Owners(request.param == "xattr", os.fspath(tmp_path / "owners.db"))
    assert owners.how == request.param
    yield owners
    owners.close()
    owners.close()


def owner_of(owners: Owners, path) -> str:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return owners.get(fd, fstatx(fd))
    finally:
        os.close(fd)


def set_owner(owners: Owners, path, app: str) -> None:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        owners.set(fd, fstatx(fd), app)
    finally:
        os.close(fd)


class TestBoth:
    def test_set_get_replace_and_take_away_on_o_path_descriptors(self, owners, file):
        assert owner_of(owners, file) == OWNER_NONE
        for app in ("camera", "gallery.v2", "ärger", OWNER_NONE, OWNER_NONE, "camera"):
            set_owner(owners, file, app)
            assert owner_of(owners, file) == app

    def test_it_follows_the_inode_through_rename_link_chown_and_writing(self, owners, file, base):
        set_owner(owners, file, "camera")
        os.link(file, base / "second")
        os.rename(file, base / "third")
        os.chown(base / "third", 5, 5)
        (base / "third").write_bytes(b"changed")
        assert owner_of(owners, base / "second") == owner_of(owners, base / "third") == "camera"
        os.rename(base / "third", file)
        os.unlink(base / "second")

    def test_a_copy_owns_nothing(self, owners, file, base):
        set_owner(owners, file, "camera")
        for command in (
            ["cp", "--preserve=all", file, base / "copy"],
            ["rsync", "-aX", file, base / "copy"],
        ):
            subprocess.run(command, check=True, timeout=20)
            assert owner_of(owners, base / "copy") == OWNER_NONE
            os.unlink(base / "copy")
        shutil.copy2(file, base / "copy")
        assert owner_of(owners, base / "copy") == OWNER_NONE
        os.unlink(base / "copy")

    def test_a_file_in_the_place_of_an_owned_one_owns_nothing(self, owners, base):
        for _ in range(20):
            path = base / "again"
            path.write_bytes(b"")
            assert owner_of(owners, path) == OWNER_NONE
            set_owner(owners, path, "camera")
            path.unlink()

    def test_directories_and_symlinks_have_owners_of_their_own(self, owners, file, base):
        (base / "dir").mkdir()
        (base / "link").symlink_to("file")
        set_owner(owners, base / "dir", "backup")
        set_owner(owners, base / "link", "gallery")
        assert [owner_of(owners, base / name) for name in ("dir", "link", "file")] == [
            "backup",
            "gallery",
            OWNER_NONE,
        ]
        (base / "dir").rmdir()
        (base / "link").unlink()

    def test_threads_may_share_it(self, owners, file):
        def work() -> None:
            for _ in range(20):
                set_owner(owners, file, "camera")
                assert owner_of(owners, file) == "camera"

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class TestXattr:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"camera",
            b"1:{ino}:{btime}:",
            b"2:{ino}:{btime}:camera",
            b"1:{ino}:{btime}",
            b"1:{ino}0:{btime}:camera",
            b"1:{ino}:{btime}0:camera",
            b"1:+{ino}:{btime}:camera",
            b"1:{ino}:{btime}:\xff",
        ],
    )
    def test_what_does_not_fit_the_inode_counts_as_none(self, file, value):
        stat = fstatx_of(file)
        value = value.replace(b"{ino}", b"%d" % stat.ino).replace(b"{btime}", b"%d" % stat.btime_ns)
        os.setxattr(file, OWNER_XATTR, value)
        assert owner_of(Owners(True), file) == OWNER_NONE

    def test_the_value_is_as_documented(self, file):
        set_owner(Owners(True), file, "a:b")
        stat = fstatx_of(file)
        assert os.getxattr(file, OWNER_XATTR) == b"1:%d:%d:a:b" % (stat.ino, stat.btime_ns)
        assert owner_of(Owners(True), file) == "a:b"

    def test_nothing_is_left_of_an_owner_taken_away(self, file):
        set_owner(Owners(True), file, "camera")
        set_owner(Owners(True), file, OWNER_NONE)
        assert os.listxattr(file) == []

    def test_what_cannot_be_read_is_unknown_not_none(self):
        with pytest.raises(OSError) as caught:
            Owners(True).get(9999, fstatx_of("/"))
        assert caught.value.errno == errno.ENOENT


class TestDatabase:
    def test_two_mounts_of_one_store_see_each_others(self, file, tmp_path):
        first, second = (Owners(False, os.fspath(tmp_path / "o.db")) for _ in range(2))
        set_owner(first, file, "camera")
        assert owner_of(second, file) == "camera"
        set_owner(second, file, OWNER_NONE)
        assert owner_of(first, file) == OWNER_NONE
        first.close()
        second.close()

    def test_only_root_reads_it(self, tmp_path):
        umask = os.umask(0)
        Owners(False, os.fspath(tmp_path / "o.db")).close()
        os.umask(umask)
        assert (tmp_path / "o.db").stat().st_mode & 0o777 == 0o600

    def test_a_file_without_birth_time_is_owned_by_none(self, file, tmp_path):
        owners = Owners(False, os.fspath(tmp_path / "o.db"))
        fd = os.open(file, os.O_PATH)
        stat = fstatx(fd)._replace(btime_ns=0)
        owners.set(fd, stat, "camera")
        assert owners.get(fd, stat) == OWNER_NONE
        os.close(fd)
        owners.close()

    def test_numbers_of_64_bits_fit(self, file, tmp_path):
        owners = Owners(False, os.fspath(tmp_path / "o.db"))
        stat = fstatx_of(file)._replace(ino=2**64 - 1, dev=2**63)
        owners.set(-1, stat, "camera")
        assert owners.get(-1, stat) == "camera"
        owners.close()

    def test_a_broken_database_is_an_io_error(self, tmp_path):
        (tmp_path / "o.db").write_bytes(b"this is no database, but long enough to look at" * 100)
        with pytest.raises(OSError, match="owner database") as caught:
            Owners(False, os.fspath(tmp_path / "o.db"))
        assert caught.value.errno == errno.EIO

    def test_who_asks_for_an_owner_waits_for_nobody_who_sets_one(self, file, tmp_path):
        """The event loop asks. A thread that sets an owner may wait for a slow disk, or another mount."""
        owners = Owners(False, os.fspath(tmp_path / "o.db"))
        set_owner(owners, file, "camera")
        other = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        setting = threading.Thread(target=set_owner, args=(owners, file, OWNER_NONE))
        setting.start()
        time.sleep(0.2)
        begun = time.monotonic()
        assert owner_of(owners, file) == "camera"
        assert time.monotonic() - begun < 1
        assert setting.is_alive(), "it waits"
        other.execute("COMMIT")
        setting.join()
        assert owner_of(owners, file) == OWNER_NONE
        other.close()
        owners.close()

    def test_a_locked_database_is_an_io_error_not_none(self, file, tmp_path):
        owners = Owners(False, os.fspath(tmp_path / "o.db"), busy_timeout_s=0.05)
        other = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="locked"):
            set_owner(owners, file, "camera")
        other.close()
        owners.close()


def test_kept_nowhere_every_file_is_owned_by_none(tmp_path):
    owners = Owners(False)
    set_owner(owners, tmp_path, "camera")
    assert (owners.how, owner_of(owners, tmp_path)) == ("nowhere", OWNER_NONE)


def fstatx_of(path):
    fd = os.open(path, os.O_PATH)
    try:
        return fstatx(fd)
    finally:
        os.close(fd)
