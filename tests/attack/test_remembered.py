"""Plans that outlive the daemon: used again where nobody can have written, and nowhere else."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from policyfs.content.cache import RACY_NS
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

EDITOR, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: remembered}}
apps:
  editor: {{uid: {EDITOR}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: editor, allow: [all], who: {{app: editor}}, paths: "/**"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/**"
"""
PLACE, NONE = b"47.804531, 13.042287", b"a quince on a table."
HARMLESS = jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, NONE))
AT = HARMLESS.index(NONE)


def plans_asked_for(mount: Mount) -> int:
    """How often a worker was asked anything."""
    return mount.status()["sniffer"]["requests"]


def aged(*paths: Path) -> None:
    """Waits until the files are too old to change once more within one tick of the clock."""
    newest = max(path.stat().st_ctime_ns for path in paths)
    wait_for(lambda: time.time_ns() - newest > 2 * RACY_NS, "the clock to go on")


def test_after_a_restart_nothing_is_looked_into_again(mounts_on, store_on) -> None:
    store = store_on("ext4")
    photos = [store / f"{number}.jpg" for number in range(40)]
    for photo in photos:
        photo.write_bytes(jpegs.photo_with(jpegs.exif()) + bytes(8))
    aged(*photos)
    seen = []
    for asked in (len(photos), 0):
        mount = mounts_on.start(POLICY, store)
        seen.append([call_as(GALLERY, (mount.mountpoint / photo.name).read_bytes) for photo in photos])
        assert plans_asked_for(mount) == asked
        assert mount.status()["remembered"]["begun_anew"] == 0
        mount.stop()
    assert seen[0] == seen[1]
    assert not any(jpegs.leaks(data) for data in seen[0])


def _scribbler(channel, path: Path) -> None:
    """Keeps a shared writable mapping, and writes the comment that it is told."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as memory:
        os.close(fd)
        while (comment := channel.recv()) != "end":
            memory[AT : AT + len(comment)] = comment
            channel.send(os.stat(path).st_ctime_ns)


@pytest.mark.parametrize(
    ("guard", "leaks"),
    [pytest.param("", False, id="guarded"), pytest.param("stat-is-proof", True, id="weakened")],
)
def test_a_writer_that_leaves_no_trace_in_stat(guard: str, leaks: bool, mounts_on, without, store_on) -> None:
    """A page that is dirty already is written through a mapping, and neither time nor size changes.

    Attack A3.6: Write through a mapping that leaves size and times as they are, so that the result for
    the old bytes is used for the new bytes
    Guard: policyfs/fs/redacted/plans.py::PlanFinder.locate
    """
    store = store_on("ext4")
    store.chmod(0o777)  # the writer is at the store itself
    photo = store / "a.jpg"
    photo.write_bytes(HARMLESS)
    photo.chmod(0o666)
    writer = start_as(EDITOR, _scribbler, photo)
    writer.send(NONE)
    before = writer.receive()
    aged(photo)
    for comment in (NONE, PLACE):
        writer.send(comment)
        assert writer.receive() == before, "the store noticed: nothing is tried here"
        mount = without(guard, POLICY, store) if guard else mounts_on.start(POLICY, store)
        read = call_as(GALLERY, (mount.mountpoint / "a.jpg").read_bytes)
        mount.stop()
    writer.send("end")
    writer.result()
    assert (PLACE in read) is leaks


def _visitor(path: Path, comment: bytes) -> int:
    """Comes, reads a page through a mapping, writes it, and goes; the file's time then."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as memory:
        assert memory[AT : AT + len(NONE)]
        memory[AT : AT + len(comment)] = comment
    os.close(fd)
    return os.stat(path).st_ctime_ns


@pytest.mark.parametrize(
    ("guard", "leaks"),
    [pytest.param("", False, id="guarded"), pytest.param("times-always-tell", True, id="weakened")],
)
def test_a_writer_that_has_gone_without_a_trace(guard, leaks, mounts_on, without, store_on) -> None:
    """On tmpfs a page that a mapping has read is written without a new time, and a lease is granted after."""
    store = store_on("tmpfs")
    store.chmod(0o777)
    photo = store / "a.jpg"
    photo.write_bytes(HARMLESS)
    photo.chmod(0o666)
    before = photo.stat().st_ctime_ns
    aged(photo)
    for comment in (NONE, PLACE):
        assert call_as(EDITOR, _visitor, photo, comment) == before, "the store noticed: nothing is tried here"
        mount = without(guard, POLICY, store) if guard else mounts_on.start(POLICY, store)
        read = call_as(GALLERY, (mount.mountpoint / "a.jpg").read_bytes)
        mount.stop()
    assert (PLACE in read) is leaks
