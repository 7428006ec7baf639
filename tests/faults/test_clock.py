"""The clock is stepped, and files bear times of the future: what is cached stays true, the trail in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine import clocked
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, written
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

HOUR_S = 3600.0
STEPS_S = (0.0, -HOUR_S, 3 * HOUR_S, -30 * 24 * HOUR_S, 0.0)
OTHER = jpegs.with_segments(jpegs.plain(7, 120), jpegs.exif_segment(jpegs.exif()))


@pytest.fixture
def stepped(mounts: Mounts, empty_store: Path, arena: Path) -> tuple[Mount, Callable[[float], None]]:
    """A mount, and `step(seconds)` that makes its daemon's clock wrong by so much."""
    faulty.furnish(empty_store)
    file = arena / "clock"
    clocked.step(file, 0)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.program = ("tests.support.machine.clocked", str(file))
    return mount.start(), lambda seconds: clocked.step(file, seconds)


def _last(mount: Mount, path: str) -> dict:
    return wait_for(lambda: mount.events(path=path, type="event")[-1:], "it is on record")[0]


def test_a_clock_that_is_stepped_changes_nothing_but_what_the_trail_says_of_time(stepped) -> None:
    """Fault daemon.14: The clock jumps, by hours and back by a month
    App: no error, and current versions
    Store: accepted bytes
    Trail: records with the clock's times, in the order of `seq`. `verify` reports the trail as complete
    """
    mount, step = stepped
    for number, seconds in enumerate(STEPS_S):
        step(seconds)
        # Another version each time, also of the kind: a copy or a kind kept from before would tell.
        photo = (PHOTO, OTHER)[number % 2]
        (mount.store / "DCIM/a.jpg").write_bytes(photo)
        shown = wait_for(lambda: _current(mount / "DCIM/a.jpg", len(photo)), "the new one is shown")  # noqa: B023
        assert jpegs.leaks(shown) == []
        assert jpegs.pixels(shown) == jpegs.pixels(photo)
        assert call_as(CAMERA, written, mount / f"Checked/{number}.jpg", LARGE) == (len(LARGE), "")
        assert call_as(CAMERA, written, mount / f"Checked/{number}.txt", b"words " * 200)[1] == "EPERM"
        event = _last(mount, f"/Checked/{number}.jpg")
        said = time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S")
        assert abs(time.mktime(said) - time.mktime(time.gmtime()) - seconds) < 120
    assert mount.stop() == []
    events = mount.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0


def _current(path: Path, size: int) -> bytes:
    data = call_as(GALLERY, path.read_bytes)
    return data if len(data) == size else b""


@pytest.mark.parametrize("years", [-40, 40])
def test_times_that_apps_set_deceive_no_cache(stepped, years: int) -> None:
    """An app sets a file's time back to what it was: the kernel's ctime tells that it changed.

    Fault daemon.15: Files with times far in the past or future, or with times that an app has set back
    App: no error: a version has also the ctime, which no app can set
    Store: accepted bytes
    Trail: as usual
    Also: ::test_a_file_of_any_time_that_a_store_can_keep_is_shown
    """
    mount, _ = stepped
    path, when = mount / "Checked/b.jpg", time.time_ns() + years * 365 * 86400 * 10**9
    photo, same_size = PHOTO, PHOTO[:-40] + b"\0" * 38 + PHOTO[-2:]

    def write(data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, ns=(when, when))

    for data in (photo, same_size, photo):
        call_as(CAMERA, write, data)
        assert (mount.store / "Checked/b.jpg").stat().st_mtime_ns == when
        shown = call_as(GALLERY, path.read_bytes)
        assert shown[-40:] == data[-40:]
        assert jpegs.leaks(shown) == []
    # A kind that is not allowed is found out, whatever its times say.
    call_as(CAMERA, os.truncate, path, 0)
    os.utime(mount.store / "Checked/b.jpg", ns=(when, when))
    assert call_as(CAMERA, error, Path.write_bytes, path, b"words " * 300) == "EPERM"


YEAR_S = 31_556_952
STRANGE_S = {
    "ext4": (-(1 << 31), 293 * YEAR_S, (2440 - 1970) * YEAR_S),
    "xfs": (-(1 << 31), 293 * YEAR_S, (2480 - 1970) * YEAR_S),
    "btrfs": (-(1 << 62), -(1 << 40), 293 * YEAR_S, 1 << 40, (1 << 62) - 1),
    "tmpfs": (-(1 << 62), -(1 << 40), 293 * YEAR_S, 1 << 40, (1 << 62) - 1),
}
"""Times that the file systems can keep, in seconds since 1970: most are no 64-bit number of nanoseconds."""


def _looked_at(directory: Path) -> list[tuple[str, set[int], bytes]]:
    """The name of each file, all times that it is said to have, in seconds, and its bytes."""
    found = []
    with os.scandir(directory) as entries:
        listed = {entry.name: entry.stat().st_mtime_ns for entry in entries}
    for name, told_ns in listed.items():
        times_ns = {told_ns}
        for _ in range(20):  # the bridge answers what is repeated
            times_ns.add(os.stat(directory / name).st_mtime_ns)
            with open(directory / name, "rb") as file:
                data = file.read()
                times_ns.add(os.fstat(file.fileno()).st_mtime_ns)
        found.append((name, {time_ns // 10**9 for time_ns in times_ns}, data))
    return found


def _change(path: Path, when_s: int) -> int:
    """Write a file anew, and set its time again. Return the time that it has then, in seconds."""
    with open(path, "r+b") as file:
        file.write(PHOTO)
    os.utime(path, ns=(when_s * 10**9, when_s * 10**9))
    return os.stat(path).st_mtime_ns // 10**9


@pytest.mark.parametrize("kind", first(1, [("ext4",), ("tmpfs",), ("xfs",), ("btrfs",)]))
def test_a_file_of_any_time_that_a_store_can_keep_is_shown(on_disk, kind: str) -> None:
    mount, root = on_disk(kind)
    for place in ("DCIM", "Checked"):
        directory = root / "store" / place
        (directory / "a.jpg").unlink()
        for second in STRANGE_S[kind]:
            path = directory / f"{second}.jpg"
            path.write_bytes(PHOTO)
            os.chown(path, CAMERA, CAMERA)
            os.utime(path, ns=(second * 10**9, second * 10**9))
            assert path.stat().st_mtime_ns // 10**9 == second
        os.utime(directory, ns=(second * 10**9, second * 10**9))
        for uid in (CAMERA, GALLERY):
            found = call_as(uid, _looked_at, mount / place)
            assert len(found) == len(STRANGE_S[kind])
            for name, times, data in found:
                assert times == {int(name.removesuffix(".jpg"))}
                assert bool(jpegs.leaks(data)) == (uid == CAMERA)
        for second in STRANGE_S[kind]:
            assert call_as(CAMERA, _change, mount / place / f"{second}.jpg", second) == second
            assert (directory / f"{second}.jpg").stat().st_mtime_ns // 10**9 == second
    assert mount.status()["bugs"] == 0
    assert mount.stop() == []
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0
    told = {event["mtime_before_ns"] for event in mount.events() if "mtime_before_ns" in event}
    assert told
    assert all(-(1 << 63) <= time_ns < 1 << 63 for time_ns in told)
