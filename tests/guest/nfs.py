"""A store on NFS: Linux's own server and client, on one machine. tests/mount/test_guest.py runs it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.mount.test_other_stores import (  # noqa: F401 - the tests of every store
    CAMERA,
    GALLERY,
    MAPS,
    PHOTO,
    POLICY,
    Kind,
    Library,
    furnish,
    test_changes_in_the_store_are_seen,
    test_everyone_sees_what_the_policy_says,
    test_what_apps_write_arrives_whole_and_is_theirs,
)
from tests.support.machine.processes import call_as
from tests.support.models.twins import error
from tests.support.mount import layers
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)


def serve() -> None:
    """Start the server, once for the machine."""
    if Path("/proc/fs/nfsd/threads").read_text().strip() != "0":
        return
    for daemon in ("rpcbind", "rpc.statd", "rpc.mountd"):
        run(daemon)
    run("rpc.nfsd", "--grace-time", "10", "4")
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # no client has anything to reclaim


@contextlib.contextmanager
def nfs(source: Path, directory: Path, version: str, squash: str) -> Iterator[Path]:
    """*source* as an NFS server serves it; yields where it is mounted. squash: how it reads uids."""
    serve()
    target = directory / "nfs"
    target.mkdir(parents=True)
    export = f"127.0.0.1:{source}"
    run("exportfs", "-o", f"rw,{squash},no_subtree_check,insecure,sec=sys,fsid=0", export)
    try:
        served = "127.0.0.1:/" if version.startswith("4") else export
        layers.mount("-t", "nfs", "-o", f"vers={version},actimeo=0", served, target)
        try:
            yield target
        finally:
            layers.unmount(target)
    finally:
        run("exportfs", "-u", export)


@dataclass(frozen=True, slots=True)
class Export:
    """How a server exports a store. root_as: the uid that root and everyone are there, or 0."""

    version: str
    squash: str
    root_as: int = 0


SERVED: Final = {
    "v4-as-root": Export("4.2", "no_root_squash"),
    "v3-as-root": Export("3", "no_root_squash"),
    "v4-all-as-one": Export("4.2", "all_squash,anonuid=1000,anongid=1000", 1000),
    "v3-all-as-one": Export("3", "all_squash,anonuid=1000,anongid=1000", 1000),
}
KINDS: Final = [
    Kind(
        name,
        passes=False,
        large=served.version != "3",
        owned=False,
        tags=served.version != "3",
        gives=not served.root_as,
    )
    for name, served in SERVED.items()
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def library(kind: Kind, mounts: Mounts, empty_store: Path, tmp_path: Path) -> Iterator[Library]:
    served = SERVED[kind.name]
    tmp_path.chmod(0o700)
    furnish(empty_store)
    for path in (empty_store, *empty_store.rglob("*")):
        os.chown(path, served.root_as, served.root_as)
    with nfs(empty_store, tmp_path, served.version, served.squash) as store:
        mount = mounts.start(POLICY, store, "--copy-max", "1M")
        mount.expected_mediated = True
        try:
            yield Library(store, mount, empty_store)
        finally:
            wrong = mounts.stop_all()
    assert wrong == []


PLAIN: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: plain}}
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/***"}}
"""


def refused_lock(path: Path) -> str:
    """Try to lock a file in both ways, one after the other: on NFS both are locks of one sort."""
    for take in (fcntl.lockf, fcntl.flock):
        with path.open("r+b") as file:
            try:
                take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "held"
    return ""


@pytest.mark.parametrize("version", ["4.2", "3"])
def test_a_lock_in_the_store_holds_in_every_mount(
    mounts: Mounts, empty_store: Path, tmp_path: Path, version: str
) -> None:
    (empty_store / "db").write_bytes(b"x")
    (empty_store / "db").chmod(0o666)
    with nfs(empty_store, tmp_path, version, "no_root_squash") as store:
        first, second = (mounts.start(PLAIN, store) for _ in range(2))
        for mount in (first, second):
            mount.expected_mediated = True
        assert call_as(CAMERA, refused_lock, first / "db") == ""
        with (store / "db").open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            assert call_as(CAMERA, refused_lock, first / "db") == "held"
            assert call_as(CAMERA, refused_lock, second / "db") == "held"
        assert call_as(CAMERA, refused_lock, second / "db") == ""
        assert mounts.stop_all() == []


def test_doctor_tells_whose_new_files_are(kind: Kind, library: Library) -> None:
    store, _, _ = library
    said = doctor(store)["new files"]
    expected = "made by root, then given to the app" if kind.gives else "they belong to uid 1000"
    assert expected in said, said


@pytest.mark.parametrize("version", ["4.2", "3"])
def test_what_root_may_not_open_no_app_gets(
    mounts: Mounts, empty_store: Path, tmp_path: Path, version: str
) -> None:
    """With root_squash the daemon opens what nobody may open; and this is said, before and after."""
    furnish(empty_store)
    for path in (empty_store, *empty_store.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    (empty_store / "Private/diary.txt").chmod(0o600)
    with nfs(empty_store, tmp_path, version, "root_squash") as store:
        said = doctor(store)["new files"]
        assert said.startswith("bad") and "root_squash" in said and "no_root_squash" in said, said
        mount = mounts.start(POLICY, store, "--copy-max", "1M")
        mount.expected_mediated = True
        assert "root_squash" in mount.log.read_text()
        assert not jpegs.leaks(call_as(GALLERY, Path.read_bytes, mount / "DCIM/a.jpg"))
        assert call_as(MAPS, Path.read_bytes, mount / "DCIM/a.jpg") == PHOTO
        assert call_as(GALLERY, error, os.stat, mount / "Private/diary.txt") == "ENOENT"
        assert call_as(CAMERA, error, Path.read_bytes, mount / "Private/diary.txt") == "EACCES"
        call_as(CAMERA, os.mkdir, mount / "DCIM/drawer")
        assert (empty_store / "DCIM/drawer").stat().st_uid == CAMERA
        assert mounts.stop_all() == []
    empty_store.chmod(0o700)
    with nfs(empty_store, tmp_path / "again", version, "root_squash") as store:
        said = doctor(store)["store"]
        assert said.startswith("bad") and "root_squash" in said, said


def doctor(store: Path) -> dict[str, str]:
    """Return the findings of `policyfs doctor STORE` by their names, each with its state and remedy."""
    command = [sys.executable, "-m", "policyfs.cli.main", "doctor", store]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found: dict[str, str] = {}
    name = ""
    for line in done.stdout.splitlines():
        state, rest = line[:6].strip(), line[6:]
        if state:
            name = re.split(r"\s{2,}", rest)[0]
        found[name] = f"{found.get(name, '')} {state} {rest}".strip()
    return found
