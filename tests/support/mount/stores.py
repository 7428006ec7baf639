"""Stores with media in them, and the mounts that a test starts on them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount, write_policy

CONTENTS: Final = {
    "DCIM/Camera/a.jpg": "photo_with_place.jpg",
    "DCIM/Camera/b.jpg": "photo_without_place.jpg",
    "DCIM/Camera/big.jpg": "photo_8mb.jpg",
    "Pictures/drawing.png": "drawing.png",
    "Movies/video.mp4": "video.mp4",
    "Movies/trip.mp4": "video_with_place.mp4",
    "Music/song.mp3": "song.mp3",
    "Download/hike.gpx": "hike.gpx",
}
"""What populate() puts where: path in the store -> name in tests/support/samples/media.py."""

TEXTS: Final = {
    "Documents/notes.txt": "plain words\n",
    "Android/data/camera/settings.txt": "camera's own\n",
    "Android/data/gallery/cache.txt": "gallery's own\n",
    "Android/obb/game/level.txt": "game's own\n",
}
"""Text files that populate() adds."""

_REFUSALS: Final = 20
WEAKENED: Final = "tests.attack.weakened"
"""The module of a daemon without one of its guards."""
"""Events and lines of log shown of each mount of a test that has failed."""


def populate(store: Path, media: dict[str, Path]) -> None:
    """Fill a store with CONTENTS and TEXTS; everything is root's, directories 0755, files 0644."""
    for name, source in CONTENTS.items():
        target = store / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(media[source], target)
    for name, text in TEXTS.items():
        target = store / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for directory, _, files in os.walk(store):
        if directory != str(store):
            os.chmod(directory, 0o755)
        for file in files:
            os.chmod(os.path.join(directory, file), 0o644)


IN_MEMORY: Final = "memory"
"""Name of a tmpfs beside the arenas of one process of tests."""


def work_directory(arena: Path) -> Path:
    """Return the path of the directory for trails, keys, sockets and logs of an arena's mounts.

    It lies in memory where the process of tests has such a place: a start and an end of a mount make some
    thirty files and wait for the disk two dozen times. Stores are on the disk. A test of the trail's own disk
    names another trail directory.
    """
    memory = arena.parent / IN_MEMORY
    return memory / arena.name if memory.is_dir() else arena / "work"


class Mounts:
    """The mounts of one test."""

    def __init__(self, arena: Path) -> None:
        """arena: a directory that plain uids may pass through; mountpoints are made in it."""
        self.arena = arena
        self.work = work_directory(arena)
        self.work.mkdir(mode=0o700)
        self.all: list[Mount] = []

    def prepare(self, policy: str | Path, store: Path, *options: str) -> Mount:
        """A mount that is not started yet, with a mountpoint and a policy file of its own."""
        mountpoint = Path(tempfile.mkdtemp(prefix="mnt-", dir=self.arena))
        mountpoint.chmod(0o755)
        path = write_policy(policy, self.work, f"{mountpoint.name}.yaml")
        mount = Mount(store, mountpoint, path, options=options, work=self.work)
        self.all.append(mount)
        return mount

    def start(self, policy: str | Path, store: Path, *options: str) -> Mount:
        """A running mount."""
        return self.prepare(policy, store, *options).start()

    def assert_idle(self) -> None:
        """No handle may be open in any mount once its users are gone, and passthrough must have worked."""
        for mount in self.all:
            if mount.process is not None and mount.process.poll() is None and mount.is_mounted():
                status = wait_for(lambda mount=mount: _idle(mount.status()), "all handles closed", 5.0)
                if not mount.expected_mediated:
                    assert_passed_through(status)

    def refusals(self) -> str:
        """The last refusals on each mount's trail and the end of its log: why a test that fails got them."""
        said = []
        for mount in self.all:
            refused = [event for event in mount.events() if event.get("decision") == "deny"][-_REFUSALS:]
            log = mount.log.read_text(errors="replace") if mount.log.exists() else ""
            said += [f"-- {mount.mountpoint}", *map(json.dumps, refused), *log.splitlines()[-_REFUSALS:]]
        return "\n".join(said)

    @property
    def lacks_a_guard(self) -> bool:
        """Whether a daemon was started with one of its guards taken out (tests/attack/weakened.py)."""
        return any(WEAKENED in mount.program for mount in self.all)

    def stop_all(self) -> list[str]:
        """Stop every mount; returns everything that was wrong with any."""
        return [f"{mount.mountpoint}: {wrong}" for mount in self.all for wrong in mount.stop()]


def _idle(status: dict[str, Any]) -> dict[str, Any] | None:
    return status if open_handles(status) == 0 else None


_RELEASE: Final = os.environ.get("POLICYFS_TEST_KERNEL") or os.uname().release
KERNEL: Final = tuple(int(part) for part in _RELEASE.split(".")[:2])


def assert_passed_through(status: dict[str, Any]) -> None:
    """Passthrough is expected of every mount unless its test says otherwise: no file may go without. A kernel
    before 6.9 has none, and then the status says so."""
    passthrough = status["passthrough"]
    if KERNEL < (6, 9):
        assert "the kernel has no FUSE passthrough" in passthrough["why_not"]
        return
    assert passthrough["enabled"], f"no passthrough: {passthrough['why_not']}"
    assert not passthrough["refused"], f"files went without passthrough: {passthrough['refused']}"


def open_handles(status: dict[str, Any]) -> int:
    """How many files and directories are open in a mount, by its status."""
    handles = status["handles"]
    return int(handles["open"] if isinstance(handles, dict) else handles)


def wait_until_closed(mount: Mount) -> None:
    """Wait until nothing is open. close(2) does not wait for the RELEASE that removes a refused new file."""
    wait_for(lambda: open_handles(mount.status()) == 0, "all handles to be closed")


def wait_until_heard(mount: Mount) -> None:
    """Wait until the kernel has every notification that the daemon has sent so far."""
    wait_for(lambda: mount.status()["notifications"]["queued"] == 0, "no notification waits")
    time.sleep(0.1)  # for the last, which the daemon may still be writing
