"""kill -9 of what serves a mount, at any moment: the store is whole, and a new mount takes the place."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO
from tests.support.mount.holdings import family_of
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

TURNS = count(2, 60)
NAMES = 5
REST_S = count(5, 0) / 1000
"""Between two looks of an app."""


def _write(channel, directory: Path, step: int) -> None:
    """New photos in small steps, each renamed over another when it is done."""
    number = 0
    while not channel.poll():
        number = (number + 1) % NAMES
        new = directory / f"new{number}"
        # On after short writes: the kernel splits one at a page's end, and the second half may be refused.
        if faulty.written(new, LARGE, os.O_TRUNC, step=step, sync=True) == (len(LARGE), ""):
            with contextlib.suppress(OSError):
                os.rename(new, directory / f"photo{number}")


def _look(channel, directory: Path) -> list[bytes]:
    """Every redacted photo that was read with a place in it: none, it is hoped."""
    leaked = []
    while not channel.poll():
        with contextlib.suppress(OSError):
            os.listdir(directory)
            data = (directory / "a.jpg").read_bytes()
            if PHOTO.startswith(data) and len(data) > 100:
                leaked.append(data)
        time.sleep(REST_S)
    return leaked


@pytest.fixture
def busy(mounts: Mounts, empty_store: Path) -> Iterator[tuple[Mount, list[Child]]]:
    """A mount, and apps that write, check, rename and look in it."""
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.start()
    crowd = [
        start_as(CAMERA, _write, mount / "DCIM", 20_000),
        start_as(CAMERA, _write, mount / "Checked", 1000),
        start_as(GALLERY, _look, mount / "DCIM"),
    ]
    try:
        yield mount, crowd
    finally:
        for child in crowd:
            child.kill()


def whole(directory: Path) -> None:
    """What lies there was put there by apps, byte for byte; finished names have finished files."""
    names = set(os.listdir(directory))
    assert names <= {"a.jpg", *(f"{kind}{n}" for kind in ("new", "photo") for n in range(NAMES))}
    assert (directory / "a.jpg").read_bytes() == PHOTO
    for name in names - {"a.jpg"}:
        data = (directory / name).read_bytes()
        assert LARGE.startswith(data), name
        assert name.startswith("new") or len(data) == len(LARGE), name


def _shown(mount: Mount) -> bytes:
    return call_as(CAMERA, _try, mount / "DCIM/a.jpg")


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_daemon_killed_at_any_moment_leaves_a_whole_store(busy, turn: int) -> None:
    mount, crowd = busy
    wait_for((mount.store / "Checked/photo2").exists, "everybody is at work", 30)
    time.sleep(random.Random(turn).random() / 3)  # at any moment
    dead = mount.process
    os.kill(mount.pid, signal.SIGKILL)
    # A new mount in the place of the dead one, be there a thread of it that the kernel holds: all is
    # there, and work goes on.
    mount.start()
    wait_for(lambda: mount._answers() and _shown(mount) == PHOTO, "the new mount answers")
    assert mount._answers()  # what was found before may have been the dead one
    for child in crowd:
        child.send("enough")
    assert [child.result(20) for child in crowd] == [None, None, []]
    assert dead.wait(20) == -signal.SIGKILL
    for name in ("DCIM", "Checked"):
        whole(mount.store / name)
    assert call_as(CAMERA, (mount / "DCIM/a.jpg").read_bytes) == PHOTO
    assert call_as(CAMERA, faulty.written, mount / "Checked/new0", LARGE, os.O_TRUNC) == (len(LARGE), "")
    whole(mount.store / "Checked")
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0


def test_workers_killed_in_the_middle_of_a_look_cost_nothing_but_time(busy) -> None:
    """Whoever kills a worker, or the kernel for memory: never a byte, and the mount goes on.

    Fault daemon.3: kill -9 of sniffing workers, again and again, also by the kernel for lack of memory
    App: The app waits for another worker, 5 s at most without the starts. If two workers die on a file
    and nobody killed them, it is denied (EACCES; EPERM for a checked write)
    Store: the allowed writes
    Trail: a denial, if there was one
    """
    mount, crowd = busy
    seen: set[int] = set()

    def kill() -> int:
        os.utime(mount.store / "DCIM/a.jpg")  # another version: it is looked at anew
        for pid in mount.status()["sniffer"]["worker_pids"]:
            if pid not in seen:
                seen.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return len(seen)

    wait_for(lambda: kill() >= 12, "a dozen workers were killed", 60)
    for child in crowd:
        child.send("enough")
    assert [child.result(20) for child in crowd] == [None, None, []]
    shown = wait_for(lambda: call_as(GALLERY, _try, mount / "DCIM/a.jpg"), "photos are shown again", 20)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert mount.status()["bugs"] == 0


def _try(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_the_parent_of_all_workers_killed_while_photos_are_written(busy) -> None:
    """Checked writes and readers wait for another; what is in the store is whole.

    Fault daemon.4: kill -9 of the parent of all workers
    App: The app waits for a new parent
    Store: the allowed writes
    Trail: nothing
    Also: tests/mount/test_contained.py::test_a_zygote_that_is_killed_comes_back
    """
    mount, crowd = busy
    wait_for((mount.store / "Checked/photo2").exists, "everybody is at work", 30)
    for _ in range(3):
        before = mount.status()["sniffer"]
        os.kill(before["zygote_pid"], signal.SIGKILL)
        started = before["zygotes_started"]
        wait_for(lambda: mount.status()["sniffer"]["zygotes_started"] > started, "another one", 30)  # noqa: B023
    for child in crowd:
        child.send("enough")
    assert [child.result(30) for child in crowd] == [None, None, []]
    whole(mount.store / "Checked")
    assert mount.status()["bugs"] == 0


def test_without_the_one_that_starts_parents_nothing_unlooked_at_is_shown(
    mounts: Mounts, empty_store: Path
) -> None:
    """The daemon can execute nothing, so nothing brings the launcher back: what was not looked at is denied
    until somebody mounts anew. All else goes on.

    Fault daemon.5: kill -9 of the launcher (which starts the parent), and then of the parent
    App: Files whose kind or plan is not remembered are denied until the next mount. All else continues
    Store: the allowed writes
    Trail: the denials
    """
    faulty.furnish(empty_store)
    mount = mounts.start(faulty.POLICY, empty_store)
    shown = call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes)
    zygote = mount.status()["sniffer"]["zygote_pid"]
    launcher = int(Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(launcher, signal.SIGKILL)
    assert call_as(CAMERA, faulty.written, mount / "Checked/b.jpg", LARGE) == (len(LARGE), "")
    family = [os.pidfd_open(pid) for pid in family_of(zygote)]
    os.kill(zygote, signal.SIGKILL)
    for one in family:  # a worker may still look at a file while its end is on the way
        assert select.select([one], (), (), 30)[0]
        os.close(one)
    assert call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes) == shown  # looked at before
    assert call_as(CAMERA, faulty.written, mount / "Checked/c.jpg", LARGE) == (0, "EPERM")
    os.utime(empty_store / "DCIM/a.jpg")
    photo = mount / "DCIM/a.jpg"
    wait_for(lambda: call_as(GALLERY, error, Path.read_bytes, photo) == "EACCES", "it is denied")
    assert call_as(CAMERA, photo.read_bytes) == PHOTO
    names = empty_store / "Checked"
    wait_for(lambda: set(os.listdir(names)) == {"a.jpg", "b.jpg"}, "what was refused is gone")
    mount.expected_log.append("sniff|zygote|launcher")
    assert mount.status()["bugs"] == 0
