"""Changes in directories where one decision holds for every name: the bridge makes, dates and removes files
by itself. The store, the apps and the trail find the same as after changes by Python."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.store.owner import OWNER_XATTR
from tests.mount.test_raw_tree import AGE_S, FILES, ONE, WIDE, refusal, said, store
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]
TWO = ONE + 1
SHARED = WIDE.replace("apps: {", f"apps: {{two: {{uid: {TWO}}}, ").replace(
    "rules:\n", "rules:\n  - {id: two, allow: [all], who: {app: two}}\n"
)
STAMP_NS = 1_000_000_000_000_000_000
ACL = "system.posix_acl_access"
MANY = 2_000
"""More handles than the bridge has places for."""


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    return mounts.prepare(WIDE, store, "--app", "one").start()


def warm(directory: str, name: str = "f0") -> None:
    """Let the daemon leave a directory to the bridge: a look-up tells that, and a new file passes through."""
    Path(directory, name).stat()
    Path(directory, "warm").write_text("warm")
    Path(directory, "warm").unlink()


def work(directory: str) -> None:
    warm(directory)
    for number in range(FILES):
        with Path(directory, f"n{number}").open("xb", buffering=0) as file:
            file.write(b"new")
            os.fsync(file.fileno())
            os.utime(file.fileno(), ns=(STAMP_NS, STAMP_NS + number))
    for number in range(0, FILES, 2):
        Path(directory, f"n{number}").unlink()


def assert_in_c(found: dict[str, int]) -> None:
    """Assert that the bridge has answered most of work(). It leaves a request to Python if the readers begin
    or end just then, or if an inode has the number of a known one."""
    kinds = found["creates"], found["setattrs"], found["releases"], 2 * found["unlinks"]
    assert min(kinds) > FILES // 2, found


def test_files_are_made_dated_and_removed_without_python(mount: Mount, store: Path) -> None:
    call_as(ONE, work, str(mount / "d"))
    found = said(mount)
    assert_in_c(found)
    assert (found["handles"], found["lost"], mount.status()["handles"]["open"]) == (0, 0, 0)
    assert sorted(path.name for path in (store / "d").glob("n*")) == sorted(
        f"n{number}" for number in range(1, FILES, 2)
    )
    for number in range(1, FILES, 2):
        path = store / "d" / f"n{number}"
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (b"new", STAMP_NS + number)
    wait_for(lambda: len(mount.events(operation="release", path=f"/d/n{FILES - 1}")) == 1, "the release")
    kinds = [event["operation"] for event in mount.events(path="/d/n0")]
    assert kinds == ["create", "attr", "release", "unlink"]
    (release,) = mount.events(operation="release", path="/d/n0")
    assert (release["size_before"], release["size_after"]) == (0, 3)
    assert mount.status()["bugs"] == 0


MODES = [(0o022, 0o666), (0o077, 0o777), (0, 0o1640), (0o027, 0o4755), (0, 0)]


def make_each(directory: str) -> list[int | None]:
    warm(directory)

    def make(mask: int, mode: int) -> None:
        os.umask(mask)
        os.close(os.open(f"{directory}/{mask:o}-{mode:o}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    return [refusal(lambda one=one: make(*one)) for one in MODES]


def marks(path: Path) -> tuple[Any, ...]:
    seen = path.stat()
    acl = os.getxattr(path, ACL) if ACL in os.listxattr(path) else b""
    owner = re.sub(rb"[0-9]+", b"N", os.getxattr(path, OWNER_XATTR))
    return path.name, seen.st_mode, seen.st_uid, seen.st_gid, acl, owner


@pytest.mark.parametrize("kind", ["plain", "setgid", "default ACL"])
def test_new_files_are_the_same_as_by_python(mounts: Mounts, arena: Path, kind: str) -> None:
    found = []
    for options in ((), ("--no-avc",)):
        (directory := arena / f"store{len(found)}" / "d").mkdir(parents=True)
        (directory / "f0").write_text("here")
        directory.chmod(0o2777 if kind == "setgid" else 0o777)
        if kind == "default ACL":
            subprocess.run(["setfacl", "-d", "-m", f"u:{TWO}:rwx,g::r,o::-", directory], check=True)
        mount = mounts.prepare(WIDE, directory.parent, "--app", "one", *options).start()
        errors = call_as(ONE, make_each, str(mount / "d"))
        assert options or said(mount)["creates"]  # not all: Python decides about set-id bits
        found.append((errors, sorted(marks(path) for path in directory.glob("*-*"))))
    assert found[0] == found[1]
    assert len(found[0][1]) == len(MODES)


def use(path: str) -> list[Any]:
    """What calls on a new file say."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    results: list[Any] = []

    def call(do: Callable[[], object]) -> None:
        try:
            results.append(do())
        except OSError as error:
            results.append(error.errno)

    def stored() -> object:
        with mmap.mmap(fd, 9000) as mapped:
            mapped[8000:8003] = b"end"
            mapped.flush()
        return os.stat(path).st_size

    for do in (
        lambda: os.write(fd, b"x" * 5000), lambda: os.fstat(fd).st_size, lambda: os.stat(path).st_size,
        lambda: os.fsync(fd), lambda: os.fdatasync(fd), lambda: os.pread(fd, 3, 4998),
        lambda: os.posix_fallocate(fd, 0, 9000), stored, lambda: os.lseek(fd, 0, os.SEEK_END),
        lambda: os.ftruncate(fd, 8003), lambda: os.lseek(fd, 0, os.SEEK_HOLE), lambda: os.fchmod(fd, 0o640),
        lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.lockf(fd, fcntl.LOCK_EX),
        lambda: os.utime(fd, ns=(1, STAMP_NS)), lambda: os.stat(path).st_mtime_ns,
        lambda: os.truncate(path, 8002), lambda: os.rename(path, f"{path}-moved"),
        lambda: os.stat(path), lambda: os.fstat(fd).st_size, lambda: os.pwrite(fd, b"late", 8002),
        lambda: os.unlink(f"{path}-moved"), lambda: (os.fstat(fd).st_size, os.fstat(fd).st_nlink),
        lambda: os.pwrite(fd, b"gone", 0), lambda: os.pread(fd, 4, 0), lambda: os.fsync(fd),
    ):  # fmt: skip
        call(do)
    os.close(fd)
    return results


