"""Files with bytes that are emptied before they are written anew, where written bytes may be refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: emptied drafts}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: camera, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: own, allow: [all], who: {{app: gallery}}, paths: "/Own/**", when: {{owner: self}}}}
  - {{id: new, allow: [create], who: {{app: gallery}}, paths: "/Share/**"}}
  - {{id: both, allow: [all], who: {{app: gallery}}, paths: "/Both/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/**"}}
"""
PLACED: Final = jpegs.photo_with(jpegs.exif())
OLD: Final = jpegs.plain(3, 64)
NEW: Final = jpegs.plain(4, 200)


@pytest.fixture
def photo(empty_store: Path, request: pytest.FixtureRequest) -> Path:
    """A photo of the camera's in the store, in the directory that is the parameter."""
    empty_store.chmod(0o755)
    directory = empty_store / getattr(request, "param", "Share")
    directory.mkdir(mode=0o755)
    file = directory / "a.jpg"
    file.write_bytes(OLD)
    file.chmod(0o644)
    for path in (directory, file):
        os.chown(path, CAMERA, CAMERA)
    return file


def _overwrite(channel, path: Path, data: bytes) -> list[str]:
    """Empty a file, and go on when told: what write and close answered."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    channel.send("emptied")
    channel.recv()
    return [code_of(os.write, fd, data), code_of(os.close, fd)]


def _sync(path: Path) -> tuple[str, bytes]:
    """What fsync of a descriptor for reading answered, and what it reads."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return code_of(os.fsync, fd), os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("photo", "options", "answer"),
    [
        ("Share", (), ("", OLD)),
        ("Own", (), ("", OLD)),
        ("Both", ("--posix",), ("EBUSY", b"")),  # it may write by the policy, so it sees the writer's bytes
    ],
    ids=["may create", "may write its own", "may not write by the mode"],
    indirect=["photo"],
)
@pytest.mark.parametrize("data", [PLACED, NEW], ids=["refused", "allowed"])
def test_a_readers_fsync_puts_no_other_apps_emptied_file_over_the_old_bytes(
    mounts: Mounts, empty_store: Path, photo: Path, options: tuple[str, ...], answer: tuple[str, bytes],
    data: bytes,
) -> None:  # fmt: skip
    path = mounts.start(POLICY, empty_store, *options) / photo.relative_to(empty_store)
    writer = start_as(CAMERA, _overwrite, path, data)
    assert writer.receive() == "emptied"
    assert call_as(GALLERY, code_of, os.open, path, os.O_WRONLY) == "EACCES"
    assert call_as(GALLERY, _sync, path) == answer
    assert photo.read_bytes() == OLD
    writer.send("go on")
    assert writer.result() == ["", "EPERM" if data == PLACED else ""]
    assert photo.read_bytes() == (OLD if data == PLACED else NEW)
