"""What tests of faults have in common: a policy with each sort of file, a store, and how to fill it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support.models.twins import attempt
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: faults}}
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: camera, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: look, allow: [see, read], who: {{app: gallery}}, paths: "/**"}}
  - {{id: photos, require: {{content: [image/jpeg]}}, paths: "/Checked/**"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    audit: best_effort
"""
"""/DCIM is raw (passthrough) for the camera, /Checked takes photos only, the gallery sees no places."""

PHOTO: Final = jpegs.photo_with(jpegs.exif())
PLAIN: Final = jpegs.plain(1, 200)
LARGE: Final = PLAIN[:-2] + bytes(range(256)) * 1000 + PLAIN[-2:]
"""A photo without a place that is larger than a held head."""


def furnish(store: Path) -> None:
    """Two directories that are the camera's, and a photo with a place in each."""
    for name in ("DCIM", "Checked"):
        (store / name).mkdir()
        (store / name / "a.jpg").write_bytes(PHOTO)
        for path in (store / name, store / name / "a.jpg"):
            os.chown(path, CAMERA, CAMERA)


def fill(directory: Path) -> Path:
    """Take all the space that root can get on a file system; returns the file that holds it. ext4 gives away
    what was freed once its journal is written: that is taken, too."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        before = -1
        while (at := os.fstat(file.fileno()).st_size) != before:
            before = at
            for size in (1 << 26, 1 << 22, 1 << 18, 1 << 14, 1 << 10):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), at, size)
                        at += size
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1024))
            subprocess.run(["sync", "-f", directory], check=True, timeout=30)
            time.sleep(0.1)  # until the kernel has let go of what is not in use any more
    return ballast


def errors(calls: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """What each call came to: the name of its errno, nothing if it went well."""
    return {name: attempt(call).error for name, call in calls.items()}


def written(
    path: Path | str, data: bytes, flags: int = 0, *, step: int = 65536, sync: bool = False
) -> tuple[int, str]:
    """Write a file as programs do, on after short writes: how many bytes write(2) took, and the errno that
    ended it, be it of fsync or close."""
    done = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            while done < len(data):
                done += os.write(fd, data[done : done + step])
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return done, attempt(_raiser(error)).error
    return done, ""


def _raiser(error: OSError) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again