def test_a_new_file_is_used_as_natively(mount: Mount, arena: Path) -> None:
    arena.chmod(0o777)
    expected = call_as(ONE, use, str(arena / "native"))
    call_as(ONE, warm, str(mount / "d"))
    for number in range(5):  # one may be Python's
        assert call_as(ONE, use, str(mount / f"d/new{number}")) == expected
    assert said(mount)["creates"]
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "the file is closed", 10)
    assert mount.status()["bugs"] == 0


def hold_many(channel: Any, directory: str) -> None:
    warm(directory)
    make = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    files = [os.open(f"{directory}/n{number}", make) for number in range(MANY)]
    for fd in files:
        os.write(fd, b"1")
    channel.send(None)
    channel.recv()
    for fd in files:
        os.write(fd, b"2")
        os.close(fd)


def test_very_many_new_files_are_open_at_once_for_long(mount: Mount, store: Path) -> None:
    """The bridge has no room for all of them. Python takes some over, so that it has room again."""

    def has_room() -> bool:
        before, name = said(mount)["creates"], f"d/more{time.monotonic_ns()}"
        call_as(ONE, Path(mount / name).write_text, "x")
        return bool(said(mount)["creates"] > before)

    child = start_as(ONE, hold_many, str(mount / "d"))
    assert child.receive() is None
    assert mount.status()["handles"]["files"] == MANY
    assert said(mount)["creates"] > MANY // 4
    wait_for(has_room, "the bridge makes files again", AGE_S)
    child.send(None)
    child.result()
    wait_for(lambda: mount.status()["handles"]["files"] == 0, "the files are closed", 10)
    assert {(store / f"d/n{number}").read_bytes() for number in range(MANY)} == {b"12"}
    assert mount.status()["bugs"] == 0


