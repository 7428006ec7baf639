"""`require: {keep: AGE}` and `policyfs undo`: what an app removes or overwrites comes back, byte for byte."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tests.support.machine.processes import tool_as
from tests.support.models.trees import inventory
from tests.support.mount.daemons import Mount, policyfs

SYNC, EDITOR = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: undo}}
apps:
  sync: {{uid: {SYNC}}}
  editor: {{uid: {EDITOR}}}
rules:
  - {{id: all, allow: [all], who: {{app: [sync, editor]}}, paths: "/**"}}
  - {{id: safe, require: {{keep: 30d}}, who: {{app: sync}}, paths: "/DCIM/***"}}
"""


def library(store: Path, number: int) -> Path:
    """Make photos of the editor's user: with modes, times, attributes, hard links, symlinks."""
    top = store / "DCIM"
    for at in range(number):
        directory = top / f"roll {at // 500}"
        if at % 500 == 0:
            directory.mkdir(parents=True)
        photo = directory / f"IMG_{at:05}.jpg"
        photo.write_bytes(hashlib.sha256(b"%d" % at).digest() * (1 + at % 90))
        os.setxattr(photo, "user.rating", b"%d" % (at % 6))
        os.chmod(photo, (0o644, 0o640, 0o600)[at % 3])
        if at % 100 == 7:
            os.link(photo, directory / f"best {at}.jpg")
        if at % 100 == 8:
            os.symlink(photo.name, directory / f"link {at}.jpg")
    for at, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.chown(path, EDITOR, EDITOR, follow_symlinks=False)
        os.utime(path, ns=(10**18 + at, 10**18 + 7 * at + 123_456_789), follow_symlinks=False)
    os.chown(top, EDITOR, EDITOR)
    os.chmod(store, 0o777)
    os.utime(top, ns=(10**18, 10**18 + 5))
    return top


def tree(store: Path) -> dict[bytes, tuple[object, ...]]:
    """What the library is: inventory(), with owners and the times of directories, the top's too."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, entry in {**inventory(store / "DCIM"), b".": None}.items():
        info = os.lstat(os.path.join(os.fsencode(store / "DCIM"), name))
        inode = None if stat.S_ISDIR(info.st_mode) else info.st_ino  # a directory may be made again
        found[name] = entry, info.st_mode, info.st_mtime_ns, info.st_uid, info.st_gid, inode
    return found


def undo(store: Path, *options: str, app: str = "sync", code: int = 0) -> str:
    said = policyfs("undo", str(store), "--app", app, "--since", "2h", *options)
    assert said.returncode == code, said
    return said.stdout + said.stderr


def differing(before: dict, after: dict) -> list[str]:
    names = sorted(before.keys() | after.keys())
    return [f"{name}: {before.get(name)} now {after.get(name)}" for name in names
            if before.get(name) != after.get(name)]  # fmt: skip


@pytest.fixture
def mount(mounts, empty_store: Path) -> Mount:
    library(empty_store, 300)
    return mounts.start(POLICY, empty_store, "--app", "sync")


def test_a_library_that_an_app_deletes_and_overwrites_comes_back(mount, empty_store: Path) -> None:
    """After `policyfs undo`, every byte, time, mode, owner, attribute and hard link is as before."""
    before = tree(empty_store)
    script = (
        f"cd '{os.fspath(mount)}/DCIM'; for f in roll*/*1.jpg; do echo encrypted > \"$f\"; done;"
        ' for f in roll*/*3.jpg; do echo more >> "$f"; done;'
        ' for f in roll*/*5.jpg; do echo new > "$f.tmp"; mv "$f.tmp" "$f"; done;'
        ' for f in roll*/*6.jpg; do : > "$f"; chmod 600 "$f"; touch "$f"; done;'
        " mv 'roll 0' gone; find . -name '*2.jpg' -delete; rm -rf gone"
    )
    said = tool_as(SYNC, "sh", "-c", script)
    assert (said.returncode, said.stderr) == (0, b"")
    assert not (empty_store / "DCIM/roll 0").exists()
    told = undo(empty_store)
    after = tree(empty_store)
    assert differing(before, after) == [], told
