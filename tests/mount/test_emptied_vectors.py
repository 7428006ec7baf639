"""A file that a writer with checked writes empties, and that another app opens again and again.

RELEASE, which empties the file, comes after the answer to close(). No open after this answer finds old bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mount.test_emptied_drafts import CAMERA, GALLERY, OLD
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts

READING: Final = ("tests.support.mount.readers_on",)
VECTORS: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: open vectors}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, who: {{app: camera}}, paths: "/**"}}
"""


def _empty_between_reads(path: Path, turns: int) -> set[int]:
    """Let the camera empty a file that the gallery reads again and again: the sizes that the gallery then
    reads."""
    seen = set()
    for _ in range(turns):
        with _as(CAMERA):
            path.write_bytes(OLD)
        with _as(GALLERY):
            _read(path, 4)
        with _as(CAMERA):
            fd = os.open(path, os.O_RDWR | os.O_TRUNC)
        with _as(GALLERY):
            _read(path, 4)
            os.close(fd)
            seen.add(_read(path))
    return seen


@contextlib.contextmanager
def _as(uid: int) -> Iterator[None]:
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def _read(path: Path, times: int = 1) -> int:
    return [len(path.read_bytes()) for _ in range(times)][-1]


def test_an_open_that_the_bridge_could_answer_finds_the_file_empty(
    mounts: Mounts, empty_store: Path
) -> None:
    """The gallery sees the file itself, and the bridge answers its opens."""
    empty_store.chmod(0o755)
    photo = empty_store / "a.jpg"
    photo.write_bytes(OLD)
    photo.chmod(0o666)
    os.chown(photo, CAMERA, CAMERA)
    mount = mounts.prepare(VECTORS, empty_store, "--avc")
    mount.program = READING
    mount.start()
    assert call_as(0, _empty_between_reads, mount / "a.jpg", 20) == {0}
    assert mount.status()["vectors"]["opens"] > 0
