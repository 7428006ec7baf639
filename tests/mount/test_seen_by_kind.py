"""Names that are seen by what is in the files: the kernel's answers follow the content."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.stores import Mounts

GALLERY = 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: seen-by-kind}
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
        return call_as(GALLERY, os.path.exists, str(mount / "a.jpg"))

    sniffer = mount.status()["sniffer"]
    stopped = [sniffer["zygote_pid"], *sniffer["worker_pids"]]  # who is stopped alone is replaced
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert not found()  # what cannot be sniffed is no photo
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for(found, "it is seen when sniffing works again", 20)
