"""Others get in the way while a file that was looked through as a whole (a draft) goes into the store."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import time
from pathlib import Path
from typing import Final

import pytest

from policyfs.store.latches import Latches
from tests.faults.test_full_drafts import POLICY
from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

OLD: Final = jpegs.plain(3, 64) + bytes(3 << 20)
NEW: Final = jpegs.plain(4, 64) + b"\1" * (3 << 20)
PLACED: Final = jpegs.photo_with(jpegs.exif()) + b"\1" * (3 << 20)
CLEANING: Final = POLICY.replace("{no: [location]}", "{clean: [location]}")
F_OFD_SETLKW: Final = 38


def _save(channel, path: Path, data: bytes) -> tuple[str, str]:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(data), 1 << 20):
        os.write(fd, data[at : at + (1 << 20)])
    channel.send("written")
    said = code_of(os.fsync, fd), code_of(os.close, fd)
    channel.send("answered")
    return said


def _lock(channel, latches: Path, file: Path) -> None:
    """Wait for the lock of the file, as another daemon. Send the file's bytes, and keep the lock."""
    with latches.open("r+b") as shared, file.open("rb") as stored:
        at = Latches.number(stored.fileno())
        fcntl.fcntl(shared, F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        channel.send(file.read_bytes())
        channel.recv()


def half_stored(mounts: Mounts, store: Path, data: bytes, policy: str = POLICY) -> tuple[Mount, Path, Child]:
    """A mount, a file of its store with the first piece of a draft, and the app that waits for the rest."""
    share = store / "Share"
    share.mkdir()
    file = share / "a.jpg"
    file.write_bytes(OLD)
    for path in (share, file):
        os.chown(path, CAMERA, CAMERA)
    mount = mounts.prepare(policy, store)
    mount.program = ("tests.attack.weakened", "pieces-take-long")
    mount.start()
    writer = start_as(CAMERA, _save, mount / "Share/a.jpg", data)
    assert writer.receive() == "written"
    with file.open("rb") as stored:
        wait_for(lambda: os.pread(stored.fileno(), 1, 1 << 19) == b"\1", "the first piece is there")
        time.sleep(0.05)  # until it is all there
        assert os.pread(stored.fileno(), 1, 3 << 20) == b"\0"
    return mount, file, writer


def test_no_other_daemon_gets_between_the_pieces_of_a_draft(mounts: Mounts, empty_store: Path) -> None:
    """It takes the lock of the file as soon as it can, and keeps it for longer than a daemon waits."""
    mount, file, writer = half_stored(mounts, empty_store, NEW)
    other = start_as(0, _lock, mount.runtime / "changes.lock", file)
    assert other.receive() == NEW
    assert writer.result() == ("", "")
    other.send("end")
    other.result()
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize(("policy", "data"), [(POLICY, NEW), (CLEANING, PLACED)], ids=["checked", "cleaned"])
def test_a_draft_is_kept_where_another_program_writes_its_file_meanwhile(
    mounts: Mounts, empty_store: Path, policy: str, data: bytes
) -> None:
    """Neither the old bytes nor the new ones are in the file then, whoever goes first."""
    mount, file, writer = half_stored(mounts, empty_store, data, policy)
    with file.open("r+b") as stored:
        stored.seek(1000)
        stored.write(b"another program's")
    assert writer.receive() == "answered"
    assert writer.result() == ("EBUSY", "EBUSY")
    wait_for(lambda: mount.events(operation="quarantine"), "the draft is on record")
    [event] = mount.events(operation="quarantine")
    said = policyfs("quarantine", "list", "--json", "--trail", mount.trail)
    [kept] = [json.loads(line) for line in said.stdout.splitlines()]
    assert (kept["path"], kept["size"], kept["app"]) == ("/Share/a.jpg", len(data), "camera")
    assert kept["sha256"] == hashlib.sha256(data).hexdigest()
    assert event["decision"] == "allow"
    assert "only a part" in event["note"]
    assert ("not cleaned" in event["note"]) == (policy is CLEANING)
    assert mount.status()["bugs"] == 0
