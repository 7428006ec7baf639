"""Changes and questions that the bridge answers by itself disturb no other program, and lose nothing."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_raw_changes import warm
from tests.mount.test_raw_tree import ONE, WIDE, refusal, said, store
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.stores import Mounts
from tests.support.mount.tinyfs import Options, Tiny

__all__ = ["store"]
POOL = "user.mergerfs.basepath"
ASKED: dict[str, tuple[str, Callable[[Any], object]]] = {
    "chmod": ("setattrs", lambda file: os.chmod(file, 0o640)),
    "getxattr": ("getxattrs", lambda file: refusal(lambda: os.getxattr(file, "user.none"))),
    "listxattr": ("listxattrs", os.listxattr),
}
"""Calls on a path or descriptor, with what counts those that the bridge answers."""


@pytest.fixture
def hanging(arena: Path) -> Iterator[Tiny]:
    """A file system with one file whose pages hang."""
    (backing := arena / "far-backing" / "file").parent.mkdir(mode=0o700)
    backing.write_bytes(b"hello world\n")
    (far := arena / "far").mkdir()
    tiny = Tiny(far, backing, Options())
    try:
        yield tiny
    finally:
        tiny.call("let_go")
        tiny.stop()


@pytest.mark.parametrize("asked", ASKED)
def test_another_programs_lease_stays(mounts: Mounts, store: Path, asked: str) -> None:
    mount = mounts.prepare(WIDE, store, "--app", "one").start()
    call_as(ONE, warm, str(mount / "d"))
    before = said(mount)[ASKED[asked][0]]
    with (store / "d/f1").open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # SIGIO would end this process
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        call_as(ONE, ASKED[asked][1], mount / "d/f1")
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK
    assert said(mount)[ASKED[asked][0]] > before


def empty_and_write(directory: str, between: Callable[[int], object]) -> None:
    warm(directory)
    fd = os.open(f"{directory}/f1", os.O_WRONLY | os.O_TRUNC)
    between(fd)
    os.write(fd, b"new" * 3000)
    os.close(fd)


@pytest.mark.parametrize("asked", ASKED)
def test_the_close_writes_an_emptied_file_to_the_disk(arena: Path, asked: str) -> None:
    """ext4 does so at the first close after the truncation, lest a power cut leaves an empty file."""
    with file_system("ext4", arena) as disk:
        mounts = Mounts(arena)
        (directory := disk / "store" / "d").mkdir(parents=True)
        directory.chmod(0o777)
        for name in ("f0", "f1"):
            (directory / name).write_bytes(b"old" * 3000)
            (directory / name).chmod(0o666)
        os.sync()
        try:
            mount = mounts.prepare(WIDE, disk / "store", "--app", "one").start()
            call_as(ONE, empty_and_write, str(mount / "d"), ASKED[asked][1])
            extents = subprocess.check_output(["filefrag", "-v", directory / "f1"], text=True)
            assert "1 extent" in extents
            assert "delalloc" not in extents
            assert said(mount)[ASKED[asked][0]]
        finally:
            assert not mounts.stop_all()


def write_page(channel: Any, source: str, target: Path) -> int:
    """Write a page that hangs: the kernel keeps the lock of the store's file meanwhile."""
    fd = os.open(target, os.O_WRONLY)
    with (
        Path(source).open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        memoryview(memory) as page,
    ):
        return os.pwrite(fd, page, 0)


def empty(channel: Any, path: Path) -> None:
    path.write_bytes(b"")


def test_a_write_in_another_mount_holds_up_one_caller_alone(
    mounts: Mounts, store: Path, hanging: Tiny
) -> None:
    one, other = (mounts.prepare(WIDE, store, "--app", "one").start() for _ in range(2))
    for mount in (one, other):
        call_as(ONE, warm, str(mount / "d"))
    writer = start_as(ONE, write_page, hanging.path("slow"), other / "d/f1")
    wait_for(lambda: hanging.call("is_waiting"), "the writer waits for the page")
    before = one.fuse_counters()["OPEN"]
    caller = start_as(ONE, empty, one / "d/f1")
    try:
        wait_for(lambda: one.fuse_counters()["OPEN"] > before, "the file is opened")
        assert call_as(ONE, os.stat, one / "e/f1").st_size == 2
        assert not caller.channel.poll()
    finally:
        hanging.call("let_go")
    assert writer.result() > 0
    caller.result()
    assert (store / "d/f1").read_bytes() == b""


def ask_for_pool(path: str) -> tuple[list[str], int | None]:
    warm(os.path.dirname(path))
    return os.listxattr(path), refusal(lambda: os.getxattr(path, POOL))


def test_no_app_sees_how_a_pool_is_controlled(mounts: Mounts, store: Path) -> None:
    os.setxattr(store / "d/f1", POOL, b"/")
    mount = mounts.prepare(WIDE, store, "--app", "one").start()
    assert call_as(ONE, ask_for_pool, str(mount / "d/f1")) == ([], errno.EOPNOTSUPP)
    assert said(mount)["listxattrs"] == 1
