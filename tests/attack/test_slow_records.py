"""F2: a file that is opened for its kind, and written while the open waits to be put on record."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_recording import HANG, WAITS
from tests.attack.test_stale_kinds import PHOTO, READER, TEXT, shelf
from tests.attack.test_stale_kinds import POLICY as KINDS
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

POLICY: Final = KINDS.replace("when: {type: text/*}", "when: {type: text/*}\n    audit: required")


def _read_later(channel: Connection, path: Path) -> bytes:
    """Open the file; read it when told to. Nothing, if it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        channel.send("refused")
        return b""
    channel.send("open")
    channel.recv()
    data = os.pread(fd, len(PHOTO), 0)
    os.close(fd)
    return data


def _write(channel: Connection, path: Path) -> None:
    """Write over the file, through the store, as soon as that is let in."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, PHOTO, 0)
    os.close(fd)
    channel.send("written")


def _is_leased(path: Path, state: str) -> bool:
    number = f":{path.stat().st_ino} "
    return any(
        number in line and "LEASE" in line and state in line
        for line in Path("/proc/locks").read_text().splitlines()
    )


def read_of_what_changed(mount: Mount, path: Path, hang: Path) -> bytes:
    """What the reader has of a file of words that became a photo while its open waited for the trail."""
    assert start_as(READER, lambda _channel: (mount / "words/a.txt").read_bytes()).result() == TEXT
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "all is written")
    hang.touch()
    reader = start_as(READER, _read_later, mount / "words/a.txt")
    try:
        wait_for(lambda: Path(f"{hang}{WAITS}").exists(), "the open waits for its record")
        writer = start_as(0, _write, path)
        wait_for(lambda: not _is_leased(path, "ACTIVE"), "the lease is broken")
    finally:
        hang.unlink()
    opened = reader.receive()
    assert writer.receive(60) == "written"
    writer.result()
    if opened == "open":
        reader.send("read")
    return reader.result()


def prepared(mounts: Mounts, store: Path, hang: Path, guards: str) -> Mount:
    mount = mounts.prepare(POLICY, store)
    mount.program = ("tests.attack.weakened", guards)
    mount.environment[HANG] = str(hang)
    return mount.start()


@pytest.mark.parametrize("place", ["ext4", "tmpfs"])
def test_what_becomes_a_photo_while_the_open_is_put_on_record_is_not_read(
    mounts_on: Mounts, store_on, tmp_path: Path, place: str
) -> None:
    path = shelf(store_on(place))
    mount = prepared(mounts_on, path.parent.parent, tmp_path / "hang", "slow-trail")
    assert read_of_what_changed(mount, path, tmp_path / "hang") in {b"", TEXT}


def test_it_is_where_its_kind_is_proven_before_the_record_alone(
    mounts_on: Mounts, store_on, tmp_path: Path
) -> None:
    path = shelf(store_on("ext4"))
    guards = "slow-trail,proven-before-the-record"
    mount = prepared(mounts_on, path.parent.parent, tmp_path / "hang", guards)
    assert read_of_what_changed(mount, path, tmp_path / "hang") == PHOTO
