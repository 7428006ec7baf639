"""A redacted photo that changes while handles of older versions live: in place, by rename, by growing."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from tests.attack.test_remembered import EDITOR, GALLERY, POLICY
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.programs.changes import grow, replace, rewrite
from tests.support.samples import jpegs

VERSIONS = [
    jpegs.with_segments(jpegs.plain(seed, 64), jpegs.exif_segment(jpegs.exif(order)))
    for seed, order in ((1, "II"), (2, "MM"), (3, "II"), (4, "MM"))
]
ROOM = 700_000
"""Bytes for copies: three of the large versions at a time."""


def holder(channel, path: Path) -> None:
    """Open the photo when told to, and keep every handle and mapping; say what each shows."""
    held: list[tuple[int, mmap.mmap]] = []
    while (order := channel.recv()) != "end":
        if order == "open":
            fd = os.open(path, os.O_RDONLY)
            held.append((fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ)))
        elif order == "close":
            for fd, mapping in held:
                mapping.close()
                os.close(fd)
            held.clear()
        channel.send([(os.pread(fd, 1 << 20, 0), mapping[:], os.fstat(fd).st_size) for fd, mapping in held])


@pytest.mark.parametrize(
    ("kind", "alone"), first(2, [("ext4", False), ("xfs", True), ("ext4", True), ("xfs", False)])
)
def test_each_handle_keeps_the_version_that_it_opened(kind, alone, store_on, mounts_on) -> None:
    store = store_on(kind)
    photo = store / "a.jpg"
    photo.write_bytes(VERSIONS[0])
    photo.chmod(0o666)
    mount = mounts_on.start(POLICY, store, *(("--app", "gallery") if alone else ()))
    reader = start_as(GALLERY, holder, mount / "a.jpg")
    through = photo if alone else mount / "a.jpg"
    shown: list[bytes] = []
    for version, change in enumerate([None, rewrite, replace, grow]):
        if change is not None:
            call_as(0 if alone else EDITOR, change, through, VERSIONS[version])
        reader.send("open")
        now = reader.receive()
        assert [seen for seen, _, _ in now[:-1]] == shown, "an older handle shows something else now"
        assert all(seen == mapped and len(seen) == size for seen, mapped, size in now)
        shown.append(now[-1][0])
        assert not jpegs.leaks(shown[-1])
        assert jpegs.pixels(shown[-1]) == jpegs.pixels(VERSIONS[version])
    assert mount.status()["copies"]["pinned"] == len(VERSIONS)
    assert mount.fuse("READ") == 0, "all of them are read in passthrough"
    reader.send("close")
    reader.receive()
    wait_for(lambda: mount.status()["copies"]["count"] <= 2, "outdated copies go with their last handle")
    reader.send("end")
    reader.result()
    wait_for(lambda: mount.status()["backing_ids"] <= 2, "their registrations are given back")


def test_at_the_cap_versions_that_are_open_stay_and_the_next_one_is_read_all_the_same(
    store_on, mounts_on
) -> None:
    """More versions are held than there is room for: the newest goes as a large file does."""
    store = store_on("ext4")
    photo = store / "a.jpg"
    padded = [data + b"\0" * (200_000 - len(data)) for data in VERSIONS]
    photo.write_bytes(padded[0])
    photo.chmod(0o666)
    mount = mounts_on.start(POLICY, store, "--app", "gallery", "--copies-max", str(ROOM))
    reader = start_as(GALLERY, holder, mount / "a.jpg")
    for data in padded:
        rewrite(photo, data)
        reader.send("open")
        now = reader.receive()
        assert not jpegs.leaks(now[-1][0])
        assert len(now[-1][0]) == len(data)
    assert len({seen for seen, _, _ in now}) == len(padded)
    roads = [event["io"] for event in mount.events(operation="open", app="gallery", decision="allow")]
    assert roads == ["passthrough"] * 3 + ["mediated"]
    reader.send("end")
    reader.result()
