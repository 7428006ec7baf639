"""A directory that an app has open is removed elsewhere: in the store, or through another mount of it.

The app sees what it sees natively when somebody else removes the directory that it is in: attributes
without links, an empty listing, no name. Of one that was moved out of the store it is never told that
it is empty. (test_moved_elsewhere.py: moves within the store.)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10321
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {APP}}}
  two: {{uid: {APP + 1}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/Both/***"]}}
  - {{id: one, allow: [all], who: {{app: one}}, paths: ["/One/***"]}}
"""


def _error(function, *arguments, **more) -> object:
    try:
        return function(*arguments, **more)
    except OSError as error:
        return os.strerror(error.errno or 0)


def inside(channel, directory: Path) -> None:
    """What one who has the directory open, and is in it, is told each time that the test asks."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(directory)
    channel.send("there")
    while channel.recv():
        channel.send(
            {
                "links": _error(lambda: os.fstat(fd).st_nlink),
                "links here": _error(lambda: os.stat(".").st_nlink),
                "listing": _error(os.listdir, fd),
                "a name": _error(os.stat, "f", dir_fd=fd),
                "a name here": _error(os.stat, "f"),
                "a new file": _error(os.open, "new", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd),
                "a new directory": _error(os.mkdir, "new"),
            }
        )


def start_inside(directory: Path) -> Child:
    """The app, in the directory."""
    child = start_as(APP, inside, directory)
    assert child.receive() == "there"
    return child


def ask(child: Child) -> dict[str, object]:
    """What it sees now."""
    child.send(True)
    return child.receive()


def furnish(top: Path) -> None:
    for name in ("Both", "One"):
        (top / name / "d").mkdir(parents=True)
        (top / name / "d/f").write_bytes(b"x")
        for path in (top / name, top / name / "d"):
            path.chmod(0o777)


@pytest.fixture
def natively(arena: Path) -> dict[str, object]:
    """What the app sees without a mount."""
    top = arena / "native"
    top.mkdir()
    furnish(top)
    child = start_inside(top / "Both/d")
    (top / "Both/d/f").unlink()
    (top / "Both/d").rmdir()
    return ask(child)


@pytest.fixture(params=first(1, [("shared",), ("app",)]))
def mount(request: pytest.FixtureRequest, mounts: Mounts, empty_store: Path) -> Mount:
    furnish(empty_store)
    return mounts.start(POLICY, empty_store, *(("--app", "one") if request.param == "app" else ()))


@pytest.mark.parametrize("place", ["Both", "One"])
def test_who_is_in_a_directory_that_is_removed_elsewhere_sees_what_is_seen_natively(
    mount: Mount, empty_store: Path, natively: dict[str, object], place: str
) -> None:
    assert (natively["links"], natively["listing"]) == (0, [])
    child = start_inside(mount / f"{place}/d")
    (empty_store / place / "d/f").unlink()
    (empty_store / place / "d").rmdir()
    at_once = ask(child)
    kept = {"links", "links here"} if mount.options else set()  # an app mount's attributes, until told
    assert {name for name in natively if at_once[name] != natively[name]} <= kept
    events = mount.status()["watch"]["events"]
    (empty_store / place / "later").mkdir()
    wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told of it")
    assert ask(child) == natively
    child.kill()


def test_a_directory_that_left_the_store_is_not_told_to_be_empty(
    mount: Mount, empty_store: Path, arena: Path
) -> None:
    child = start_inside(mount / "Both/d")
    (empty_store / "Both/d").rename(arena / "outside")
    # Before the watch tells of the move, a name is looked up where the directory is now, and may then stay in
    # the kernel until its attributes expire. All callers are shown it alike, so in the shared mount, too.
    wait_for(lambda: ask(child)["a name here"] == "Stale file handle", "the name is gone")
    events = mount.status()["watch"]["events"]
    for _ in range(2):
        said = ask(child)
        assert said["listing"] in (["f"], "Stale file handle"), said
        assert said["a name here"] == "Stale file handle", said
        (empty_store / "Both/later").mkdir(exist_ok=True)
        wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told of it")
    child.kill()
