"""F2 where a kind cannot be proven in the file itself: no leases, no passthrough, checked writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack.test_stale_kinds import (
    DENIED,
    MOUNTS,
    PHOTO,
    POLICY,
    READER,
    TEXT,
    aged,
    become_photo,
    code_of_open,
    painter,
    read,
    shelf,
    what_is_read,
)  # fmt: skip
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount

CHECKED = (
    POLICY
    + """\
  - {id: types, require: {content: [text/*, image/*]}, who: {app: reader}, paths: "/words/**"}
"""
)
LARGE = TEXT * 8


@pytest.fixture
def overlay(arena: Path) -> Iterator[Path]:
    """A store on an overlay: a lease is granted there, and a writer of the file below breaks nothing."""
    layers = {name: arena / "layers" / name for name in ("lower", "upper", "work", "merged")}
    for directory in layers.values():
        directory.mkdir(parents=True)
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**layers)
    call_as(0, os.system, f"mount -t overlay overlay -o {options} {layers['merged']}")
    yield layers["merged"]
    call_as(0, os.system, f"umount {layers['merged']}")


def last_event(mount: Mount) -> dict[str, Any]:
    return mount.events(app="reader", operation="open")[-1]


@pytest.mark.parametrize("sort", MOUNTS)
def test_where_leases_mean_nothing_a_copy_is_read(sort, overlay, mounts) -> None:
    path = shelf(overlay)
    (overlay / "words/large.txt").write_bytes(LARGE)
    mount = mounts.prepare(POLICY, overlay, "--copy-max", "64K", *MOUNTS[sort])
    mount.expected_mediated = True
    mount.start()
    assert [read(mount), read(mount)] == ["words", "words"]
    assert call_as(READER, code_of_open, mount / "words/large.txt", os.O_RDONLY) == "EACCES"
    assert "leases do not work" in last_event(mount)["note"]
    assert call_as(READER, code_of_open, mount / "words/a.txt", os.O_RDWR) == "EACCES"
    assert "policyfs cannot prove the kind for an open that also writes" in last_event(mount)["note"]
    assert call_as(READER, code_of_open, mount / "words/a.txt", os.O_WRONLY) == ""
    path.write_bytes(PHOTO)
    assert read(mount) == DENIED
    assert not mount.stop()


@pytest.mark.parametrize("sort", MOUNTS)
def test_on_an_overlay_within_the_store_a_copy_is_read(sort, overlay, arena, mounts) -> None:
    path = shelf(overlay)
    (overlay / "words/large.txt").write_bytes(LARGE)
    store = arena / "store"
    (store / "words").mkdir(parents=True)
    store.chmod(0o755)
    call_as(0, os.system, f"mount --bind {overlay / 'words'} {store / 'words'}")
    try:
        mount = mounts.prepare(POLICY, store, "--copy-max", "64K", *MOUNTS[sort])
        mount.expected_mediated = True
        mount.start()
        assert [read(mount), read(mount)] == ["words", "words"]
        assert call_as(READER, code_of_open, mount / "words/large.txt", os.O_RDONLY) == "EACCES"
        assert "leases do not work" in last_event(mount)["note"]
        assert call_as(READER, code_of_open, mount / "words/a.txt", os.O_RDWR) == "EACCES"
        path.write_bytes(PHOTO)
        assert read(mount) == DENIED
        assert not mount.stop()
    finally:
        call_as(0, os.system, f"umount {store / 'words'}")


def test_a_writer_that_came_and_went_without_a_trace_on_a_tmpfs_within_the_store(store_on, mounts_on) -> None:
    """On tmpfs a page that a mapping has read is written by it and no time changes."""
    inner, store = store_on("tmpfs"), store_on("ext4")
    path = shelf(inner)
    aged(path)
    (store / "words").mkdir()
    call_as(0, os.system, f"mount --bind {inner / 'words'} {store / 'words'}")
    try:
        mount = mounts_on.start(POLICY, store)
        assert [read(mount), read(mount)] == ["words", "words"]
        before = path.stat().st_mtime_ns, path.stat().st_ctime_ns
        with painter(path, keep=False) as paint:
            assert paint(PHOTO) == before, "the store noticed: nothing is tried here"
        assert read(mount) == DENIED
        assert not mount.stop()
    finally:
        call_as(0, os.system, f"umount {store / 'words'}")


@pytest.mark.parametrize(("policy", "options"), [(POLICY, ("--no-passthrough",)), (CHECKED, ())])
def test_without_passthrough_and_where_writes_are_checked(policy, options, store_on, mounts_on) -> None:
    store = store_on("ext4")
    path = shelf(store)
    (store / "words/large.txt").write_bytes(LARGE)
    mount = mounts_on.prepare(policy, store, "--copy-max", "64K", *options)
    mount.expected_mediated = True
    mount.start()
    assert call_as(READER, Path.read_bytes, mount / "words/large.txt") == LARGE  # under a lease
    with painter(path) as paint:
        assert become_photo(paint, path, lambda: read(mount)) == "words"
        assert read(mount) in ("words", DENIED)
    path.write_bytes(PHOTO)
    assert read(mount) == DENIED
    with (store / "words/large.txt").open("r+b"):
        assert call_as(READER, code_of_open, mount / "words/large.txt", os.O_RDONLY) == "EBUSY"
    assert what_is_read(path) == "photo"
