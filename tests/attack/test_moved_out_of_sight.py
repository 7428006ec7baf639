"""B5: what one app, or the store, moves to where another may not see it.

The kernel moves its own entry with it, and with the entry the time for which everybody may use it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.model import RENAME_EXCHANGE, rename2
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_heard

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: moved}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], paths: "/***"}}
  - {{id: hidden, deny: [all], who: {{app: gallery}}, paths: ["/*/private"]}}
"""
_OPEN: Final[dict[str, int]] = {"directory": os.O_DIRECTORY, "file": 0, "path": os.O_PATH}


def _exchange(old: Path, new: Path) -> None:
    rename2(os.fsencode(old), os.fsencode(new), RENAME_EXCHANGE)


MOVES: Final[dict[str, tuple[Callable[[Path, Path], object], str, str, str]]] = {
    "file": (os.rename, "one/a", "two/private", "one/private"),
    "over another": (os.replace, "one/a", "full/private", "one/private"),
    "swapped": (_exchange, "one/a", "full/private", "one/private"),
}
"""How it is moved, from where to where, and a name that is hidden, too, but absent."""


def _found_out(path: Path) -> dict[str, str]:
    """What probing says of a name."""
    probes: dict[str, Callable[[], object]] = {
        **{f"open a {what}": lambda flags=flags: os.open(path, flags) for what, flags in _OPEN.items()},
        "what is below": lambda: os.lstat(path / "x"),
        "mkdir": lambda: os.mkdir(path),
        "readlink": lambda: os.readlink(path),
        "lstat": lambda: os.lstat(path),
        "access": lambda: os.access(path, os.F_OK),
        "rmdir": lambda: os.rmdir(path),
    }
    return {name: error(probe) for name, probe in probes.items()}


@pytest.fixture
def store(empty_store: Path) -> Path:
    for name in ("one", "two", "full"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    for name in ("one/a", "full/private"):
        (empty_store / name).write_bytes(b"words")
        (empty_store / name).chmod(0o666)
    return empty_store


def _told(mount: Mount, case: str) -> tuple[dict[str, str], dict[str, str]]:
    """What the gallery finds out of a thing that the camera has just moved, and of one that is not there."""
    move, old, new, absent = MOVES[case]
    for uid in (CAMERA, GALLERY):
        call_as(uid, os.lstat, mount / old)
    call_as(CAMERA, move, mount / old, mount / new)
    return call_as(GALLERY, _found_out, mount / new), call_as(GALLERY, _found_out, mount / absent)


@pytest.mark.parametrize("case", MOVES)
def test_it_is_as_good_as_none_at_once(mounts: Mounts, store: Path, case: str) -> None:
    """Attack B5.2: Find a file through the kernel's caches, after another app has moved it to a hidden
    path, or the store a directory above it
    Guard: policyfs/fs/namespace/rename.py::Renamer._forget_times,
    policyfs/fs/inodes/node_table.py::NodeTable.found_at
    Also: ::test_what_is_below_a_directory_that_the_store_moves_is_seen_by_the_rules_of_its_new_path
    Without: ::test_it_is_not_where_names_keep_their_time
    """
    mount = mounts.start(POLICY, store)
    told, of_none = _told(mount, case)
    assert told == of_none


@pytest.mark.parametrize("case", MOVES)
def test_it_is_not_where_names_keep_their_time(mounts: Mounts, store: Path, case: str) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.program = ("tests.attack.weakened", "moved-with-time")
    mount.start()
    told, of_none = _told(mount, case)
    assert told != of_none


def _in_it(channel, directory: Path) -> None:
    """Have a directory open, and be in it. Then tell what is found out of it, when the test asks."""
    fd = os.open(directory, os.O_RDONLY)
    os.chdir(directory)
    channel.send("there")
    while channel.recv():
        probes: dict[str, Callable[[], object]] = {
            "list": lambda: os.listdir(fd),
            "stat": lambda: os.stat("f"),
            "open": lambda: os.open("f", os.O_RDONLY),
            "open by descriptor": lambda: os.open("f", os.O_RDONLY, dir_fd=fd),
            "write": lambda: os.open("f", os.O_WRONLY),
            "make": lambda: os.open("new", os.O_CREAT | os.O_WRONLY),
            "mkdir": lambda: os.mkdir("newer"),
            "remove": lambda: os.unlink("f"),
            "rename": lambda: os.rename("f", "g"),
            "below": lambda: os.listdir("inner"),
        }
        channel.send({name: error(probe) for name, probe in probes.items()})


def _from_inside(mount: Mount, store: Path) -> dict[str, str]:
    """What the gallery finds out of a directory in which it is, after the store has moved it out of sight."""
    (store / "one/d/inner").mkdir(parents=True)
    (store / "one/d/f").write_bytes(b"words")
    for name in ("one/d", "one/d/inner", "one/d/f"):
        (store / name).chmod(0o777)
    child = start_as(GALLERY, _in_it, mount / "one/d")
    assert child.receive() == "there"
    os.rename(store / "one/d", store / "two/private")
    wait_until_heard(mount)
    child.send(True)
    found = child.receive()
    child.kill()
    return found


@pytest.mark.parametrize("options", [(), ("--app", "gallery")], ids=["shared", "app"])
def test_who_is_in_a_directory_that_is_moved_out_of_sight_is_decided_by_the_new_path(
    mounts: Mounts, store: Path, options: tuple[str, ...]
) -> None:
    found = _from_inside(mounts.start(POLICY, store, *options), store)
    assert set(found.values()) == {"ENOENT"}, found
    assert (store / "two/private/f").read_bytes() == b"words"
    assert sorted(os.listdir(store / "two/private")) == ["f", "inner"]


def test_who_is_in_it_goes_on_where_the_old_rules_stay(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.program = ("tests.attack.weakened", "moved-keep-rules")
    mount.start()
    found = _from_inside(mount, store)
    assert "ENOENT" not in {found[name] for name in ("list", "stat", "open", "write")}, found


BELOW: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: below}}
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], paths: "/***"}}
  - {{id: secret, deny: [all], paths: "/closed/**/secret*"}}
"""


def _below(path: Path) -> tuple[list[str], bool, bool]:
    return sorted(os.listdir(path)), (path / "secret").exists(), (path / "absent").exists()


@pytest.mark.parametrize(("old", "new"), [("open", "closed"), ("closed", "open")])
def test_what_is_below_a_directory_that_the_store_moves_is_seen_by_the_rules_of_its_new_path(
    mounts: Mounts, empty_store: Path, old: str, new: str
) -> None:
    """Names, absent names and listings below stay in the kernel while the directory keeps its node."""
    shown = {"open": (["other", "secret"], True, False), "closed": (["other"], False, False)}
    (empty_store / old / "d").mkdir(parents=True)
    for name in ("other", "secret"):
        (empty_store / old / "d" / name).write_bytes(b"words")
    mount = mounts.start(BELOW, empty_store, "--app", "camera")
    for _ in range(2):
        assert call_as(CAMERA, _below, mount / old / "d") == shown[old]
    (empty_store / old).rename(empty_store / new)
    wait_for(lambda: call_as(CAMERA, os.listdir, mount.mountpoint) == [new], "the move is seen")
    assert call_as(CAMERA, _below, mount / new / "d") == shown[new]
