"""C2 by two programs: a good file takes the name of one that is about to be removed.

The daemon has looked at the name, and the next system call would take it away. In that moment another app
renames a photo over it, through another mount, or a program does so in the store. The photo must not go.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import Stops
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: taken-names}}
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/Share/**", "/Typed/**"]}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/Typed/**"}}
  - {{id: look, allow: [see, read, write, create], who: {{app: any}}, paths: "/Own/**"}}
  - {{id: own, allow: [delete], who: {{app: any}}, paths: "/Own/**", when: {{owner: self}}}}
"""
PHOTO: Final = jpegs.plain(3, 64)
WRITTEN: Final = {"Share": jpegs.photo_with(jpegs.exif()), "Typed": b"words", "Own": PHOTO}
"""What the camera writes: refused at the close, at the write, or accepted and then removed by the camera."""


def _write(path: Path, data: bytes) -> list[str]:
    """Make a file, write it, close it; in Own, remove it. Returns how the calls ended."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    ended = [code_of(os.write, fd, data), code_of(os.close, fd)]
    return [*ended, code_of(os.unlink, path)] if path.parent.name == "Own" else ended


class Taken:
    """A daemon that stands right before it removes the camera's file, and another mount of the store."""

    def __init__(self, mounts: Mounts, store: Path, place: str, *guards: str) -> None:
        self.stored = store / place
        self.stored.mkdir()
        self.stored.chmod(0o777)
        self.there = mounts.start(POLICY, store, "--app", "gallery") / place
        self.here = mounts.prepare(POLICY, store, "--app", "camera")
        self.here.program = (WEAKENED, ",".join(("stops-before-removal", *guards)))
        self.stops = Stops(self.here.environment, store.parent)
        self.here.start()
        call_as(GALLERY, self._put, self.there / "good.jpg")
        self.writer: Child = start_as(CAMERA, self._written, self.here / place / "a.jpg", WRITTEN[place])
        wait_for(self.stops.stopped, "the daemon about to remove the name")

    @staticmethod
    def _put(path: Path) -> None:
        path.write_bytes(PHOTO)

    @staticmethod
    def _written(_channel: object, path: Path, data: bytes) -> list[str]:
        return _write(path, data)

    def go_on(self) -> list[str]:
        """Let the daemon go on to the end of the request. Returns how the camera's calls ended."""
        self.stops.go_on()
        ended: list[str] = self.writer.result()
        wait_for(lambda: self.here.status()["handles"]["files"] == 0, "the file to be released")
        return ended

    def names(self) -> list[str]:
        return sorted(os.listdir(self.stored))


def _renamed(taken: Taken, by_app: bool) -> str:
    """Rename the photo over the camera's file: the gallery in its mount, or root in the store."""
    if not by_app:
        os.rename(taken.stored / "good.jpg", taken.stored / "a.jpg")
        return ""
    return str(call_as(GALLERY, code_of, os.rename, taken.there / "good.jpg", taken.there / "a.jpg"))


def _check_mount(mount: Mount) -> None:
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("by_app", [True, False], ids=["app", "store"])
@pytest.mark.parametrize("place", ["Share", "Typed"])
def test_a_photo_that_takes_the_name_of_a_refused_file_stays(
    mounts, empty_store: Path, place: str, by_app: bool
) -> None:
    taken = Taken(mounts, empty_store, place)
    assert _renamed(taken, by_app) == ""
    assert "EPERM" in taken.go_on()
    assert taken.names() == ["a.jpg"]
    assert (taken.stored / "a.jpg").read_bytes() == PHOTO
    _check_mount(taken.here)


def test_another_apps_photo_that_takes_the_name_of_a_removed_file_stays(mounts, empty_store: Path) -> None:
    """The camera may only remove its own files."""
    taken = Taken(mounts, empty_store, "Own")
    assert _renamed(taken, False) == ""
    assert taken.go_on() == ["", "", "EACCES"]
    assert taken.names() == ["a.jpg"]
    assert (taken.stored / "a.jpg").read_bytes() == PHOTO
    _check_mount(taken.here)


@pytest.mark.parametrize("place", WRITTEN)
def test_nothing_but_the_file_goes_where_nobody_takes_its_name(mounts, empty_store: Path, place: str) -> None:
    taken = Taken(mounts, empty_store, place)
    taken.go_on()
    assert taken.names() == ["good.jpg"]
    _check_mount(taken.here)


@pytest.mark.parametrize("place", WRITTEN)
def test_it_goes_where_a_name_is_looked_at_and_then_removed(mounts, empty_store: Path, place: str) -> None:
    taken = Taken(mounts, empty_store, place, "looked-at-then-removed")
    assert _renamed(taken, False) == ""
    taken.go_on()
    assert taken.names() == []
