"""F2: a file that is opened for its kind, and written while the open waits to be put on record.

D2: a photo that is cleaned, while the record of the cleaning waits.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_recording import HANG, WAITS
from tests.attack.test_stale_kinds import PHOTO, READER, TEXT, shelf
from tests.attack.test_stale_kinds import POLICY as KINDS
from tests.attack.test_trail_worn_out import _has_ended
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

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
    """Attack F2.7: Write the file while an open, which was allowed because of the file's kind, waits for
    its record on a slow trail
    Guard: policyfs/fs/opening/preconditions.py::Preconditions.still_proven
    Without: ::test_it_is_where_its_kind_is_proven_before_the_record_alone
    """
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


SAVER, NEIGHBOUR = 10010, 10011
CLEANS: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  saver: {{uid: {SAVER}}}
  neighbour: {{uid: {NEIGHBOUR}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: clean, require: {{clean: [location]}}, paths: "/clean/**"}}
"""


def _save(channel: Connection, path: Path, data: bytes) -> None:
    """Write a photo, and close it when told to."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    channel.send("written")
    channel.recv()
    os.close(fd)


def _look(_channel: Connection, directory: Path) -> None:
    for number in range(9):
        assert not (directory / f"{number}").exists()
    assert os.listdir(directory) == ["file"]


def test_who_saves_a_photo_to_be_cleaned_waits_alone_for_the_record(
    mounts: Mounts, empty_store: Path, tmp_path: Path
) -> None:
    for name in ("clean", "other"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    (empty_store / "other/file").touch()
    hang, saved = tmp_path / "hang", empty_store / "clean/a.jpg"
    mount = mounts.prepare(CLEANS, empty_store)
    mount.program = ("tests.attack.weakened", "slow-trail")
    mount.environment[HANG] = str(hang)
    mount.start()
    saver = start_as(SAVER, _save, mount / "clean/a.jpg", jpegs.photo_with(jpegs.exif()))
    assert saver.receive() == "written"
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "all is written")
    hang.touch()
    try:
        saver.send("close")
        wait_for(lambda: Path(f"{hang}{WAITS}").exists(), "the record is to be written")
        wait_for(lambda: mount.waiting() > 0, "the close waits")
        neighbour = start_as(NEIGHBOUR, _look, mount / "other")
        goes_on = _has_ended(neighbour)
        before = saved.read_bytes()
    finally:
        hang.unlink()
    neighbour.result()
    saver.result()
    assert goes_on
    assert before == b"", "nothing is stored before it is on record"
    assert not jpegs.leaks(saved.read_bytes())
    (told,) = mount.events(app="saver", operation="write")
    assert "cleaned of location" in told["note"]
