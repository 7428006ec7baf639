"""Unmounted in full use, or by force: the daemon ends, apps hear of it, and nothing leaks or is half."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.errors import EXIT_REFUSED
from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

GONE = {"ENOTCONN", "ECONNABORTED", "EIO", "ENODEV"}
"""What the kernel says of a connection that has ended, by the call."""


def umount(*options: str) -> Callable[[Mount], None]:
    def by(mount: Mount) -> None:
        # -f says EBUSY as long as files are open, and has ended the connection all the same.
        subprocess.run(["umount", *options, mount.mountpoint], capture_output=True, timeout=20, check=False)

    return by


def abort(mount: Mount) -> None:
    assert mount.abort()


WAYS = {"umount -f": umount("-f"), "umount -l -f": umount("-l", "-f"), "abort": abort}
HOW = {"umount -f": "aborted", "umount -l -f": "unmounted", "abort": "aborted"}


def _writes(channel, directory: Path) -> dict[str, str]:
    """Files that are open in each way when the mount goes; then what each call says."""
    raw = os.open(directory / "DCIM/raw.jpg", os.O_RDWR | os.O_CREAT)
    os.write(raw, LARGE)
    held = os.open(directory / "Checked/held.jpg", os.O_RDWR | os.O_CREAT)
    os.write(held, LARGE[:2])  # no photo yet
    known = os.open(directory / "Checked/known.jpg", os.O_RDWR | os.O_CREAT)
    os.write(known, LARGE[:100_000])
    channel.send("open")
    channel.recv()
    return {
        "write to what is passed through": error(os.pwrite, raw, b"after", 0),
        "write to a held head": error(os.pwrite, held, LARGE[2:], 2),
        "write to a checked file": error(os.pwrite, known, LARGE[100_000:], 100_000),
        "fsync": error(os.fsync, known),
        "stat": error(os.stat, directory / "DCIM"),
        "close": error(os.close, known),
    }


def _reads(channel, directory: Path) -> tuple[bytes, bytes, str]:
    fd = os.open(directory / "DCIM/a.jpg", os.O_RDONLY)
    before = os.pread(fd, 1 << 20, 0)
    channel.send("open")
    channel.recv()
    try:
        after = os.pread(fd, 1 << 20, 0)
    except OSError:
        after = b""
    return before, after, error(os.open, directory / "DCIM/a.jpg", os.O_RDONLY)


@pytest.fixture
def used(mounts: Mounts, empty_store: Path) -> Iterator[tuple[Mount, Child, Child]]:
    """A mount with files open in it, by one who writes and one who sees no places."""
    faulty.furnish(empty_store)
    mount = mounts.start(faulty.POLICY, empty_store)
    children = start_as(CAMERA, _writes, mount.mountpoint), start_as(GALLERY, _reads, mount.mountpoint)
    for child in children:
        assert child.receive() == "open"
    yield mount, *children
    for child in children:
        child.kill()


@pytest.mark.parametrize("way", WAYS)
def test_a_mount_that_is_forced_away_with_files_open(used, way: str) -> None:
    """Fault mount.4: `umount -f`, or an abort in /sys/fs/fuse/connections, with files open
    App: ENOTCONN, ECONNABORTED or EIO. Passthrough continues, and so do redacted readers with their
    copies
    Store: accepted bytes; nothing of a held head
    Trail: `close` with the cause `outside`. The daemon's exit code is 1, so that its unit mounts again
    """
    mount, writer, reader = used
    mount.expected_exit = EXIT_REFUSED  # so that systemd mounts it again
    WAYS[way](mount)
    assert mount.process.wait(20) == EXIT_REFUSED
    [end] = mount.events(type="close")
    assert (end["cause"], end["how"]) == ("outside", HOW[way])
    assert not mount.is_mounted()
    writer.send("go on")
    reader.send("go on")
    said = writer.result()
    # What is passed through is between the app and the kernel; all else has ended.
    assert said.pop("write to what is passed through") == "5"
    assert said.pop("stat") in {*GONE, "ENOENT"}
    assert set(said.pop("close").split()) <= {"None", *GONE}
    assert set(said.values()) <= GONE, said
    before, after, again = reader.result()
    assert jpegs.leaks(before) == jpegs.leaks(after) == []
    assert (len(before), after in {before, b""}) == (len(PHOTO), True)
    assert again in {*GONE, "ENOENT"}
    assert (mount.store / "DCIM/raw.jpg").read_bytes() == b"after" + LARGE[5:]
    assert (mount.store / "Checked/known.jpg").read_bytes() == LARGE[:100_000]
    held = mount.store / "Checked/held.jpg"
    assert not held.exists() or held.read_bytes() == b""
    mount.expected_exit = 0
    mount.start()
    assert mount.status()["bugs"] == 0


def test_an_unmount_in_full_use_is_refused_and_says_who_uses_it(used) -> None:
    """Fault mount.1: `policyfs umount` while many processes use the mount
    App: no error. `policyfs umount` reports EBUSY and lists these processes, and the mount continues
    Store: accepted bytes
    Trail: nothing
    """
    mount, writer, reader = used
    with mount.as_environment():
        said = policyfs("umount", mount.mountpoint)
        assert said.returncode == 1
        assert str(writer.pid) in said.stderr
        assert mount.is_mounted()
        writer.send("go on")
        done = writer.result()
        assert done.pop("write to a held head") == str(len(LARGE) - 2)
        assert not set(done.values()) & GONE
        reader.send("go on")
        reader.result()
        wait_for(lambda: policyfs("umount", mount.mountpoint).returncode == 0, "now it goes", 20)
    assert mount.process.wait(20) == 0
    assert (mount.store / "Checked/held.jpg").read_bytes() == LARGE
    assert (mount.store / "Checked/known.jpg").read_bytes() == LARGE


def test_a_lazy_unmount_lets_open_files_finish(used) -> None:
    """Fault mount.3: `umount -l`
    App: Shared mount, `--any-uid`, several groups: open files work until the last close, then the daemon
    ends. Other app mounts: open files fail at once ([decision
    31](decisions/0031-mounts-that-are-taken-away.md)). New paths get ENOENT
    Store: accepted bytes; held heads as at any close
    Trail: `detached` when the mount leaves the tree, and `close` at its end, both with the cause
    `outside`
    """
    mount, writer, reader = used
    umount("-l")(mount)
    assert not mount.is_mounted()
    wait_for(lambda: mount.events(type="detached"), "it is on record that the mount has gone")
    writer.send("go on")
    done = writer.result()
    assert done.pop("stat") == "ENOENT"
    assert not set(done.values()) & GONE
    reader.send("go on")
    before, after, _ = reader.result()
    assert jpegs.leaks(before + after) == []
    mount.expected_exit = EXIT_REFUSED
    assert mount.process.wait(20) == EXIT_REFUSED
    assert (mount.store / "Checked/held.jpg").read_bytes() == LARGE
    assert (mount.store / "Checked/known.jpg").read_bytes() == LARGE
