"""B5: a file with two names in the store, one of which the daemon has never seen.

An app removes the known name of the file that it has open, and gives the file a name where it has more
rights (linkat of a descriptor). The rules for the unknown name must hold for the file as before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.calls import name_it
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: reads, allow: [see, read, delete], who: {{app: camera}}, paths: "/Read/***"}}
  - {{id: writes, allow: [see, write, delete], who: {{app: camera}}, paths: "/Write/***"}}
  - {{id: own, allow: [all], who: {{app: camera}}, paths: "/Own/***"}}
  - {{id: redact, require: {{redact: location}}, who: {{app: camera}}, paths: ["/Redact/**", "/Shown/**"]}}
  - {{id: redacted, allow: [see, read, delete], who: {{app: camera}}, paths: "/Redact/***"}}
  - {{id: shows, allow: [see, read, create], who: {{app: camera}}, paths: "/Shown/***"}}
  - {{id: shown, allow: [see, read], who: {{app: gallery}}, paths: "/Shown/***"}}
"""
TARGETS: Final = {"Read": "Own/taken", "Write": "Own/taken", "Redact": "Shown/taken"}
"""Directories with a file of which an app may do only a part, and a name that gives the rest."""
PHOTO: Final = jpegs.photo_with(jpegs.exif())


def _take(mount: Path, directory: str) -> str:
    """Open the file, remove its known name, and name it elsewhere. Return what linkat said."""
    flags = os.O_WRONLY if directory == "Write" else os.O_RDONLY
    fd = os.open(mount / directory / "known", flags)
    os.unlink(mount / directory / "known")
    taken = mount / TARGETS[directory]
    told = name_it(fd, taken)
    if told == "None" and directory == "Read":
        taken.write_bytes(b"OVERWRITTEN")
    os.close(fd)
    return told


@pytest.fixture
def store(empty_store: Path) -> Path:
    for name in (*TARGETS, "Own", "Shown"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    for name in TARGETS:
        (empty_store / name / "known").write_bytes(PHOTO)
        (empty_store / name / "known").chmod(0o666)
        os.link(empty_store / name / "known", empty_store / name / "unknown")
    return empty_store


def _gained(mount: Mount, store: Path, directory: str) -> bool:
    """Return True if somebody got more than the rules give."""
    told = call_as(CAMERA, _take, mount.mountpoint, directory)
    assert (store / directory / "unknown").exists()
    if told != "None":
        return False
    if directory == "Read":
        return (store / directory / "unknown").read_bytes() != PHOTO
    reader = CAMERA if directory == "Write" else GALLERY
    return call_as(reader, (mount / TARGETS[directory]).read_bytes) == PHOTO


@pytest.mark.parametrize("directory", TARGETS)
def test_a_file_with_a_name_that_nobody_looked_up_gets_no_name_elsewhere(
    mounts: Mounts, store: Path, directory: str
) -> None:
    """Attack B1.4: Remove the one known name of an open file with two names, and give it a name (linkat)
    where the app has more rights
    Guard: policyfs/fs/inodes/resolver.py::Resolver.locate
    Without: ::test_it_does_where_descriptors_get_names
    """
    assert not _gained(mounts.start(POLICY, store), store, directory)
    assert (store / directory / "unknown").read_bytes() == PHOTO


@pytest.mark.parametrize("directory", TARGETS)
def test_it_does_where_descriptors_get_names(mounts: Mounts, store: Path, directory: str) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.program = (WEAKENED, "named-descriptors")
    mount.start()
    assert _gained(mount, store, directory)
