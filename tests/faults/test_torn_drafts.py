"""Others get in the way while a file that was looked through as a whole (a draft) goes into the store."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.store import ranges
from policyfs.store.locking.latches import Latches
from tests.faults.conftest import Disk
from tests.faults.test_ended_drafts import terminate
from tests.faults.test_full_drafts import POLICY
from tests.faults.test_unmounted import abort
from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, fill
from tests.support.mount.stores import Mounts, wait_until_closed
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


def _save_and_wait(channel, path: Path, data: bytes) -> tuple[str, str]:
    """As _save(), but the file is closed only when the test says so."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(data), 1 << 20):
        os.write(fd, data[at : at + (1 << 20)])
    channel.send("written")
    said = code_of(os.fsync, fd)
    channel.send("answered")
    channel.recv()
    return said, code_of(os.close, fd)


def _lock(channel, latches: Path, file: Path) -> None:
    """Wait for the lock of the file, as another daemon. Send the file's bytes, and keep the lock."""
    with latches.open("r+b") as shared, file.open("rb") as stored:
        at = Latches.number(stored.fileno())
        fcntl.fcntl(shared, F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        channel.send(file.read_bytes())
        channel.recv()


def half_stored(
    mounts: Mounts, store: Path, data: bytes, policy: str = POLICY, *options: str,
    save: Callable[..., object] = _save,
) -> tuple[Mount, Path, Child]:  # fmt: skip
    """A mount, a file of its store with the first piece of a draft, and the app that waits for the rest."""
    share = store / "Share"
    share.mkdir()
    file = share / "a.jpg"
    file.write_bytes(OLD)
    for path in (share, file):
        os.chown(path, CAMERA, CAMERA)
    mount = mounts.prepare(policy, store, *options)
    mount.program = ("tests.attack.weakened", "pieces-take-long")
    mount.start()
    writer = start_as(CAMERA, save, mount / "Share/a.jpg", data)
    assert writer.receive() == "written"
    with file.open("rb") as stored:
        wait_for(lambda: os.pread(stored.fileno(), 1, 1 << 19) == b"\1", "the first piece is there")
        time.sleep(0.05)  # until it is all there
        assert os.pread(stored.fileno(), 1, 3 << 20) == b"\0"
    return mount, file, writer


def test_no_other_daemon_gets_between_the_pieces_of_a_draft(mounts: Mounts, empty_store: Path) -> None:
    """It takes the lock of the file as soon as it can, and keeps it for longer than a daemon waits.

    Fault programs.3: Another daemon is to change a file while a checked draft goes into it
    App: no error
    Store: the whole draft: the other daemon waits for the draft, and answers EBUSY after 5 s
    Trail: `release`
    """
    mount, file, writer = half_stored(mounts, empty_store, NEW)
    other = start_as(0, _lock, mount.runtime / "changes.lock", file)
    assert other.receive() == NEW
    assert writer.result() == ("", "")
    other.send("end")
    other.result()
    assert mount.status()["bugs"] == 0


def _kept(mount: Mount) -> list[dict[str, object]]:
    """The entries of the mount's quarantine."""
    said = policyfs("quarantine", "list", "--json", "--trail", mount.trail)
    return [json.loads(line) for line in said.stdout.splitlines()]


@pytest.mark.parametrize(("policy", "data"), [(POLICY, NEW), (CLEANING, PLACED)], ids=["checked", "cleaned"])
def test_a_draft_is_kept_where_another_program_writes_its_file_meanwhile(
    mounts: Mounts, empty_store: Path, policy: str, data: bytes
) -> None:
    """Neither the old bytes nor the new ones are in the file then, whoever goes first.

    Fault programs.4: A checked draft of more than 1 MiB goes into a file. Meanwhile the disk fails, or
    another program changes the length or bytes that the draft has already replaced; or it appends while
    the file gets the draft's blocks
    App: EBUSY, or the disk's error, from fsync and close
    Store: a part of the draft, and the other program's bytes. After the last close the draft is in the
    [quarantine](operations.md#refused-files), as written, even if the policy refuses it by then or the
    mount ends first; without room there (`--quarantine-max`) it is dropped
    Trail: `quarantine`, with the number of the draft; `deny` if it is dropped
    Also: ::test_such_a_draft_is_kept_though_the_policy_refuses_it_by_then,
    ::test_such_a_draft_outlives_the_mount, ::test_such_a_draft_has_no_more_room_than_a_refused_one
    """
    mount, file, writer = half_stored(mounts, empty_store, data, policy)
    with file.open("r+b") as stored:
        stored.seek(1000)
        stored.write(b"another program's")
    assert writer.receive() == "answered"
    assert writer.result() == ("EBUSY", "EBUSY")
    wait_for(lambda: mount.events(operation="quarantine"), "the draft is on record")
    [event] = mount.events(operation="quarantine")
    [kept] = _kept(mount)
    assert (kept["path"], kept["size"], kept["app"]) == ("/Share/a.jpg", len(data), "camera")
    assert kept["sha256"] == hashlib.sha256(data).hexdigest()
    assert event["decision"] == "allow"
    assert "only a part" in event["note"]
    assert ("not cleaned" in event["note"]) == (policy is CLEANING)
    assert mount.status()["bugs"] == 0


def test_the_rest_of_a_draft_overwrites_what_another_program_writes_there_meanwhile(
    mounts: Mounts, empty_store: Path
) -> None:
    """As natively, where a program that writes a whole file is the last one. So nothing is torn.

    Fault programs.6: The same, but the other program writes only bytes that the draft has not replaced
    yet, or within the same tick (4 ms) as the daemon
    App: no error
    Store: all bytes that apps have written into the draft, over the other program's; elsewhere its bytes
    stay. Bytes of such a tick, or after the last piece, may stay
    Trail: `release`
    """
    mount, file, writer = half_stored(mounts, empty_store, NEW)
    with file.open("r+b") as stored:
        stored.seek(5 << 19)
        stored.write(b"another program's")
    assert writer.result() == ("", "")
    assert file.read_bytes() == NEW
    assert _kept(mount) == []
    assert mount.events(operation="quarantine") == []
    assert mount.status()["bugs"] == 0


def torn(mounts: Mounts, store: Path, *options: str) -> tuple[Mount, Path, Child]:
    """half_stored(), and another program has written the file: fsync() said EBUSY, and the file is open."""
    mount, file, writer = half_stored(mounts, store, NEW, POLICY, *options, save=_save_and_wait)
    with file.open("r+b") as stored:
        stored.seek(1000)
        stored.write(b"another program's")
    assert writer.receive() == "answered"
    return mount, file, writer


def test_such_a_draft_is_kept_though_the_policy_refuses_it_by_then(mounts: Mounts, empty_store: Path) -> None:
    """FLUSH, before the last release, judges it by the new policy."""
    mount, file, writer = torn(mounts, empty_store)
    png = '  - {id: png, require: {content: [image/png]}, paths: "/Share/**"}\n'
    mount.policy.write_text(POLICY + png)
    assert mount.reload().returncode == 0
    writer.send("close")
    assert writer.result() == ("EBUSY", "EPERM")
    [event] = wait_for(lambda: mount.events(operation="quarantine"), "the draft is on record")
    [kept] = _kept(mount)
    assert kept["sha256"] == hashlib.sha256(NEW).hexdigest()
    assert kept["rules"] == ["png", "share"]
    assert "only a part" in event["note"]
    assert "image/png" in event["note"]
    assert file.read_bytes() not in {OLD, NEW}


@pytest.mark.parametrize("end", [terminate, abort])
def test_such_a_draft_outlives_the_mount(mounts: Mounts, empty_store: Path, end) -> None:
    mount, _, writer = torn(mounts, empty_store)
    mount.expected_exit = 1 if end is abort else 0
    end(mount)
    assert mount.process is not None
    assert mount.process.wait(30) == mount.expected_exit
    writer.send("close")
    writer.result()
    [kept] = _kept(mount)
    assert kept["sha256"] == hashlib.sha256(NEW).hexdigest()


def test_such_a_draft_has_no_more_room_than_a_refused_one(mounts: Mounts, empty_store: Path) -> None:
    """Else two apps that work together could fill the disk of the trail. The loss is on record."""
    mount, _, writer = torn(mounts, empty_store, "--quarantine-max", "1M")
    writer.send("close")
    assert writer.result() == ("EBUSY", "EBUSY")
    [event] = wait_for(lambda: mount.events(operation="quarantine"), "the loss is on record")
    assert (event["decision"], event["errno"]) == ("deny", "ENOSPC")
    assert event["note"].startswith("the refused file is lost: the quarantine is full")
    assert _kept(mount) == []


BLOCKS: Final = 6000


def _save_in_steps(channel, path: Path, data: bytes) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    channel.send("open")
    channel.recv()
    for at in range(0, len(data), 1 << 20):
        os.write(fd, data[at : at + (1 << 20)])
    channel.send("written")
    channel.recv()
    return code_of(os.close, fd)


LONG: Final = NEW + b"\1" * (40 << 20)
APPENDED: Final = b"another program's"


def _unreserved(on_disk: Disk, without: str = "") -> tuple[Mount, Path, Child]:
    """A mount of a store that cannot reserve space, a file of it with OLD bytes, and the app that stores LONG
    ones."""
    mount, root = on_disk("ext4", "-b", "1024", "-O", "^extents,^64bit", policy=POLICY, without=without)
    share = root / "store/Share"
    share.mkdir()
    file = share / "a.jpg"
    file.write_bytes(OLD)
    for path in (share, file):
        os.chown(path, CAMERA, CAMERA)
    writer = start_as(CAMERA, _save, mount / "Share/a.jpg", LONG)
    assert writer.receive() == "written"
    return mount, file, writer


def _append_to(file: Path, writer: Child, until: float) -> object:
    """Append once the draft's first bytes are there; the app's answers."""
    with file.open("ab", buffering=0) as stored:
        while os.fstat(stored.fileno()).st_size <= len(OLD):  # no pause: the time is short
            assert time.monotonic() < until
        stored.write(APPENDED)
    assert writer.receive() == "answered"
    return writer.result()


@pytest.mark.parametrize("without", ["", "pieces-take-long"])
def test_what_another_program_appends_meanwhile_stays_where_no_room_is_reserved(
    on_disk: Disk, without: str
) -> None:
    """Bytes behind the file's old end go first, and behind all that others append. No old byte is gone. If
    the daemon is done before the other program, it is tried again.

    Fault programs.5: The same, where the store cannot reserve room, and the other program appends before
    all bytes behind the old end are stored
    App: EBUSY from fsync and close
    Store: all old bytes, and behind them a part of the draft and the other program's bytes. The draft is
    in the quarantine, as above
    Trail: as above
    """
    mount, file, writer = _unreserved(on_disk, without)
    until = time.monotonic() + 30
    while (said := _append_to(file, writer, until)) == ("", ""):
        assert file.read_bytes() == LONG + APPENDED
        file.write_bytes(OLD)
        writer = start_as(CAMERA, _save, mount / "Share/a.jpg", LONG)
        assert writer.receive() == "written"
    assert said == ("EBUSY", "EBUSY")
    wait_for(lambda: mount.events(operation="quarantine"), "the draft is on record")
    [kept] = _kept(mount)
    assert kept["sha256"] == hashlib.sha256(LONG).hexdigest()
    data = file.read_bytes()
    assert data.startswith(OLD)
    assert APPENDED in data


def test_a_daemon_killed_while_it_takes_room_leaves_all_old_bytes(on_disk: Disk) -> None:
    mount, file, writer = _unreserved(on_disk, "pieces-take-long")
    wait_for(lambda: file.stat().st_size > len(OLD), "the first piece is there")
    assert mount.process is not None
    os.kill(mount.pid, signal.SIGKILL)
    mount.expected_exit = -signal.SIGKILL
    assert mount.process.wait(20) == mount.expected_exit
    with mount.as_environment():
        assert policyfs("umount", mount.mountpoint).returncode == 0
    writer.result()
    mount.control_socket.unlink(missing_ok=True)
    data = file.read_bytes()
    assert data.startswith(OLD)
    assert data[len(OLD) :] == LONG[len(OLD) : len(data)]


def test_a_draft_is_kept_whose_blocks_a_full_disk_takes_in_part(on_disk: Disk) -> None:
    """The draft has many extents, and a backup shares the old blocks. So xfs needs room for metadata when it
    gives the file the draft's blocks, and stops half-way. The draft needs no room of its own then.

    Fault store.7: The same, where files share blocks, and no room is left for the metadata of a draft
    with thousands of extents
    App: ENOSPC from close and fsync
    Store: new bytes at the beginning, old bytes behind them. After the last close the draft is in the
    [quarantine](operations.md#refused-files), as written; or in the store, if there is room by then
    Trail: `release`, and `quarantine` with its number; `deny` if it is dropped
    """
    mount, root = on_disk("xfs", policy=POLICY)
    share = root / "store/Share"
    share.mkdir()
    file = share / "a.jpg"
    head = jpegs.plain(3, 64)
    old, new = (head + byte * (BLOCKS * 4096 - len(head)) for byte in (b"\1", b"\2"))
    file.write_bytes(old)
    for path in (share, file):
        os.chown(path, CAMERA, CAMERA)
    subprocess.run(["cp", "--reflink=always", file, root / "backup"], check=True, timeout=30)
    writer = start_as(CAMERA, _save_in_steps, mount / "Share/a.jpg", new)
    assert writer.receive() == "open"
    ballast = fill(root)
    with ballast.open("r+b") as room:
        os.ftruncate(room.fileno(), ballast.stat().st_size - (2 << 20))
        os.sync()
        for at in range(BLOCKS):
            ranges.allocate(room.fileno(), ranges.PUNCH_HOLE | ranges.KEEP_SIZE, at * 8192, 4096)
    os.sync()
    writer.send("write")
    assert writer.receive() == "written"
    os.sync()
    fill(root)
    os.sync()
    writer.send("close")
    assert writer.result() == "ENOSPC"
    wait_until_closed(mount)
    if file.read_bytes() != old:  # it depends on the kernel how far it gets
        wait_for(lambda: mount.events(operation="quarantine"), "the draft is on record")
        assert [entry["sha256"] for entry in _kept(mount)] == [hashlib.sha256(new).hexdigest()]
    assert (root / "backup").read_bytes() == old
    assert mount.status()["bugs"] == 0
