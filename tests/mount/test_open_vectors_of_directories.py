"""Directories that the bridge opens by itself: every part of the daemon sees them as any other directory."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mount import test_open_vectors as open_vectors
from tests.mount.test_open_vectors import ONE, POLICY, RECORDED, ask, begin, end, said
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

NAMES = ["a", "b", "sub"]
FS_IOC_GETFLAGS = 0x80086601
APP = ("--app", "one")
ALIKE = POLICY.split("rules:", maxsplit=1)[0] + "rules:\n  - {id: all, allow: [all]}\n"
"""Everyone may do everything, so that the kernel keeps listings in a shared mount, too."""


@pytest.fixture
def store(empty_store: Path) -> Path:
    (empty_store / "d/sub").mkdir(parents=True)
    for name in ("a", "b"):
        (empty_store / "d" / name).touch()
        (empty_store / "d" / name).chmod(0o666)
    for directory in (empty_store, empty_store / "d", empty_store / "d/sub"):
        directory.chmod(0o777)
    return empty_store


@pytest.fixture(params=[(POLICY, *APP), (ALIKE,)], ids=["app", "shared"])
def mount(request: pytest.FixtureRequest, mounts: Mounts, store: Path) -> Mount:
    policy, *options = request.param
    return begin(mounts, policy, store, *options)


def listed(path: str, times: int = 1) -> list[str]:
    """List a directory again and again."""
    for _ in range(times):
        names = sorted(os.listdir(path))
    return names


ACTS: dict[str, Callable[[int], object]] = {
    "names": lambda fd: sorted(os.listdir(fd)),
    "fsync": os.fsync,
    "flags": lambda fd: fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 8) is not None,
    "size": lambda fd: os.fstat(fd).st_nlink > 0,
    "chmod": lambda fd: os.fchmod(fd, 0o755),
    "times": lambda fd: os.utime(fd, (1, 1)),
    "inside": lambda fd: os.stat("a", dir_fd=fd).st_size,
    "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
}


def hold(mount: Mount) -> Any:
    """A process that has a directory open by the bridge, and does with it what it is told."""
    flags, warm = os.O_RDONLY | os.O_DIRECTORY, partial(listed, times=4)
    return open_vectors.hold(mount, flags, "d", warm=warm, acts=ACTS)


def test_repeated_listings_need_no_python(mount: Mount) -> None:
    assert call_as(ONE, listed, str(mount / "d"), 200) == NAMES
    now = said(mount)
    assert now["opendirs"] >= 190, now
    wait_for(lambda: said(mount)["releasedirs"] >= 190, "their releases are answered, too")
    assert mount.fuse("OPENDIR") == 200
    assert mount.status()["handles"]["directories"] == 0


def test_the_first_directory_of_a_mount_is_no_exception(mount: Mount) -> None:
    assert call_as(ONE, listed, str(mount.mountpoint), 50) == ["d"]
    assert said(mount)["opendirs"] >= 40


@pytest.mark.parametrize(
    ("policy", "options"),
    [(POLICY, ()), (POLICY.replace('"off"', "required"), APP)],
    ids=["listings differ by caller", "each is on record first"],
)
def test_where_the_answer_hangs_on_more_python_answers(
    mounts: Mounts, store: Path, policy: str, options: tuple[str, ...]
) -> None:
    mount = begin(mounts, policy, store, *options)
    assert call_as(ONE, listed, str(mount / "d"), 20) == NAMES
    assert said(mount)["opendirs"] == 0


def test_an_open_directory_does_what_any_other_does(mounts: Mounts, store: Path) -> None:
    told: list[dict[str, list[object]]] = []
    for options in ((), ("--no-avc",)):
        mount = mounts.start(POLICY, store, *options, *APP)
        told.append({})
        for act in ACTS:
            before = options or said(mount)["opendirs"]
            child = hold(mount)
            assert options or said(mount)["opendirs"] > before, act
            told[-1][act] = [ask(child, act) for _ in range(2)]
            end(child)
    assert told[0] == told[1]
    assert told[0]["names"] == [NAMES, NAMES]


def test_python_lists_what_the_bridge_has_opened_once_the_kernel_has_to_ask(mount: Mount) -> None:
    child = hold(mount)
    assert said(mount)["opendirs"] > 0
    events = mount.status()["watch"]["events"]
    (mount.store / "d/new").touch()
    wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told")
    before = mount.fuse("READDIRPLUS") + mount.fuse("READDIR")
    wait_for(lambda: ask(child, "names") == sorted([*NAMES, "new"]), "the new name is listed")
    assert mount.fuse("READDIRPLUS") + mount.fuse("READDIR") > before
    end(child)
    wait_for(lambda: mount.status()["handles"]["directories"] == 0, "its release is seen")


def test_an_open_directory_is_in_the_status(mount: Mount) -> None:
    child = hold(mount)
    assert mount.status()["handles"]["directories"] == 1
    assert said(mount)["listings"] == 1, "a look leaves it to the bridge"
    assert ask(child, "names") == NAMES
    end(child)
    wait_for(lambda: mount.status()["handles"]["directories"] == 0, "its release is seen")


def test_names_that_change_are_listed_at_once(mount: Mount) -> None:
    def change(path: str) -> list[list[str]]:
        told = [listed(path, 5)]
        for name in ("x", "y"):
            os.mkdir(f"{path}/{name}")
            told.append(listed(path, 3))
        os.rmdir(f"{path}/x")
        os.rename(f"{path}/y", f"{path}/z")
        return [*told, listed(path, 3)]

    told = call_as(ONE, change, str(mount / "d"))
    assert told == [NAMES, [*NAMES, "x"], [*NAMES, "x", "y"], [*NAMES, "z"]]
    assert said(mount)["opendirs"] > 5


@pytest.mark.parametrize("in_store", [False, True], ids=["through the mount", "in the store"])
def test_a_directory_that_is_gone_is_not_opened(mount: Mount, in_store: bool) -> None:
    def ask_for(channel: Any) -> str:
        path = str(mount / "d/sub")
        listed(path, 5)
        fd = os.open(path, os.O_PATH)
        channel.send("warm")
        channel.recv()
        try:
            return str(listed(f"/proc/self/fd/{fd}"))
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    child = start_as(ONE, ask_for)
    assert child.receive() == "warm"
    before = said(mount)["opendirs"]
    assert before > 0
    if in_store:
        (mount.store / "d/sub").rmdir()
    else:
        call_as(ONE, os.rmdir, mount / "d/sub")
    child.send("look")
    assert child.result() in {"[]", "ENOENT", "ESTALE"}
    assert said(mount)["opendirs"] == before


LISTS = 300
FIELDS = (
    "uid", "gid", "app", "operation", "syscall", "decision", "errno", "rules", "path", "exe", "handle",
    "view", "io",
)  # fmt: skip


def test_each_listing_is_on_the_trail_in_its_order(mounts: Mounts, store: Path) -> None:
    (store / "d/sub/c").touch(0o644)
    told = []
    for options in ((), ("--no-avc",)):
        mount = mounts.prepare(RECORDED, store, *options, *APP)
        mount.start()

        def walk(root: str) -> None:
            for number in range(LISTS):
                os.listdir(f"{root}/d")
                os.listdir(f"{root}/d/sub")
                if number % 50 == 0:
                    os.mkdir(f"{root}/new-{number}")

        call_as(ONE, walk, str(mount.mountpoint))
        call_as(ONE, lambda root: [os.rmdir(f"{root}/new-{number}") for number in range(0, LISTS, 50)],
                str(mount.mountpoint))  # fmt: skip
        assert options or said(mount)["opendirs"] > LISTS
        assert not mount.stop()
        events = [event for event in mount.events() if event.get("operation")]
        told.append([tuple(str(event.get(field)) for field in FIELDS) for event in events])
    assert sum("list" in event for event in told[0]) == 2 * LISTS
    assert told[0] == told[1]
