"""B1, B8: files with a second name (a hard link), one name of which moves, or goes.

By a second name, an app could keep rights to a file that lies where the app has no rights, or get such
rights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, start_as
from tests.support.models.model import RENAME_EXCHANGE, rename2
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/***"}}
  - {{id: look, allow: [see, read], who: {{app: gallery}}, paths: "/Look/***"}}
  - {{id: share, allow: [all], who: {{app: gallery}}, paths: "/Share/***"}}
"""
OLD: Final = b"words"


@pytest.fixture
def store(empty_store: Path) -> Path:
    for name in ("Look", "Share", "Closed"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    for name in ("Look/a", "Share/a", "Share/other"):
        (empty_store / name).write_bytes(OLD)
        (empty_store / name).chmod(0o666)
    return empty_store


def _started(mounts: Mounts, store: Path, guard: str, *options: str) -> Mount:
    mount = mounts.prepare(POLICY, store, *options)
    mount.expected_mediated = bool(options)
    if guard:
        mount.program = (WEAKENED, guard)
    return mount.start()


# ---------------------------------------------------------------- one of two names moves


def _exchange(old: Path, new: Path) -> None:
    rename2(os.fsencode(old), os.fsencode(new), RENAME_EXCHANGE)


MOVES: Final = {
    "rename": lambda mount: os.rename(mount / "Look/b", mount / "Share/b"),
    "over another": lambda mount: os.rename(mount / "Look/b", mount / "Share/other"),
    "exchange": lambda mount: _exchange(mount / "Look/b", mount / "Share/other"),
    "exchange back": lambda mount: _exchange(mount / "Share/other", mount / "Look/b"),
}


def _moved(mount: Path, way: str) -> str:
    """Give a file a second name, and move this name to where the gallery may write. Return the errno."""
    os.link(mount / "Look/a", mount / "Look/b")
    return error(MOVES[way], mount)


def _change(mount: Path) -> None:
    """Write to each file where the gallery may write."""
    for name in os.listdir(mount / "Share"):
        (mount / "Share" / name).write_bytes(b"changed")


@pytest.mark.parametrize("way", MOVES)
def test_who_may_only_read_a_file_does_not_change_it_by_its_second_name(
    mounts: Mounts, store: Path, way: str
) -> None:
    """Attack B1.3: Give a file a second name, and move one of them to where another app has more rights, so
    that it changes the file
    Guard: policyfs/fs/namespace/rename.py::Renamer._lets_in
    Without: ::test_it_does_where_each_name_counts_as_a_file
    """
    mount = _started(mounts, store, "")
    assert call_as(CAMERA, _moved, mount.mountpoint, way) == "EXDEV"
    call_as(GALLERY, _change, mount.mountpoint)
    assert (store / "Look/a").read_bytes() == OLD


def test_it_does_where_each_name_counts_as_a_file(mounts: Mounts, store: Path) -> None:
    mount = _started(mounts, store, "names-are-files")
    assert call_as(CAMERA, _moved, mount.mountpoint, "rename") == "None"
    call_as(GALLERY, _change, mount.mountpoint)
    assert (store / "Look/a").read_bytes() == b"changed"


def test_a_file_with_one_name_moves_and_names_move_where_nobody_gains(mounts: Mounts, store: Path) -> None:
    mount = _started(mounts, store, "")

    def move() -> list[str]:
        os.link(mount / "Share/a", mount / "Share/b")
        names = (("Look/a", "Share/c"), ("Share/b", "Look/b"), ("Look/b", "Look/d"), ("Share/a", "Look/d"))
        return [error(os.rename, mount / old, mount / new) for old, new in names]

    assert call_as(CAMERA, move) == ["None"] * 4


# ---------------------------------------------------------------- a file moves by link and unlink


def _use(channel: Any, path: Path) -> dict[str, str]:
    """Open a file, and use it after another app has moved it."""
    fd = os.open(path, os.O_RDWR)
    channel.send("open")
    channel.recv()
    return {
        "stat": error(os.fstat, fd),
        "chmod": error(os.fchmod, fd, 0o600),
        "times": error(os.utime, fd, (1, 1)),
        "setxattr": error(os.setxattr, fd, b"user.mine", b"x"),
        "getxattr": error(os.getxattr, fd, b"user.later"),
        "truncate": error(os.ftruncate, fd, 1),
    }


def _used(mounts: Mounts, store: Path, guard: str, *options: str) -> dict[str, str]:
    """Return what the gallery gets from its open file, after the camera has linked it to where the gallery
    may do nothing, and has removed the old name."""
    os.chown(store / "Share/a", GALLERY, GALLERY)
    mount = _started(mounts, store, guard, *options)
    child = start_as(GALLERY, _use, mount / "Share/a")
    child.receive()

    def move() -> None:
        os.link(mount / "Share/a", mount / "Closed/a")
        os.unlink(mount / "Share/a")

    call_as(CAMERA, move)
    os.setxattr(store / "Closed/a", b"user.later", b"secret")
    child.send("use it")
    used: dict[str, str] = child.result()
    assert ((store / "Closed/a").read_bytes() == OLD) == (used["truncate"] == "ENOENT")
    return used


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_an_open_file_that_was_linked_away_is_decided_by_where_it_is(
    mounts: Mounts, store: Path, options: tuple[str, ...]
) -> None:
    """Attack B8.4: Keep a file open while another app moves it to a closed path by link and unlink, and use
    the old rights: attributes, extended attributes
    Guard: policyfs/fs/access/gate.py::Gate._renamed
    Without: ::test_it_is_decided_by_its_old_name_where_nobody_looks_for_another
    """
    assert set(_used(mounts, store, "", *options).values()) == {"ENOENT"}


def test_it_is_decided_by_its_old_name_where_nobody_looks_for_another(mounts: Mounts, store: Path) -> None:
    used = _used(mounts, store, "lost-names-stay")
    assert used["getxattr"] == "b'secret'"
    assert used["setxattr"] == used["chmod"] == "None"
