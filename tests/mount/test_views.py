"""Views of one file through one mount: versions, own files, redaction and writing, names that go."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support import jpegs
from tests.support.jpegs import leaks
from tests.support.mounts import Mount
from tests.support.processes import call_as, start_as

CAMERA, GALLERY, MAPS, EDITOR = 10010, 10011, 10012, 10013
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: views}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
  editor: {{uid: {EDITOR}, grants: [media.location]}}
rules:
  - {{id: read, allow: [see, read], who: {{app: [camera, gallery, maps, editor]}}, paths: "/DCIM/**"}}
  - {{id: camera, allow: [all], who: {{app: [camera, editor]}}, paths: "/DCIM/**"}}
  - {{id: gallery, allow: [see, read, write], who: {{app: gallery}}, paths: "/DCIM/**"}}
  - {{id: private, allow: [all], who: {{app: any}}, paths: "/Android/{{app}}/***"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/DCIM/**"
    unless: {{owner: self}}
"""
PHOTO = jpegs.with_segments(
    jpegs.plain(1, 64),
    jpegs.exif_segment(jpegs.exif()),
    jpegs.photoshop_segment(jpegs.resource(0x0404, jpegs.iptc_place())),
)
OTHER = jpegs.with_segments(jpegs.plain(2, 64), jpegs.exif_segment(jpegs.exif("MM")))


@pytest.fixture
def photos(empty_store: Path) -> Path:
    """A store with one photo of nobody's, with a place in it, at /DCIM/a.jpg."""
    for name in ("DCIM", "Android/camera", "Android/gallery"):
        (empty_store / name).mkdir(parents=True)
        (empty_store / name).chmod(0o777)
    (empty_store / "DCIM/a.jpg").write_bytes(PHOTO)
    (empty_store / "DCIM/a.jpg").chmod(0o666)
    return empty_store


@pytest.fixture
def mount(mounts, photos: Path) -> Mount:
    """That store behind a shared mount."""
    return mounts.start(POLICY, photos)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def code_of(function, *arguments) -> str:
    """The name of the errno that a call fails with; empty if it does not."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


# ---------------------------------------------------------------- names that go while a file is open


def _outlives_its_name(channel, path: Path) -> tuple[int, int, str, bytes]:
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    status = os.fstat(fd)
    reopened = code_of(lambda: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)))
    data = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return status.st_size, status.st_nlink, reopened, data


@pytest.mark.parametrize("app", [MAPS, GALLERY])
@pytest.mark.parametrize("where", ["mount", "store"])
@pytest.mark.parametrize("how", ["unlinked", "replaced"])
def test_an_open_file_outlives_its_name(mount, photos, app, where, how) -> None:
    child = start_as(app, _outlives_its_name, mount / "DCIM/a.jpg")
    child.receive()
    directory = (mount / "DCIM") if where == "mount" else photos / "DCIM"
    uid = EDITOR if where == "mount" else 0
    if how == "unlinked":
        call_as(uid, os.unlink, directory / "a.jpg")
    else:
        call_as(uid, write, directory / "b.jpg", OTHER)
        call_as(uid, os.rename, directory / "b.jpg", directory / "a.jpg")
    child.send("go on")
    size, links, reopened, data = child.result()
    assert where == "store" or not reopened
    assert (size, links) == (len(PHOTO), 0)
    assert bool(leaks(data)) == (app == MAPS)
    assert data[:4] == PHOTO[:4]
