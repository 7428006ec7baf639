"""C2 and B1 by two daemons: a file takes the name of another one that a daemon is about to remove or rename.

The daemon has looked at the name, and its next system call takes a name. In that moment another app renames a
file over the name, through another mount of the store. This file must neither go nor come to the other path.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import WAITS, Stops
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.models.model import RENAME_EXCHANGE, rename2
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
  - {{id: all, allow: [all], who: {{app: gallery}}, paths: "/**"}}
  - {{id: look, allow: [see, read, write, create], who: {{app: camera}}, paths: "/**"}}
  - {{id: own, allow: [delete], who: {{app: camera}}, paths: "/**", when: {{owner: self}}}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
"""
OURS, GOOD, PLACED = jpegs.plain(3, 64), jpegs.plain(5, 64), jpegs.photo_with(jpegs.exif())
OTHER: Final = {"replaced": "b.jpg", "exchanged": "moved.jpg"}
"""The camera's second file."""
FREED: Final[dict[str, bytes]] = {"a.jpg": GOOD}
LEFT: Final = {
    "refused": FREED, "removed": FREED, "replaced": FREED,
    "moved": {"a.jpg": GOOD, "moved.jpg": OURS}, "exchanged": {"a.jpg": GOOD, "moved.jpg": OURS},
}  # fmt: skip
"""The races by what the camera does to a.jpg, and what the directory has after each."""
LOST: Final = {
    "refused": {}, "removed": {}, "replaced": {"a.jpg": OURS},
    "moved": {"moved.jpg": GOOD}, "exchanged": {"a.jpg": b"old", "moved.jpg": GOOD},
}  # fmt: skip
"""The same where names are not locked: the gallery's photo is gone, or has the name of the camera's."""


def _camera(channel: object, race: str, place: Path) -> list[str]:
    """Make a file a.jpg, and let it go in the way of the race. Return how the last calls ended."""
    del channel
    path = place / "a.jpg"
    if race == "refused":
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        return [code_of(os.write, fd, PLACED), code_of(os.close, fd)]
    path.write_bytes(OURS)
    if race in OTHER:
        (place / OTHER[race]).write_bytes(OURS if race == "replaced" else b"old")
    if race == "removed":
        return [code_of(os.unlink, path)]
    if race == "exchanged":
        return [code_of(rename2, *map(os.fsencode, (path, place / "moved.jpg")), RENAME_EXCHANGE)]
    names = (place / "b.jpg", path) if race == "replaced" else (path, place / "moved.jpg")
    return [code_of(os.rename, *names)]


def _gallery(channel: object, place: Path) -> str:
    del channel
    return code_of(os.rename, place / "good.jpg", place / "a.jpg")


class Race:
    """A daemon that stands right before it takes a name away, and the gallery's mount of the store."""

    def __init__(self, mounts: Mounts, store: Path, race: str, *guards: str) -> None:
        place = "Share" if race == "refused" else "Own"
        self.stored = store / place
        self.stored.mkdir()
        self.stored.chmod(0o777)
        fifo = store.parent / "waits"
        os.mkfifo(fifo)
        self.waits = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.here, self.there = (mounts.prepare(POLICY, store, "--app", app) for app in ("camera", "gallery"))
        self.stops = Stops(self.here.environment, store.parent)
        self.there.environment[WAITS] = str(fifo)
        for mount, guard in ((self.here, "stops-before-removal"), (self.there, "says-that-it-waits")):
            mount.program = (WEAKENED, ",".join((guard, *guards)))
            mount.start()
        call_as(GALLERY, (self.there / place / "good.jpg").write_bytes, GOOD)
        self.camera: Child = start_as(CAMERA, _camera, race, self.here / place)
        wait_for(self.stops.stopped, "the daemon about to take the name")

    def take_name(self) -> Child:
        """Let the gallery rename its photo to a.jpg, until it is done or waits for the other daemon."""
        gallery = start_as(GALLERY, _gallery, self.there / self.stored.name)
        wait_for(lambda: gallery.channel.poll() or self._has_waited(), "the gallery")
        return gallery

    def _has_waited(self) -> bool:
        try:
            return bool(os.read(self.waits, 1))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Let everybody go."""
        self.stops.go_on()
        os.close(self.waits)

    @property
    def left(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.stored.iterdir()}


@pytest.mark.parametrize("race", LEFT)
def test_a_file_that_takes_the_name_by_another_mount_keeps_it(
    mounts: Mounts, empty_store: Path, race: str
) -> None:
    """Attack B1.2: Right before the daemon renames a file for an app, put another file in its place through
    another mount, and read this other file at the new path
    Guard: policyfs/fs/sharing/name_lock.py::NameLock.on
    Without: ::test_it_goes_or_is_moved_where_names_are_not_locked

    Attack C2.7: Rename a photo to a name right before the daemon removes it (a refused file, or one that
    its owner removes), by another mount
    Guard: policyfs/fs/sharing/name_lock.py::NameLock.on
    Without: ::test_it_goes_or_is_moved_where_names_are_not_locked

    Fault programs.1: Another mount renames a file over a name that the daemon is just removing or
    renaming
    App: no error: the other daemon waits, and then decides anew
    Store: the new file
    Trail: the events of the requests
    """
    it = Race(mounts, empty_store, race)
    gallery = it.take_name()
    it.close()
    assert gallery.result() == ""
    it.camera.result()
    wait_for(lambda: it.here.status()["handles"]["files"] == 0, "the file to be released")
    assert it.left == LEFT[race]
    assert [mount.status()["bugs"] for mount in (it.here, it.there)] == [0, 0]


@pytest.mark.parametrize("race", LOST)
def test_it_goes_or_is_moved_where_names_are_not_locked(
    mounts: Mounts, empty_store: Path, race: str
) -> None:
    it = Race(mounts, empty_store, race, "names-unlocked")
    assert it.take_name().result() == ""
    it.close()
    it.camera.result()
    wait_for(lambda: it.here.status()["handles"]["files"] == 0, "the file to be released")
    assert it.left == LOST[race]


@pytest.mark.parametrize("race", ["removed", "replaced", "moved"])
def test_a_daemon_that_is_killed_there_loses_nothing_and_keeps_no_name(
    mounts: Mounts, empty_store: Path, race: str
) -> None:
    """Each removal and each rename is one system call: the store has what it had before, or after it.

    Fault programs.2: A daemon is killed or stopped (SIGSTOP) while it removes or renames a name
    App: Killed: as after kill -9. Stopped: EBUSY from another mount that changes the same name, after 5
    s (shared mounts: 0.3 s)
    Store: what it had before the change, or after it
    Trail: the events of the requests
    Also:
    tests/unit/test_fs_sharing_name_lock.py::test_a_daemon_that_has_waited_says_so_and_none_waits_for_ever
    """
    it = Race(mounts, empty_store, race)
    gallery, before = it.take_name(), it.left
    assert before["a.jpg"] == OURS
    os.kill(it.here.pid, signal.SIGKILL)
    assert gallery.result() == ""
    assert it.left == {**{name: text for name, text in before.items() if name != "good.jpg"}, "a.jpg": GOOD}
    it.here.force_away()
    it.camera.result()
    it.here.process = None
    it.close()
