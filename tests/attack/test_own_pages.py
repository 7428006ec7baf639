"""An app writes one file of a mount from a mapping of another. The kernel has the lock of the first file
while it waits for a page of the second, which the daemon reads. So the daemon must not wait for that lock."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, PHOTO

PAGES = 2048
LOOKS = 8
ANSWER_S = 10.0
HANGS_S = 3.0


def furnished(store: Path) -> Path:
    """The store, with a large file whose pages the daemon reads: its writes are checked."""
    faulty.furnish(store)
    large = store / "Checked/large.jpg"
    large.write_bytes(PHOTO)
    os.truncate(large, PAGES * 4096)
    os.chown(large, CAMERA, CAMERA)
    return store


def _write_from(channel: Connection, source: Path, target: Path) -> int:
    """Write pages of *source* to *target* until told to stop. The daemon reads each when it is written."""
    fd, done = os.open(target, os.O_WRONLY), 0
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        memory.madvise(mmap.MADV_RANDOM)
        channel.send("begun")
        with memoryview(memory) as pages, contextlib.suppress(OSError):
            while not channel.poll():
                page = done % PAGES * 4096
                if not page:  # once more from the beginning
                    memory.madvise(mmap.MADV_DONTNEED)
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.pwrite(fd, pages[page : page + 4096], 0)
                done += 1
    with contextlib.suppress(OSError):
        os.close(fd)
    return done


def _empty(channel: Connection, target: Path) -> int:
    """Empty a file by open(2) until told to stop; how often."""
    done = 0
    with contextlib.suppress(OSError):
        while not channel.poll():
            os.close(os.open(target, os.O_WRONLY | os.O_TRUNC))
            done += 1
    return done


def _look(channel: Connection, path: Path) -> int:
    del channel
    with contextlib.suppress(OSError):
        return len(path.read_bytes())
    return -1


def _both(mount: Mount) -> tuple[Child, Child]:
    """One process that writes the file from the mapping, and one that empties it."""
    writer = start_as(CAMERA, _write_from, mount / "Checked/large.jpg", mount / "DCIM/a.jpg")
    assert writer.receive() == "begun"
    return writer, start_as(CAMERA, _empty, mount / "DCIM/a.jpg")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_who_empties_a_file_waits_alone_for_its_writer(store_on, mounts_on, kind: str) -> None:
    """Attack E5.6: Write a file with bytes from a mapping of a mediated file, and empty it: the kernel
    keeps its lock until the daemon has read the page
    Guard: policyfs/fs/opening/write_access.py::WriteAccess.empty
    Without: ::test_the_mount_hangs_where_the_loop_empties_it
    """
    mount = mounts_on.start(faulty.POLICY, furnished(store_on(kind)))
    writer, emptier = _both(mount)
    try:
        for _ in range(LOOKS):
            look = start_as(GALLERY, _look, mount / "Checked/a.jpg")
            if not look.channel.poll(ANSWER_S):
                mount.abort()  # else nobody can be killed
                pytest.fail("the mount hangs")
            assert look.result() == len(PHOTO)
    finally:
        for child in (writer, emptier):
            child.send("stop")
    assert min(child.result() for child in (writer, emptier)) > 0
    assert mount.status()["bugs"] == 0


def test_the_mount_hangs_where_the_loop_empties_it(store_on, without: Callable[..., Mount]) -> None:
    mount = without("changed-on-the-loop", faulty.POLICY, furnished(store_on("ext4")))
    mount.expected_exit = 1
    mount.expected_log.append("mount-ended")
    writer, emptier = _both(mount)
    looks: list[Child] = []
    while not looks or looks[-1].channel.poll(HANGS_S):
        assert len(looks) < 20 * LOOKS, "it does not hang"
        looks.append(start_as(GALLERY, _look, mount / "Checked/a.jpg"))
    assert not emptier.channel.poll()
    mount.abort()
    for child in (writer, emptier, *looks):
        child.result()
    process = mount.process
    assert process is not None
    wait_for(lambda: process.poll() is not None, "the daemon ends")
