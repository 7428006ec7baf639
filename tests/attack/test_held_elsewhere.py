"""C3 by two mounts: a file of which one daemon still holds bytes is renamed over a photo in another mount.

The first daemon refuses the bytes later, or is killed. Within one daemon the rename waits for the check.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/Typed/**"}}
"""
PHOTO: Final = jpegs.plain(3, 64)
REFUSED: Final = {"Share": jpegs.photo_with(jpegs.exif()), "Typed": PHOTO[:2]}
"""Bytes that are held in a folder, and refused at the close: a draft with a place, and a beginning alone."""


def _hold(channel: Connection, path: Path, data: bytes) -> None:
    """Write to an empty file, and close it when told to."""
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, data)
    channel.send("held")
    channel.recv()
    channel.send(code_of(os.close, fd))


class Pair:
    """Two mounts of a store: in the first the camera holds bytes, in the second the gallery renames."""

    def __init__(
        self, mounts: Mounts, store: Path, place: str, *, apps: bool = False, guard: str = ""
    ) -> None:
        self.stored = store / place
        self.stored.mkdir()
        self.stored.chmod(0o777)
        for name, data in (("photo", PHOTO), ("old", b"")):
            (self.stored / name).write_bytes(data)
            (self.stored / name).chmod(0o666)
        self.here, there = (self._mount(mounts, store, app, guard) for app in self._apps(apps))
        self.there = there / place
        self.writer = start_as(CAMERA, _hold, self.here / place / "old", REFUSED[place])
        assert self.writer.receive() == "held"

    @staticmethod
    def _apps(apps: bool) -> list[str]:
        return ["camera", "gallery"] if apps else ["", ""]

    @staticmethod
    def _mount(mounts: Mounts, store: Path, app: str, guard: str) -> Mount:
        mount = mounts.prepare(POLICY, store, *(("--app", app) if app else ()))
        if guard:
            mount.program = (WEAKENED, guard)
        return mount.start()

    def rename(self) -> str:
        """Rename the file over the photo, in the second mount. Return the error's name, or ""."""
        return str(call_as(GALLERY, code_of, os.rename, self.there / "old", self.there / "photo"))

    def close(self) -> str:
        """Close the file in the first mount. Return the error's name, or ""."""
        self.writer.send("close")
        said = str(self.writer.receive())
        self.writer.result()
        return said


@pytest.mark.parametrize(
    ("place", "apps"), first(2, [("Share", False), ("Typed", True), ("Share", True), ("Typed", False)])
)
def test_a_photo_is_not_lost_to_bytes_that_another_daemon_refuses(
    mounts, empty_store: Path, place: str, apps: bool
) -> None:
    """Attack C3.3: Rename a file over a photo, while another mount's daemon holds bytes of the file that it
    refuses later, or is killed
    Guard: policyfs/fs/namespace/rename.py::Renamer._check_held,
    policyfs/store/locking/latches.py::HeldFiles.is_held_elsewhere
    Also: ::test_a_photo_is_not_lost_to_bytes_of_a_killed_daemon
    Without: ::test_it_is_lost_where_daemons_do_not_look_at_marks
    """
    pair = Pair(mounts, empty_store, place, apps=apps)
    assert pair.rename() == "EBUSY"
    assert pair.close() == "EPERM"
    assert (pair.stored / "photo").read_bytes() == PHOTO
    # From its RELEASE on, which comes some time after close(), the file is an empty one like any other.
    assert wait_for(lambda: pair.rename() == "", "the bytes are dropped")


@pytest.mark.parametrize("place", REFUSED)
def test_it_is_lost_where_daemons_do_not_look_at_marks(mounts, empty_store: Path, place: str) -> None:
    pair = Pair(mounts, empty_store, place, guard="marks-unseen")
    assert pair.rename() == ""
    assert pair.close() == "EPERM"
    assert (pair.stored / "photo").read_bytes() == b""


def test_a_photo_is_not_lost_to_bytes_of_a_killed_daemon(mounts, empty_store: Path) -> None:
    """And its marks end with it: the file is an empty one like any other then."""
    pair = Pair(mounts, empty_store, "Typed")
    assert pair.rename() == "EBUSY"
    os.kill(pair.here.pid, signal.SIGKILL)
    assert (pair.stored / "photo").read_bytes() == PHOTO
    assert wait_for(lambda: pair.rename() == "", "the mark is gone")
    pair.here.force_away()
    assert pair.close() == "ENOTCONN"
    pair.here.process = None
