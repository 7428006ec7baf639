"""A file that others change all the time, in all ways but its bytes, while a draft goes into the store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.test_drafts import CAMERA, POLICY
from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

OTHER: Final = 10011
RULES: Final = POLICY.replace("rules:\n", f"  other: {{uid: {OTHER}}}\nrules:\n") + (
    '  - {id: dates, allow: [see, read, attr], who: {app: other}, paths: "/**"}\n'
)
OLD: Final = jpegs.plain(3, 64) + bytes(2 << 20)
NEW: Final = jpegs.plain(4, 64) + b"\1" * (2 << 20)
AT_MOST_S: Final = 30.0
UNSTORED_S: Final = 3.0

Change = Callable[[Path, int], None]


def chmod(path: Path, number: int) -> None:
    path.chmod((0o664, 0o666)[number % 2])


def link(path: Path, number: int) -> None:
    name = path.with_name(f"link-{number}")
    name.hardlink_to(path)
    name.unlink()


def _change(channel: Connection, change: Change, path: Path) -> int:
    """Change the file every millisecond until told to stop. Return how often."""
    times = 0
    channel.send("begun")
    while not channel.poll(0.001):
        change(path, times)
        times += 1
    return times


@contextmanager
def restless(uid: int, change: Change, path: Path) -> Iterator[None]:
    child = start_as(uid, _change, change, path)
    try:
        child.receive()
        yield
        child.send("stop")
        assert child.result() > 0
    finally:
        child.kill()


def _save(channel: Connection, path: Path) -> tuple[str, str]:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(NEW), 1 << 20):
        os.write(fd, NEW[at : at + (1 << 20)])
    channel.send("written")
    channel.recv()
    said = code_of(os.fsync, fd), code_of(os.close, fd)
    channel.send("answered")
    return said


def share_of(mounts: Mounts, store: Path, guards: str) -> tuple[Mount, Path]:
    """A mount, and a file of the camera in its store."""
    file = store / "Share/a.jpg"
    file.parent.mkdir()
    file.parent.chmod(0o777)
    file.write_bytes(OLD)
    file.chmod(0o666)
    os.chown(file, CAMERA, CAMERA)
    mount = mounts.prepare(RULES, store)
    mount.program = ("tests.attack.weakened", guards)
    return mount.start(), file


def writer_of(mount: Mount) -> Child:
    """An app that has written the file, and stores it when told so."""
    writer = start_as(CAMERA, _save, mount / "Share/a.jpg")
    assert writer.receive() == "written"
    return writer


@pytest.mark.parametrize("change", [chmod, link])
def test_who_changes_a_file_all_the_time_keeps_no_close_waiting(
    mounts: Mounts, empty_store: Path, change: Change
) -> None:
    """The old bytes stay, and the app is told.

    Attack E5.15: Change a file all the time while another app's draft is to be stored, so that its
    close, or the mount's end, waits for ever
    Guard: policyfs/fs/checked/draft_storage.py::DraftStorage.store
    Also: ::test_nor_the_end_of_the_mount,
    tests/unit/test_fs_checked_draft_storage.py::test_changes_before_each_piece
    Without: ::test_a_close_waits_where_tries_have_no_end
    """
    mount, file = share_of(mounts, empty_store, "threads-begin-late")
    writer = writer_of(mount)
    with restless(0, change, file):
        writer.send("save")
        assert writer.channel.poll(AT_MOST_S)
        assert writer.receive() == "answered"
        assert writer.result() == ("EBUSY", "EBUSY")
        assert file.read_bytes() == OLD
    assert mount.status()["bugs"] == 0


def test_nor_the_end_of_the_mount(mounts: Mounts, empty_store: Path) -> None:
    mount, file = share_of(mounts, empty_store, "threads-begin-late")
    writer = writer_of(mount)
    with restless(0, chmod, file):
        writer.send("save")
        wait_for(lambda: mount.fuse("FSYNC") > 0, "it is being stored")
        assert mount.process is not None
        mount.process.send_signal(signal.SIGTERM)
        assert mount.process.wait(AT_MOST_S) == 0
        writer.result()
        assert file.read_bytes() == OLD


def test_a_close_waits_where_tries_have_no_end(mounts: Mounts, empty_store: Path) -> None:
    mount, file = share_of(mounts, empty_store, "threads-begin-late,tries-without-end")
    writer = writer_of(mount)
    with restless(0, chmod, file):
        writer.send("save")
        assert not writer.channel.poll(UNSTORED_S)
        assert file.read_bytes() == OLD
    assert writer.result(AT_MOST_S) == ("", "")
    assert file.read_bytes() == NEW


def touch(path: Path, number: int) -> None:
    os.utime(path, (number, number))


def half_stored(mount: Mount, file: Path, uid: int) -> str:
    """Store a draft. Once its first bytes are in the store, its times are set. What fsync() said."""
    path = mount / "Share/a.jpg" if uid else file
    writer = writer_of(mount)
    if uid:
        os.chown(file, uid, uid)  # else it may set no times
    writer.send("save")
    with file.open("rb") as stored:
        wait_for(lambda: os.pread(stored.fileno(), 4096, 0) == NEW[:4096], "the first piece is there")
        with restless(uid, touch, path):
            assert writer.receive() == "answered"
    return writer.result()[0]


@pytest.mark.parametrize("uid", [0, OTHER], ids=["in the store", "through the mount"])
def test_who_may_set_times_leaves_no_file_half_written(mounts: Mounts, empty_store: Path, uid: int) -> None:
    """Attack E5.16: Set a file's times while another app's draft is half in it, so that the rest is not
    stored
    Guard: policyfs/fs/checked/draft_storage.py::DraftStorage._put
    Without: ::test_a_file_is_half_written_where_times_stop_a_draft
    """
    mount, file = share_of(mounts, empty_store, "pieces-take-long")
    assert half_stored(mount, file, uid) == ""
    assert file.read_bytes() == NEW


def test_a_file_is_half_written_where_times_stop_a_draft(mounts: Mounts, empty_store: Path) -> None:
    mount, file = share_of(mounts, empty_store, "pieces-take-long,times-stop-a-draft")
    assert half_stored(mount, file, 0) == "EBUSY"
    assert file.read_bytes() not in {OLD, NEW}
