"""Drafts that the store has, while their writers keep the file open, and others change the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux.libc import utimens_fd
from tests.support.machine.processes import Child, call_as, code_of, start_as
from tests.support.mount.stores import Mounts, wait_until_heard
from tests.support.samples import jpegs

ONE, TWO = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: outdated drafts}}
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
"""
SORTS: Final = "raw_types: [text/plain]"
NO: Final = HEAD + f'  - {{id: no, require: {{no: [location]}}, paths: "/**", {SORTS}}}\n'
NO_FOR_ONE: Final = NO.replace("no: [location]},", "no: [location]}, who: {app: one},")
CLEAN: Final = NO.replace("{no:", "{clean:")
PLACED: Final = jpegs.photo_with(jpegs.exif())
OLD, NEW, EDITED = (jpegs.plain(seed, 64 * seed) for seed in (1, 2, 3))


@pytest.fixture
def share(empty_store: Path) -> Path:
    """A store with a log and a photo that every uid may write."""
    empty_store.chmod(0o755)
    for name, data in (("log", b"first\n"), ("a.jpg", OLD)):
        (empty_store / name).write_bytes(data)
        (empty_store / name).chmod(0o666)
    return empty_store


def _serve(channel, path: Path, flags: int) -> None:
    """Keep a file open, and make each call that comes on its descriptor; None ends it."""
    fd = os.open(path, os.O_RDWR | flags)
    channel.send("open")
    while (asked := channel.recv()) is not None:
        call, *arguments = asked
        try:
            channel.send(call(fd, *arguments))
        except OSError as error:
            channel.send(error.strerror)
    channel.send(code_of(os.close, fd))


@pytest.fixture
def keeping() -> Callable[..., Child]:
    """`keeping(uid, path, flags)`: a process that has the file open."""

    def begin(uid: int, path: Path, flags: int = 0) -> Child:
        child = start_as(uid, _serve, path, flags)
        assert child.receive() == "open"
        return child

    return begin


def _do(child: Child, *call: object):
    child.send(call)
    return child.receive()


def _end(child: Child) -> str:
    child.send(None)
    said = child.receive()
    child.result()
    return said


@pytest.mark.parametrize(
    ("policy", "count"),
    [(NO_FOR_ONE, 1), (NO, 2), (CLEAN, 1)],
    ids=["a view without drafts", "two mounts", "a draft for each app"],
)
def test_two_apps_add_lines_to_a_log_by_turns(
    mounts: Mounts, share: Path, keeping: Callable[..., Child], policy: str, count: int
) -> None:
    made = [mounts.start(policy, share) for _ in range(count)]
    writers = [keeping(ONE, made[0] / "log", os.O_APPEND), keeping(TWO, made[-1] / "log", os.O_APPEND)]
    lines = [b"first\n"]
    for number in range(6):
        lines.append(b"line %d of %d\n" % (number, number % 2))
        writer = writers[number % 2]
        assert _do(writer, os.write, lines[-1]) == len(lines[-1])
        assert _do(writer, os.fsync) is None
        assert (share / "log").read_bytes() == b"".join(lines)
    assert [_end(writer) for writer in writers] == ["", ""]
    assert (share / "log").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("policy", [NO, CLEAN], ids=["no", "clean"])
@pytest.mark.parametrize("photo", [EDITED, PLACED], ids=["without a place", "with a place"])
def test_who_keeps_a_stored_file_open_keeps_no_old_bytes_of_it(
    mounts: Mounts, share: Path, keeping: Callable[..., Child], policy: str, photo: bytes
) -> None:
    """Neither for itself nor for others; and it can change the file again."""
    mount = mounts.start(policy, share)
    keeper = keeping(ONE, mount / "a.jpg")
    assert _do(keeper, os.pwrite, NEW, 0) == len(NEW)
    assert _do(keeper, os.fsync) is None
    assert (share / "a.jpg").read_bytes() == NEW
    (share / "a.jpg").write_bytes(EDITED)
    wait_until_heard(mount)
    assert call_as(TWO, (mount / "a.jpg").read_bytes) == EDITED
    assert _do(keeper, os.pread, 1 << 20, 0) == EDITED
    assert _do(keeper, os.ftruncate, 0) is None
    assert _do(keeper, os.pwrite, photo, 0) == len(photo)
    refused = photo == PLACED and policy == NO
    assert _do(keeper, os.fsync) == ("Operation not permitted" if refused else None)
    assert _end(keeper) == ("EPERM" if refused else "")
    stored = (share / "a.jpg").read_bytes()
    assert stored == EDITED if refused or photo == EDITED else not jpegs.leaks(stored)
    assert mount.status()["bugs"] == 0


def test_who_sets_the_access_time_alone_keeps_the_time_of_its_write(
    mounts: Mounts, share: Path, keeping: Callable[..., Child]
) -> None:
    """As Samba does. With the old time, a backup by size and time would miss the new bytes."""
    os.utime(share / "a.jpg", (5, 5))
    mount = mounts.start(NO, share)
    keeper = keeping(ONE, mount / "a.jpg")
    assert _do(keeper, os.pwrite, NEW, 0) == len(NEW)
    assert _do(keeper, utimens_fd, 7 * 10**9, None) is None
    assert _end(keeper) == ""
    status = (share / "a.jpg").stat()
    assert status.st_atime == 7
    assert status.st_mtime > 10**9
