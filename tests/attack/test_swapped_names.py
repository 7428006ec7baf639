"""A file takes the old name of another right before the daemon renames the other to where more apps may read.

The daemon finds out after the rename, and moves the file back. Until then no app may read it at the new path.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.attack.guards_writing import Stops
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.stores import WEAKENED, Mounts

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: swapped-names}}
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: look, allow: [see, create], who: {{app: camera}}, paths: "/In/**"}}
  - {{id: own, allow: [read, write, delete], who: {{app: camera}}, paths: "/In/**", when: {{owner: self}}}}
  - {{id: put, allow: [all], who: {{app: camera}}, paths: "/Share/**"}}
  - {{id: share, allow: [see, read], who: {{app: gallery}}, paths: "/Share/**"}}
"""
OURS, SECRET = b"the camera's own photo", b"a file that the gallery must not read"


def _put(path: Path) -> None:
    path.write_bytes(OURS)


def _renamed(_channel: object, old: Path, new: Path) -> str:
    return code_of(os.rename, old, new)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Renaming:
    """A daemon that stands before and after each of its renames while the camera shares a photo, and another
    mount, in which the gallery reads. listed: the names that the camera saw there meanwhile.
    """

    def __init__(self, mounts: Mounts, store: Path, *guards: str) -> None:
        self.store = store
        for name in ("In", "Share"):
            (store / name).mkdir()
            (store / name).chmod(0o777)
        (store / "secret").write_bytes(SECRET)
        self.there = mounts.start(POLICY, store)
        self.listed: set[str] = set()
        self.here = mounts.prepare(POLICY, store, "--app", "camera")
        self.here.program = (WEAKENED, ",".join((*guards, "stops-around-renames")))
        self.stops = Stops(self.here.environment, store.parent)
        self.here.start()
        call_as(CAMERA, _put, self.here / "In/a.jpg")
        self.app: Child = start_as(CAMERA, _renamed, self.here / "In/a.jpg", self.here / "Share/b.jpg")

    def read_at_each_stop(self, *, swap: bool) -> tuple[str, list[bytes]]:
        """Let the daemon go on from stop to stop. Return how the rename ended, and what the gallery could
        read at the new path at each stop. swap: before the first rename, put the secret file in the place of
        the photo.
        """
        wait_for(self.stops.stopped, "the daemon about to rename")
        if swap:
            os.rename(self.store / "secret", self.store / "In/a.jpg")
        seen: list[bytes] = []
        while not self.app.channel.poll():
            self.stops.go_on(1)
            wait_for(lambda: self.stops.stopped() or self.app.channel.poll(), "the next stop, or the end")
            seen.append(call_as(GALLERY, _read, self.there / "Share/b.jpg"))
            seen.append(_read(self.store / "Share/b.jpg"))  # the kernel may keep a missing name for a moment
            self.listed |= set(call_as(CAMERA, os.listdir, self.there / "In"))
        return str(self.app.result()), seen


def _check(renaming: Renaming) -> None:
    assert [mount.status()["bugs"] for mount in (renaming.here, renaming.there)] == [0, 0]
    assert not list(renaming.store.rglob("policyfs-aside-*"))
    assert renaming.listed <= {"a.jpg"}


def test_a_file_that_takes_the_old_name_is_never_read_at_the_new_one(
    mounts: Mounts, empty_store: Path
) -> None:
    renaming = Renaming(mounts, empty_store)
    ended, seen = renaming.read_at_each_stop(swap=True)
    assert (ended, set(seen)) == ("EACCES", {b""})
    assert (empty_store / "In/a.jpg").read_bytes() == SECRET
    assert os.listdir(empty_store / "Share") == []
    _check(renaming)


def test_the_file_of_the_decision_is_read_there(mounts: Mounts, empty_store: Path) -> None:
    renaming = Renaming(mounts, empty_store)
    ended, seen = renaming.read_at_each_stop(swap=False)
    assert (ended, seen[-1]) == ("", OURS)
    wait_for(
        lambda: call_as(GALLERY, _read, renaming.there / "Share/b.jpg") == OURS, "the gallery to read it"
    )
    assert os.listdir(empty_store / "In") == []
    _check(renaming)


def test_it_is_read_where_files_are_compared_after_the_move(mounts: Mounts, empty_store: Path) -> None:
    renaming = Renaming(mounts, empty_store, "compared-after-the-move")
    ended, seen = renaming.read_at_each_stop(swap=True)
    assert (ended, SECRET in seen) == ("EACCES", True)
    _check(renaming)
