"""A power cut a few seconds after files were saved without fsync: no more is lost than without policyfs.

A file system begins to write a file to the disk if the file was emptied and is closed, or if it replaces
another file. Programs that never call fsync rely on this.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.stores import Mounts, open_handles
from tests.support.samples import jpegs

CAMERA: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: power cut}}
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: ["/Raw/**", "/Kinds/**", "/Drafts/**"]}}
  - {{id: mediated, allow: [all], who: {{app: camera}}, paths: "/Mediated/**"}}
  - {{id: new, allow: [see, read, create], who: {{app: camera}}, paths: "/Own/**"}}
  - {{id: own, allow: [all], who: {{app: camera}}, paths: "/Own/**", when: {{owner: self}}}}
  - {{id: kinds, require: {{content: [image/jpeg]}}, paths: "/Kinds/**"}}
  - {{id: drafts, require: {{no: [location]}}, paths: "/Drafts/**"}}
"""
OLD: Final = jpegs.plain(1, 64)
NEW: Final = jpegs.plain(2, 200)
NATIVE: Final = "Native"
WAYS: Final = [NATIVE, "Raw", "Kinds", "Drafts", "Own", "Mediated"]


def _save(directory: Path, data: bytes) -> None:
    """Write one file over an older version that was just read, and replace another one by a new file."""
    over, new = directory / "over.jpg", directory / "new.tmp"
    if over.exists():
        over.read_bytes()
    over.write_bytes(data)
    new.write_bytes(data)
    new.rename(directory / "new.jpg")


@contextmanager
def _after_a_power_cut(image: Path, arena: Path) -> Iterator[Path]:
    """What the disk has: a copy of it, mounted."""
    copy, root = image.with_name("copy.img"), arena / "copy"
    root.mkdir()
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    subprocess.run(["mount", "-o", "loop", copy, root], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_saved_file_is_there_after_a_power_cut(mounts: Mounts, arena: Path) -> None:
    """Fault store.16: A power cut a few seconds after an app has saved a file without fsync, by emptying
    and writing or by a rename
    App: nothing (the machine is off)
    Store: as without policyfs: on ext4 and btrfs the new file, not an empty one. (Until its bytes are on
    the disk, a power cut can still cost them)
    Trail: everything that had to be on record before its answer
    """
    with file_system("ext4", arena) as root:
        subprocess.run(["mount", "-o", "remount,commit=1", root], check=True)  # names reach the disk first
        store = root / "store"
        store.mkdir(mode=0o700)
        for name in WAYS:
            (store / name).mkdir()
            os.chown(store / name, CAMERA, CAMERA)
        shared, mediated = (mounts.prepare(POLICY, store, *more) for more in ((), ("--no-passthrough",)))
        shared.start()
        mediated.expected_mediated = True
        mediated.start()
        for data in (OLD, NEW):
            os.sync()
            _save(store / NATIVE, data)
            for name in WAYS[1:]:
                call_as(CAMERA, _save, (mediated if name == "Mediated" else shared) / name, data)
        for mount in (shared, mediated):
            wait_for(lambda mount=mount: open_handles(mount.status()) == 0, "the last release")
        time.sleep(2.5)  # longer than commit=1; the kernel writes other bytes after 30 s
        with _after_a_power_cut(arena / "ext4-memory/ext4.img", arena) as cut:
            found = {
                f"{name}/{file}": (cut / "store" / name / file).read_bytes()
                for name in WAYS
                for file in ("over.jpg", "new.jpg")
            }
        assert mounts.stop_all() == []
        mounts.all.clear()
    assert [name for name, data in found.items() if data != NEW] == []
