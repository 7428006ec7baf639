"""Times of a file that a program changes through a mapping, of which neither kernel nor daemon is told."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from tests.mount.test_moved_elsewhere import APP, POLICY
from tests.support.machine.processes import start_as
from tests.support.mount.stores import Mounts

ALIKE = """\
apiVersion: policyfs/v1
kind: Policy
apps: {}
rules: [{id: all, allow: [all], paths: "/***"}]
"""
WAYS = {
    "shared": (POLICY,), "app": (POLICY, "--app", "one"), "all alike": (ALIKE,),
    "posix": (ALIKE, "--posix"), "mediated": (POLICY, "--app", "one", "--no-passthrough"),
}  # fmt: skip


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ctime_ns


def _maps(channel, path: Path, other: Path) -> list[tuple[str, bool]]:
    """Change a mapped file again and again, and tell which answers are those of the store."""
    found = []
    os.stat(path), os.stat(other)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as page:
        for step in range(3):
            page[step] = step
            page.flush()
            os.fsync(file.fileno())
            channel.send("changed")
            now = channel.recv()
            asked = {"fstat": os.fstat(file.fileno()), "stat": os.stat(path), "other name": os.stat(other)}
            found += [(f"{how} {step}", _times(status) == now) for how, status in asked.items()]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_times_of_an_open_mapped_file_are_those_of_the_store(
    mounts: Mounts, empty_store: Path, way: str
) -> None:
    (empty_store / "Other").mkdir(mode=0o777)
    path, other = empty_store / "f", empty_store / "Other/link"
    path.write_bytes(b"x" * 4096)
    path.chmod(0o666)
    os.utime(path, (1e9, 1e9))
    os.link(path, other)
    for directory in (empty_store, empty_store / "Other"):
        directory.chmod(0o755)
    policy, *options = WAYS[way]
    mount = mounts.start(policy, empty_store, *options)
    child = start_as(APP, _maps, mount / "f", mount / "Other/link")
    for _ in range(3):
        assert child.receive() == "changed"
        child.send(_times(os.stat(path)))
    found = child.result()
    assert [how for how, is_right in found if not is_right] == []


def _grows(channel, path: Path) -> list[str]:
    """Make a file, and make it longer in each way. Return the ways after which an answer was an old one."""
    old = []
    for way in ("write", "truncate", "fallocate", "copy"):
        with path.open("xb+", buffering=0) as file, open("/etc/passwd", "rb") as passwd:
            os.fstat(file.fileno())
            if way == "write":
                file.write(b"x" * 4096)
            elif way == "truncate":
                file.truncate(4096)
            elif way == "fallocate":
                os.posix_fallocate(file.fileno(), 0, 4096)
            else:
                os.sendfile(file.fileno(), passwd.fileno(), 0, 4096)
            with mmap.mmap(file.fileno(), 0) as page:  # first: after mmap(2) the kernel asks for the times
                for step in range(3):
                    channel.send("changed")
                    shown, now = os.fstat(file.fileno()), channel.recv()
                    if (shown.st_size, *_times(shown)) != now:
                        old.append(f"{way} {step}")
                    time.sleep(0.02)  # times of two changes must differ, also on a store with coarse ones
                    page[step] = 64
                    page.flush()
                    os.fsync(file.fileno())
        path.unlink()
    return old


@pytest.mark.parametrize("way", WAYS)
def test_a_new_file_shows_what_made_it_longer(mounts: Mounts, empty_store: Path, way: str) -> None:
    """The kernel may keep the attributes of an empty file: nothing changes it unseen."""
    empty_store.chmod(0o777)
    policy, *options = WAYS[way]
    mount = mounts.start(policy, empty_store, *options)
    child = start_as(APP, _grows, mount / "new")
    for _ in range(4 * 3):
        assert child.receive() == "changed"
        status = os.stat(empty_store / "new")
        child.send((status.st_size, *_times(status)))
    assert child.result() == []
