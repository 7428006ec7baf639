"""What an app did to a file before, or holds of another one, takes no file away from the bridge: the share of
requests that it answers without Python stays."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from policyfs.linux.libc import fallocate
from policyfs.store.ranges import KEEP_SIZE
from tests.mount.test_raw_changes import warm
from tests.mount.test_raw_tree import ONE, WIDE, refusal, said, store
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.open_pairs import ACL
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]
FILES = 40
ACLS = "system.posix_acl_access"
XATTR = "user.note"


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    return mounts.prepare(WIDE, store, "--app", "one").start()


def names(directory: str) -> list[str]:
    return [f"{directory}/n{number}" for number in range(FILES)]


def make(directory: str) -> None:
    warm(directory)
    for name in names(directory):
        Path(name).write_text(name)


def each(do: Callable[[str], object]) -> Callable[[str], None]:
    def of_all(directory: str) -> None:
        for name in names(directory):
            do(name)

    return of_all


def listed(name: str) -> None:
    assert os.listxattr(name) == []


def asked(name: str) -> None:
    for attribute, error in ((ACLS, errno.EOPNOTSUPP), (XATTR, errno.ENODATA), ("trusted.x", errno.ENODATA)):
        assert refusal(lambda attribute=attribute: os.getxattr(name, attribute)) == error


def copied(name: str) -> None:
    """Ask for what `cp -a` and rsync ask for each file."""
    with Path(name).open("rb") as file:
        status = os.fstat(file.fileno())
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        assert refusal(lambda: os.setxattr(file.fileno(), ACLS, ACL)) == errno.EOPNOTSUPP
        assert refusal(lambda: os.removexattr(file.fileno(), ACLS)) == errno.EOPNOTSUPP


def appended(name: str) -> None:
    with Path(name).open("a") as file:
        file.write("more")


def written(name: str) -> None:
    with Path(name).open("r+b", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read(1) == b"x"


def emptied(name: str) -> None:
    Path(name).write_text("new")


def use(directory: str) -> None:
    for name in names(directory):
        Path(name).read_bytes()
    for name in names(directory):
        os.rename(name, name + "m")
        os.unlink(name + "m")


def share(mount: Mount) -> dict[str, int]:
    found = said(mount)
    return {kind: found[kind] for kind in ("opens", "releases", "renames2", "renames", "unlinks")}


def gain(mount: Mount, before: dict[str, int]) -> dict[str, int]:
    now = share(mount)
    return {kind: now[kind] - before[kind] for kind in now}


def assert_in_c(mount: Mount, before: dict[str, int]) -> None:
    """Assert that the bridge has answered use(): all but what goes to Python while readers begin or end."""
    wait_for(lambda: gain(mount, before)["releases"] >= FILES - 4, "the releases")
    done = gain(mount, before)
    assert min(done["opens"], done["renames"] + done["renames2"], done["unlinks"]) >= FILES - 4, done


@pytest.mark.parametrize(
    "do", [listed, asked, copied, appended, written, emptied], ids=lambda do: do.__name__
)
def test_what_was_asked_of_a_file_leaves_it_to_the_bridge(mount: Mount, do: Callable[[str], object]) -> None:
    directory = str(mount / "d")
    call_as(ONE, make, directory)
    call_as(ONE, each(do), directory)
    before = share(mount)
    call_as(ONE, use, directory)
    assert_in_c(mount, before)


def keep(channel: Any, directory: str) -> None:
    make(directory)
    with ExitStack() as files:
        for name in names(directory):
            files.enter_context(Path(name).open("r+b"))
        channel.send("open")
        channel.recv()


def test_files_that_stay_open_for_seconds_are_left_to_the_bridge(mount: Mount) -> None:
    directory = str(mount / "d")
    holder = start_as(ONE, keep, directory)
    assert holder.receive() == "open"
    for _ in range(20):
        (mount.store / "another").touch()  # a daemon without work rests, and looks at nothing
        time.sleep(0.25)
    holder.send("end")
    holder.result()
    before = share(mount)
    call_as(ONE, use, directory)
    assert_in_c(mount, before)


def hold(channel: Any, name: str) -> None:
    with Path(name).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 1, 5)
        channel.send("held")
        channel.recv()


def test_a_held_lock_leaves_other_files_to_the_bridge(mount: Mount) -> None:
    directory = str(mount / "d")
    holder = start_as(ONE, hold, str(mount / "e" / "f0"))
    try:
        assert holder.receive() == "held"
        before = share(mount)
        call_as(ONE, make, directory)
        call_as(ONE, use, directory)
        assert_in_c(mount, before)
        counts = mount.status()["fuse"]
        assert counts["FLUSH"] - said(mount)["flushes"] < 10
    finally:
        holder.kill()


def lock_and_close(directory: str) -> tuple[bool, bool]:
    """Lock a new file, and close a copy of its descriptor, which ends the lock (fcntl(2)). Return if another
    process gets the lock before, and after."""
    make(directory)
    fd = os.open(f"{directory}/new", os.O_CREAT | os.O_RDWR)
    copy = os.dup(fd)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    before = is_free(f"{directory}/new")
    os.close(copy)
    return before, is_free(f"{directory}/new")


def is_free(name: str) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            with Path(name).open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_close_ends_the_first_lock_of_a_new_file(mount: Mount) -> None:
    assert call_as(ONE, lock_and_close, str(mount / "d")) == (False, True)
    assert said(mount)["creates"] >= FILES - 2


MUCH = 64 << 20


def reserve(directory: str) -> None:
    """Leave an empty file with much space beyond its end."""
    warm(directory)
    with Path(directory, "much").open("wb") as file:
        fallocate(file.fileno(), KEEP_SIZE, 0, MUCH)


@contextmanager
def callers(mount: Mount, log: Path, call: str) -> Iterator[Callable[[], list[str]]]:
    """Yield what finds the threads of the daemon that make a call from now on."""

    def found() -> list[str]:
        return re.findall(rf"^(\d+) +(?:{call})", log.read_text(), re.MULTILINE)

    line = ("strace", "-qq", "-f", "-y", "-e", "trace=close", "-o", str(log), "-p", str(mount.pid))
    with subprocess.Popen(line) as strace:
        try:
            wait_for(lambda: "TracerPid:\t0" not in Path(f"/proc/{mount.pid}/status").read_text(), "strace")
            yield found
        finally:
            strace.terminate()


def test_the_loop_frees_no_space_that_was_reserved_beyond_the_end(mount: Mount, arena: Path) -> None:
    call_as(ONE, reserve, str(mount / "d"))
    with callers(mount, arena / "calls", r"close\(\d+<[^>]*much[^)]*deleted") as found:
        call_as(ONE, os.unlink, str(mount / "d/much"))
        assert str(mount.pid) not in wait_for(found, "the space is free")
