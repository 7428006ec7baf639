"""Owners, modes, times and xattrs: as natively, and what the mount never gives."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import call_as
from tests.support.models.twins import ROADS, UID, Case, Twins, content, error, fd_of, marks, twins_on

GROUP = 5000
NS = 1_000_000_000


@pytest.fixture(scope="module", params=ROADS[count(1, 0) : 3], ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


# ---------------------------------------------------------------- stories


def modes_and_umasks() -> object:
    seen = []
    for umask in (0, 0o022, 0o027, 0o077, 0o777):
        os.umask(umask)
        for mode in (0, 0o400, 0o644, 0o666, 0o777, 0o1777):
            name = f"{umask:o}-{mode:o}"
            os.close(os.open(f"f{name}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))
            os.mkdir(f"d{name}", mode)
            os.mknod(f"n{name}", stat.S_IFREG | mode)
            seen.append([oct(os.stat(letter + name).st_mode) for letter in "fdn"])
    os.umask(0)
    os.symlink("x", "link")
    return seen, oct(os.lstat("link").st_mode)


def modes_of_open_files() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0) as fd:  # writable all the same
        os.write(fd, b"text")
        os.fchmod(fd, 0o606)
        return marks(os.fstat(fd)), os.pread(fd, 10, 0)


def times_in_ns() -> object:
    from policyfs.linux import libc

    seen = []
    stamps = (0, 1, 999_999_999, 10**18 + 1, -5 * NS + 7, 2**31 * NS + 3, 2**33 * NS + 5, 2**40 * NS)
    for stamp in stamps:
        seen.append(error(lambda stamp=stamp: os.utime("file", ns=(stamp, stamp + 1))))
        seen.append((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns))
    os.utime("file", ns=(5 * NS, 6 * NS))
    with fd_of("file", os.O_RDONLY) as fd:
        libc.utimens_fd(fd, None, 7 * NS)
        seen.append((os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
        libc.utimens_fd(fd, 8 * NS, None)
        seen.append((os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
        os.utime(fd, ns=(9, 10))
        seen.append((os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
    for name in ("dir", "tofile", "loop"):
        os.utime(name, ns=(11, 12), follow_symlinks=False)
        seen.append((os.lstat(name).st_atime_ns, os.lstat(name).st_mtime_ns))
    return seen


def ctime_moves() -> object:
    seen = []
    for change in (
        lambda: os.chmod("file", 0o600), lambda: os.link("file", "l"), lambda: os.rename("l", "m"),
        lambda: os.setxattr("file", "user.c", b"1"), lambda: os.utime("file"), lambda: os.unlink("m"),
    ):  # fmt: skip
        before = os.stat("hard").st_ctime_ns
        while True:  # the clock of the file system ticks every few ms
            change_again = error(change)
            after = os.stat("hard").st_ctime_ns
            if after > before or change_again != "None":
                break
            if change_again == "None" and os.path.exists("l"):
                os.unlink("l")
        seen.append(after > before)
    return all(seen)


def chown_within_reach() -> object:
    me = os.getuid()
    with fd_of("file", os.O_RDONLY) as fd:
        return (
            error(os.chown, "file", me, me), error(os.chown, "file", -1, -1), error(os.chown, "file", 0, -1),
            error(os.chown, "dir", me + 1, me), error(os.lchown, "loop", -1, me),
            error(os.fchown, fd, me, -1), error(os.chown, "file", -1, 0), error(os.chown, "missing", me, me),
            error(os.lchown, "loop", 0, 0),
        )  # fmt: skip


def xattrs() -> object:
    seen = []
    for size in (0, 1, 300, 1500):  # ext4 has room for 4 KiB of them
        os.setxattr("file", f"user.s{size}", b"v" * size)
        seen.append(len(os.getxattr("file", f"user.s{size}")))
    os.setxattr("file", b"user.\xff\xfe \n", b"odd name")
    seen += [
        sorted(os.listxattr("hard")), sorted(os.listxattr("tofile")),
        os.getxattr("hard", b"user.\xff\xfe \n"),
        error(os.setxattr, "file", "user.s1", b"", os.XATTR_CREATE), error(os.setxattr, "file", "user.", b""),
        error(os.setxattr, "file", "user." + "n" * 251, b""), error(os.setxattr, "file", "nonsense", b""),
        error(os.setxattr, "file", "user.big", b"x" * 65537), error(os.getxattr, "file", "user." + "n" * 251),
        error(os.setxattr, "dir", "user." + "n" * 250, b"longest"), error(os.setxattr, "dir", "user.d", b"1"),
        error(os.setxattr, "file", "user.full", b"x" * 4000) in {"None", "ENOSPC"},
        os.getxattr("dir/.", "user.d"), os.listxattr("vacant"), error(os.removexattr, "dir", "user.d"),
        error(os.setxattr, "file", "trusted.a", b""), error(os.removexattr, "file", "trusted.a"),
        error(os.getxattr, "file", "trusted.a"), error(os.setxattr, "tofile", "user.l", b"", 0),
        error(lambda: os.setxattr("tofile", "user.l", b"", follow_symlinks=False)),
        error(lambda: os.getxattr("loop", "user.l", follow_symlinks=False)),
        error(lambda: os.listxattr("loop", follow_symlinks=False)), error(os.listxattr, "loop"),
    ]  # fmt: skip
    error(os.removexattr, "file", "user.full")
    with fd_of("file", os.O_RDONLY) as fd:
        os.setxattr(fd, "user.fd", b"by descriptor")
        seen += [
            os.getxattr(fd, "user.fd"),
            os.getxattr("file", "user.fd"),
            error(os.removexattr, fd, "user.fd"),
        ]
    return seen


STORIES = (modes_and_umasks, modes_of_open_files, times_in_ns, ctime_moves, chown_within_reach, xattrs)


def test_attributes_are_as_natively(twins: Twins) -> None:
    twins.compare([Case(story.__name__, story) for story in STORIES])


# ---------------------------------------------------------------- what a parent directory gives


def _make_some() -> object:
    os.umask(0o027)
    with fd_of("file", os.O_WRONLY | os.O_CREAT, 0o666) as fd:
        os.write(fd, b"x")
    os.mkdir("dir", 0o777)
    with fd_of("dir/deep", os.O_WRONLY | os.O_CREAT, 0o777):
        pass
    os.mkdir("dir/sub")
    os.mknod("node", stat.S_IFREG | 0o666)
    os.symlink("file", "link")
    return sorted(os.listdir("."))


def _setgid(directory: Path) -> None:
    os.chown(directory, 0, GROUP)
    directory.chmod(0o2777)


def test_a_setgid_directory_hands_its_group_down(twins: Twins) -> None:
    twins.same(_setgid, _make_some)
    twins.same(_setgid, _make_some, groups=[GROUP])
    made = max(twins.mount.store.glob("own-*"), key=lambda path: path.stat().st_ctime_ns)
    assert (made / "dir" / "deep").stat().st_gid == GROUP
    assert (made / "dir" / "sub").stat().st_mode & stat.S_ISGID


def _default_acl(directory: Path) -> None:
    rules = f"u::rwx,g::r-x,o::---,u:{UID + 5}:rw-,g:{GROUP}:rwx,m::rwx"
    subprocess.run(["setfacl", "-d", "-m", rules, str(directory)], check=True, timeout=10)


def _acls(directory: Path) -> str:
    """Of everything below, in names that both sides share."""
    done = subprocess.run(
        ["getfacl", "-R", "-n", "-P", "."],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    )
    blocks = [block.splitlines() for block in done.stdout.strip().split("\n\n")]
    return "\n".join(line for block in sorted(blocks) for line in block)


def test_a_default_acl_takes_the_umasks_place(twins: Twins) -> None:
    twins.same(_default_acl, _make_some)
    ours, theirs = (
        max(side.glob("own-*"), key=lambda path: path.stat().st_ctime_ns)
        for side in (twins.mount.store, twins.native)
    )
    assert f"user:{UID + 5}:rw-" in _acls(ours)
    assert _acls(ours) == _acls(theirs)


def test_the_group_changes_to_one_that_the_caller_is_in(twins: Twins) -> None:
    def prepare(directory: Path) -> None:
        (directory / "file").touch()
        os.chown(directory / "file", UID, UID)

    def change() -> object:
        return [error(os.chown, "file", -1, group) for group in (GROUP, GROUP + 1, 0, UID)], os.stat(
            "file"
        ).st_gid

    outcome = twins.same(prepare, change, groups=[GROUP])
    assert outcome.value == (["None", "EPERM", "EPERM", "None"], UID)


# ---------------------------------------------------------------- what the mount never gives


def _prepare_suid(directory: Path) -> None:
    for name in ("suid", "sgid", "both"):
        (directory / name).write_bytes(b"#!/bin/true\n")
        os.chown(directory / name, UID, UID)
    (directory / "suid").chmod(0o4755)
    (directory / "sgid").chmod(0o2755)
    (directory / "both").chmod(0o6777)


def _place(twins: Twins, name: str) -> tuple[Path, Path]:
    inside, outside = twins.mount / name, twins.mount.store / name
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    return inside, outside


def test_suid_and_sgid_are_never_set_and_go_when_a_file_is_written(twins: Twins) -> None:
    inside, outside = _place(twins, "suid")
    _prepare_suid(outside)

    def try_everything() -> object:
        os.chdir(inside)
        os.umask(0)
        os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o6755))
        os.mknod("node", stat.S_IFREG | 0o4711)
        os.mkdir("dir", 0o6755)
        seen = [oct(os.stat(name).st_mode) for name in ("suid", "sgid", "both")]  # shown as they are
        os.chmod("made", 0o6711)
        os.chmod("dir", 0o2755)
        with fd_of("suid", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"more")
        os.truncate("sgid", 3)
        with fd_of("both", os.O_WRONLY):
            pass  # opening for writing is enough
        return seen

    assert call_as(UID, try_everything) == ["0o104755", "0o102755", "0o106777"]
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in outside.iterdir()}
    assert modes == {
        "made": "0o711", "node": "0o711", "dir": "0o2755", "suid": "0o755", "sgid": "0o755", "both": "0o777",
    }  # fmt: skip


def test_a_capability_goes_before_a_file_is_written(twins: Twins) -> None:
    inside, outside = _place(twins, "capable")
    capability = bytes.fromhex("0000000201000000000000000000000000000000")  # revision 2, CAP_CHOWN permitted
    for name in ("opened", "cut", "read"):
        (outside / name).write_bytes(b"program")
        os.setxattr(outside / name, "security.capability", capability)

    def use() -> object:
        os.chdir(inside)
        with fd_of("opened", os.O_RDWR):
            pass
        os.truncate("cut", 2)
        return content("read"), error(os.getxattr, "read", "security.capability"), os.listxattr("read")

    assert call_as(UID, use) == (b"program", "ENODATA", [])
    assert {path.name for path in outside.iterdir() if os.listxattr(path)} == {"read"}


def test_xattrs_outside_user_are_neither_shown_nor_set(twins: Twins) -> None:
    inside, outside = _place(twins, "xattrs")
    (outside / "file").touch()
    for name in ("trusted.secret", "security.secret", "user.shown"):
        os.setxattr(outside / "file", name, b"value")
    subprocess.run(["setfacl", "-m", f"u:{UID + 7}:r", str(outside / "file")], check=True, timeout=10)
    before = {name: os.getxattr(outside / "file", name) for name in os.listxattr(outside / "file")}

    acls = ("system.posix_acl_access", "system.posix_acl_default")
    names = (
        "trusted.secret", "security.secret", "trusted.policyfs.owner", "user.policyfs.owner",
        "security.capability", "strange.name", *acls,
    )  # fmt: skip

    def use() -> object:
        os.chdir(inside)
        return (
            os.listxattr("file"),
            [error(os.getxattr, "file", name) for name in names],
            [error(os.setxattr, "file", name, b"forged") for name in names],
            [error(os.removexattr, "file", name) for name in names],
        )

    shown, got, put, removed = call_as(UID, use)
    assert shown == ["user.shown"]
    assert got == ["ENOTSUP" if name in acls else "ENODATA" for name in names]
    assert not {"None", "EIO"} & {*put}
    assert "EIO" not in removed
    assert {name: os.getxattr(outside / "file", name) for name in os.listxattr(outside / "file")} == before
