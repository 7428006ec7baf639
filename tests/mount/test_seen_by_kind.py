"""Names that are seen by what is in the files: the kernel's answers follow the content."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.mount.test_ops_listing import directory
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.stores import Mounts

GALLERY = 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}}
rules:
  - {id: photos, allow: [see, read], when: {type: image/*}, paths: "/**"}
"""
SEEN_S = 1.0
"""A change in the store is seen within this time."""


def test_a_file_that_becomes_a_photo_is_seen(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    photo = media["photo_without_place.jpg"].read_bytes()
    (empty_store / "old.jpg").write_bytes(photo)
    mount = mounts.start(POLICY, empty_store, "--app", "gallery")

    def listed() -> list[str]:
        return sorted(call_as(GALLERY, os.listdir, mount.mountpoint))

    def found() -> bool:
        return call_as(GALLERY, os.path.exists, str(mount / "new.jpg"))

    heard = mount.status()["watch"]["events"]
    with open(empty_store / "new.jpg", "wb") as file:
        wait_for(lambda: mount.status()["watch"]["events"] > heard, "the watch has heard of the name")
        assert (listed(), found()) == (["old.jpg"], False)
        assert (listed(), found()) == (["old.jpg"], False)  # by now from the kernel's caches
        file.write(photo)
    wait_for(lambda: listed() == ["new.jpg", "old.jpg"], "the listing shows it", SEEN_S)
    wait_for(found, "it can be stat'ed", SEEN_S)


def test_a_photo_that_becomes_something_else_is_hidden(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    photo = media["photo_without_place.jpg"].read_bytes()
    for name in ("a.jpg", "b.jpg"):
        (empty_store / name).write_bytes(photo)
    mount = mounts.start(POLICY, empty_store, "--app", "gallery")

    def listed() -> list[str]:
        return sorted(call_as(GALLERY, os.listdir, mount.mountpoint))

    assert listed() == ["a.jpg", "b.jpg"]
    assert call_as(GALLERY, os.path.exists, str(mount / "b.jpg"))
    with open(empty_store / "b.jpg", "r+b") as file:
        file.write(b"plain words, and then some\n" * 4000)
    wait_for(lambda: listed() == ["a.jpg"], "the listing leaves it out", SEEN_S)
    wait_for(lambda: not call_as(GALLERY, os.path.exists, str(mount / "b.jpg")), "it is not there", SEEN_S)


def test_a_failed_sniff_hides_a_file_for_no_longer_than_it_fails(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    (empty_store / "a.jpg").write_bytes(media["photo_without_place.jpg"].read_bytes())
    mount = mounts.start(POLICY, empty_store, "--app", "gallery")

    def found() -> bool:
        return call_as(GALLERY, os.path.exists, str(mount / "a.jpg"), deadline_s=90)  # it may take 60

    sniffer = mount.status()["sniffer"]
    stopped = [sniffer["zygote_pid"], *sniffer["worker_pids"]]  # who is stopped alone is replaced
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert not found()  # what cannot be sniffed is no photo
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for(found, "it is seen when sniffing works again", 20)


def _read_on(channel, path: str) -> list[list[str]]:
    """Begin to read a directory. When told, look up some names, so that the kernel asks for nodes with the
    next part, and read on. Before and after this: which of the changed names have attributes."""
    with directory(path) as stream:
        channel.send([os.fsdecode(stream.one()[0]) for _ in range(12)])
        photos, changed = channel.recv()
        for name in photos:
            os.stat(os.path.join(path, name))
        found = [[name for name in changed if os.path.exists(os.path.join(path, name))]]
        assert set(changed) < set(map(os.fsdecode, stream.rest()))
        return [*found, [name for name in changed if os.path.exists(os.path.join(path, name))]]


@pytest.mark.parametrize("new_file", [False, True], ids=["changed", "replaced"])
def test_a_listing_that_was_begun_before_tells_no_attributes(
    mounts: Mounts, empty_store: Path, media: dict[str, Path], new_file: bool
) -> None:
    photo = media["photo_without_place.jpg"].read_bytes()
    names = [f"{number:03}{'-' * 200}" for number in range(180)]
    for name in names:
        (empty_store / name).write_bytes(photo)
    mount = mounts.start(POLICY, empty_store, "--app", "gallery")
    child = start_as(GALLERY, _read_on, str(mount.mountpoint))
    begun = child.receive()
    later = [name for name in names if name not in begun]
    parts = mount.fuse("READDIRPLUS")
    heard = mount.status()["watch"]["events"]
    for name in later[30:]:
        if new_file:  # which may get the inode number of the old one
            (empty_store / name).unlink()
        (empty_store / name).write_bytes(b"words")
    wait_for(lambda: mount.status()["watch"]["events"] >= heard + len(later[30:]), "the watch has heard")
    child.send((later[:30], later[30:]))
    assert child.result() == [[], []]
    assert mount.fuse("READDIRPLUS") > parts, "the kernel has asked for nodes"


@pytest.mark.parametrize("becomes", [True, False], ids=["photo", "text"])
def test_a_file_that_changes_during_a_listing_is_listed_rightly_afterwards(
    mounts: Mounts, empty_store: Path, media: dict[str, Path], becomes: bool
) -> None:
    photo = media["photo_without_place.jpg"].read_bytes()
    for number in range(200):  # to find their kinds takes a second or more
        (empty_store / f"{number:03}").write_bytes(photo + bytes([number]))
    first = os.listdir(empty_store)[0]
    (empty_store / first).write_bytes(b"words" if becomes else photo)
    mount = mounts.start(POLICY, empty_store, "--app", "gallery")

    def listed() -> list[str]:
        return call_as(GALLERY, os.listdir, mount.mountpoint)

    child = start_as(GALLERY, lambda _: os.listdir(mount.mountpoint))
    wait_for(lambda: mount.fuse("READDIRPLUS"), "the listing has begun")
    time.sleep(0.1)  # by now the first name is decided
    (empty_store / first).write_bytes(photo if becomes else b"words")
    child.result()
    wait_for(lambda: (first in listed()) is becomes, "the listing shows the change", SEEN_S)
