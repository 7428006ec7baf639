"""A photo with its place, into a folder where none may be: in every way that writing knows."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import wait_until_closed
from tests.support.samples import jpegs

CAMERA = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
"""
PLACED = jpegs.photo_with(jpegs.exif())
CLEAN = jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, bytes(len(jpegs.exif()))))
FLAGS = os.O_RDWR | os.O_CREAT


def at_once(path: Path) -> None:
    path.write_bytes(PLACED)


def byte_by_byte_backwards(path: Path) -> None:
    fd = os.open(path, FLAGS, 0o644)
    for at in range(len(PLACED) - 1, -1, -97):
        first = max(0, at - 96)
        os.pwrite(fd, PLACED[first : at + 1], first)
    os.close(fd)


def clean_first(path: Path) -> None:
    fd = os.open(path, FLAGS, 0o644)
    os.write(fd, CLEAN)
    os.fsync(fd)
    os.ftruncate(fd, 0)
    os.pwrite(fd, PLACED, 0)
    os.close(fd)


def by_two_handles(path: Path) -> None:
    one, two = os.open(path, FLAGS, 0o644), os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(one, PLACED[:700])
    os.write(two, PLACED[700:])
    os.close(one)
    os.close(two)


def by_mapping(path: Path) -> None:
    path.write_bytes(CLEAN)
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, len(PLACED))
    with mmap.mmap(fd, 0) as memory:
        memory[:] = PLACED
    os.close(fd)


def moved_in(path: Path) -> None:
    outside = path.parent.parent / "Outside" / path.name
    outside.write_bytes(PLACED)
    os.rename(outside, path)


def moved_in_with_a_descriptor_kept(path: Path) -> None:
    outside = path.parent.parent / "Outside" / path.name
    outside.write_bytes(CLEAN)
    fd = os.open(outside, os.O_RDWR)
    try:
        os.rename(outside, path)
        os.pwrite(fd, PLACED, 0)
    finally:
        os.close(fd)


def copied_by_the_kernel(path: Path) -> None:
    outside = path.parent.parent / "Outside" / path.name
    outside.write_bytes(PLACED)
    source, target = os.open(outside, os.O_RDONLY), os.open(path, FLAGS, 0o644)
    try:
        os.copy_file_range(source, target, len(PLACED))
    finally:
        os.close(target)
        os.close(source)


WAYS = [
    at_once, byte_by_byte_backwards, clean_first, by_two_handles, by_mapping, moved_in,
    moved_in_with_a_descriptor_kept, copied_by_the_kernel,
]  # fmt: skip


def tried(way: Callable[[Path], None], path: Path) -> str:
    try:
        way(path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def shares(store: Path, mount: Mount) -> tuple[Path, Path]:
    for name in ("Share", "Outside"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
    return store / "Share", mount.mountpoint / "Share"


def leaked(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if jpegs.leaks(path.read_bytes())]


@pytest.mark.parametrize("alone", [False, True], ids=["shared", "app mount"])
def test_no_way_in_for_a_place(alone: bool, mounts_on, store_on) -> None:
    """Attack C1.8: Put forbidden data into a folder that requires its absence: in any order, by mappings,
    moved in, without a name
    Guard: policyfs/fs/checked/drafts.py::Drafts.settle,
    policyfs/fs/namespace/rename.py::Renamer._settled
    Without: ::test_they_are_ways_in_where_nobody_looks
    """
    store = store_on("ext4")
    mount = mounts_on.start(POLICY, store, *(("--app", "camera") if alone else ()))
    stored, share = shares(store, mount)
    said = {way.__name__: call_as(CAMERA, tried, way, share / f"{way.__name__}.jpg") for way in WAYS}
    wait_until_closed(mount)
    assert not leaked(stored)
    assert all(said.values()), said
    assert call_as(CAMERA, tried, lambda path: path.write_bytes(CLEAN), share / "honest.jpg") == ""
    assert (stored / "honest.jpg").read_bytes() == CLEAN


HIDDEN = jpegs.with_segments(jpegs.plain(), jpegs.segment(0xEB, jpegs.TEXT_COORDINATES.encode()))
"""The place is in a segment that no reader knows."""


@pytest.mark.parametrize("alone", [False, True], ids=["shared", "app mount"])
def test_no_place_in_what_is_not_understood(alone: bool, mounts_on, store_on) -> None:
    """Attack C1.9: Put forbidden data into a part of a photo that no table knows
    Guard: policyfs/redact/verdict.py::judged
    Also: tests/unit/test_redact_verdict.py
    Without: ::test_it_is_there_where_that_is_not_searched
    """
    store = store_on("ext4")
    mount = mounts_on.start(POLICY, store, *(("--app", "camera") if alone else ()))
    stored, share = shares(store, mount)
    honest = HIDDEN.replace(jpegs.TEXT_COORDINATES.encode(), b"w" * len(jpegs.TEXT_COORDINATES))
    for name, data, said in (("hidden.jpg", HIDDEN, "EPERM"), ("honest.jpg", honest, "")):
        assert call_as(CAMERA, tried, lambda path, data=data: path.write_bytes(data), share / name) == said
    wait_until_closed(mount)
    assert not leaked(stored)
    assert (stored / "honest.jpg").read_bytes() == honest


def test_it_is_there_where_that_is_not_searched(without, store_on) -> None:
    store = store_on("ext4")
    mount = without("odd-unsearched", POLICY, store)
    stored, share = shares(store, mount)
    assert call_as(CAMERA, tried, lambda path: path.write_bytes(HIDDEN), share / "hidden.jpg") == ""
    assert leaked(stored) == ["hidden.jpg"]


def test_they_are_ways_in_where_nobody_looks(without, store_on) -> None:
    store = store_on("ext4")
    mount = without("draft-unread", POLICY, store)
    stored, share = shares(store, mount)
    call_as(CAMERA, tried, at_once, share / "a.jpg")
    wait_for(lambda: leaked(stored) == ["a.jpg"], "the place in the store")