def write_mapped(channel: Any, path: str) -> None:
    """Make a file longer, and change it through a mapping, each time when told to."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    channel.send(None)
    for size in iter(channel.recv, None):
        os.ftruncate(fd, size)
        with mmap.mmap(fd, size) as mapped:
            mapped[size - 1] = size % 251
        channel.send(os.fstat(fd).st_size)


def test_a_shared_mount_needs_no_python_either(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(SHARED, store).start()
    call_as(TWO, warm, str(mount / "d"))
    call_as(ONE, work, str(mount / "d"))
    found = said(mount)
    assert_in_c(found)
    assert call_as(TWO, os.stat, str(mount / "d/n1")).st_mtime_ns == STAMP_NS + 1


def unpack(directory: str) -> None:
    Path(directory).mkdir()
    for number in range(FILES):
        Path(directory, f"n{number}").write_bytes(b"new")


def test_a_new_directory_needs_no_file_that_was_there(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(SHARED, store).start()
    call_as(ONE, unpack, str(mount / "d/new"))
    assert said(mount)["creates"] > FILES // 2, said(mount)


def test_another_app_sees_each_size_at_once(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(SHARED, store).start()
    for uid in (ONE, TWO):
        call_as(uid, warm, str(mount / "d"))
    child = start_as(ONE, write_mapped, str(mount / "d/new"))
    assert child.receive() is None
    for size in (1, 4096, 4097, 70_000, 3):
        child.send(size)
        assert child.receive() == size
        assert call_as(TWO, os.stat, str(mount / "d/new")).st_size == size
        assert call_as(TWO, Path.read_bytes, mount / "d/new")[-1] == size % 251
    child.send(None)
    child.result()
    with (store / "d/new").open("ab") as file:  # a program in the store
        file.write(b"more")
    wait_for(lambda: call_as(TWO, os.stat, str(mount / "d/new")).st_size == 7, "the size is seen", AGE_S / 2)


def test_times_of_a_file_that_was_closed_are_known_at_once(mount: Mount, store: Path) -> None:
    """The kernel keeps attributes, and the watch tells of what an app has written in passthrough."""
    call_as(ONE, work, str(mount / "d"))
    time.sleep(AGE_S / 4)
    before = said(mount)
    for number in range(1, FILES, 2):
        assert call_as(ONE, os.stat, str(mount / f"d/n{number}")).st_mtime_ns == STAMP_NS + number
    (store / "d/n1").write_text("longer")
    wait_for(lambda: call_as(ONE, os.stat, str(mount / "d/n1")).st_size == 6, "the size is seen", AGE_S / 2)
    assert said(mount)["nodes"] - before["nodes"] <= 1


def test_a_name_that_is_taken_is_no_new_file(mount: Mount, store: Path) -> None:
    call_as(ONE, work, str(mount / "d"))
    (store / "d/late").write_text("by another program")
    for flags, error in ((os.O_EXCL, errno.EEXIST), (0, None)):
        make = os.O_CREAT | os.O_WRONLY | flags
        assert call_as(ONE, refusal, lambda make=make: os.close(os.open(mount / "d/late", make))) == error
    assert (store / "d/late").read_text() == "by another program"


def make_twice(channel: Any, path: str) -> None:
    """Make a file twice when told to, and say the errors."""
    warm(os.path.dirname(path))
    channel.send(None)
    make = os.O_CREAT | os.O_EXCL | os.O_RDWR
    while channel.recv() is not None:
        channel.send([refusal(lambda: os.close(os.open(path, make))) for _ in range(2)])


@pytest.mark.parametrize("free", [1, 2])
def test_a_file_that_cannot_be_opened_is_not_left_behind(mount: Mount, store: Path, free: int) -> None:
    """The name is given before the file has all its descriptors."""
    child = start_as(ONE, make_twice, str(mount / "d/lock"))
    assert child.receive() is None
    wait_for(lambda: mount.status()["handles"]["files"] == 0, "all files are closed")
    used = {int(number) for number in os.listdir(f"/proc/{mount.pid}/fd")}
    limit = [number for number in range(len(used) + 10) if number not in used][free - 1] + 1
    old = resource.prlimit(mount.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, (limit, old[1]))
    try:
        child.send("make")
        refused = child.receive()
    finally:
        resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, old)
    made = 0 if refused[0] else 1
    assert refused == ([None, errno.EEXIST] if made else [errno.EMFILE] * 2)
    assert (store / "d/lock").exists() == bool(made)
    if not made:
        child.send("make")
        assert child.receive() == [None, errno.EEXIST]
    child.send(None)
    child.result()
    wait_for(lambda: len(mount.events(operation="create", path="/d/lock")) == 1, "the file is on record")
