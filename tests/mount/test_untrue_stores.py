"""Stores that break a promise each (lying.py): nothing that an app made is lost, or the app gets an error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.linux.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, rename2
from tests.support.machine.processes import call_as
from tests.support.models.twins import error
from tests.support.mount.daemons import MountFailed
from tests.support.mount.stores import Mounts
from tests.support.mount.untrue import untrue

CAMERA, OTHER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: make, allow: [see, read, create], who: {{app: any}}, paths: ["/***"]}}
  - {{id: own, allow: [all], who: {{app: any}}, paths: ["/***"], when: {{owner: self}}}}
"""
BROKEN = (
    "unnamed", "no-unnamed", "no-flags", "exchange", "links", "trusted", "no-xattrs", "user", "birth", "full",
)  # fmt: skip


@contextlib.contextmanager
def library(arena: Path, *broken: str, machines: int = 1) -> Iterator[tuple[list[Path], list[Path]]]:
    """The store as each machine has it, and the mounts of policyfs."""
    mounts = Mounts(arena)
    with untrue(arena, *broken, machines=machines) as stores:
        if "full" not in broken:
            (stores[0] / "D").mkdir()
            (stores[0] / "D").chmod(0o777)
        try:
            yield stores, [Path(mounts.start(POLICY, store).mountpoint) for store in stores]
        finally:
            wrong = mounts.stop_all()
    assert wrong == []


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def renamed(at: Path, old: bytes, new: bytes, flags: int) -> None:
    fd = os.open(at, os.O_PATH)
    rename2(fd, old, fd, new, flags)
    os.close(fd)


@pytest.mark.parametrize("broken", BROKEN)
def test_what_an_app_makes_is_in_the_store(arena: Path, broken: str) -> None:
    with library(arena, broken) as ([store], [mount]):
        at = mount / "D"
        if broken == "full":
            assert call_as(CAMERA, error, (mount / "a").write_bytes, b"new") in {"EACCES", "ENOSPC"}
            return
        if broken in {"trusted", "no-xattrs"}:  # then nobody owns a file, and the error says so
            assert call_as(CAMERA, error, (at / "a").write_bytes, b"first") == "EACCES"
            return
        call_as(CAMERA, (at / "a").write_bytes, b"first")
        assert (store / "D/a").read_bytes() == b"first"
        assert call_as(CAMERA, error, append, at / "a", b", more") == "None"
        assert call_as(OTHER, error, append, at / "a", b"foreign") == "EACCES"
        call_as(CAMERA, (at / "b").write_bytes, b"second")
        assert call_as(CAMERA, error, renamed, at, b"b", b"a", RENAME_NOREPLACE) != "None"
        swapped = call_as(CAMERA, error, renamed, at, b"b", b"a", RENAME_EXCHANGE)
        linked = call_as(CAMERA, error, os.link, at / "b", at / "c")
        tagged = call_as(CAMERA, error, os.setxattr, at / "b", "user.tag", b"1")
        names = {"a", "b"} | ({"c"} if linked == "None" else set())
        assert set(os.listdir(store / "D")) == names, "no temporary name is left"
        files = {(store / "D" / name).read_bytes() for name in "ab"}
        assert files == {b"first, more", b"second"}
        if broken in {"no-flags", "exchange"}:
            assert swapped == "EINVAL"
        if broken == "links":
            assert linked == "EPERM"
        if broken == "user":
            assert tagged == "ENOTSUP"


@pytest.mark.parametrize(
    ("broken", "said"),
    [("bytes", "loses what"), ("size", "loses what"), ("folds", "case"), ("folds-apart", "case")],
)
def test_a_store_that_loses_files_is_refused(arena: Path, broken: str, said: str) -> None:
    with pytest.raises(MountFailed, match=said), library(arena, broken):
        pass
