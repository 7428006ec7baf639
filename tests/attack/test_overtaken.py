"""B4: a reload overtakes a change that was allowed, and whose thread begins late: the new policy decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

CAMERA: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: camera, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/Typed/**"}}
"""
READ_ONLY: Final = POLICY.replace("allow: [all]", "allow: [see, read]")
SMALL: Final = jpegs.plain(3, 64)
LARGE: Final = SMALL + bytes(24 << 20)
NEW: Final = jpegs.plain(4, 64)
"""With the zeros behind it, too large for a write that waits for its check (Checker._put_off)."""

CHANGES: Final[dict[str, tuple[str, bytes, str, Callable[[int], object]]]] = {
    "fsync of a draft": ("Share", SMALL, "FSYNC", os.fsync),
    # Only a large file is cut in a thread.
    "truncation in passthrough": ("DCIM", LARGE, "SETATTR", lambda fd: os.ftruncate(fd, 0)),
    "checked write": ("Typed", SMALL, "WRITE", lambda fd: os.pwrite(fd, NEW + bytes(8192), 0)),
}
"""Directory, the file's bytes, request and call."""


def _change(channel: Connection, path: Path, name: str) -> str:
    fd = os.open(path, os.O_RDWR)
    if name == "fsync of a draft":
        os.pwrite(fd, NEW, 0)
    channel.send("open")
    channel.recv()
    said = code_of(CHANGES[name][3], fd)
    channel.send("done")
    code_of(os.close, fd)
    return said


def overtaken(mounts: Mounts, store: Path, name: str, guards: str) -> tuple[str, bytes]:
    """A change that a reload overtakes: how it ended, and the file's bytes then."""
    directory, old, request, _ = CHANGES[name]
    file = store / directory / "a.jpg"
    file.parent.mkdir()
    file.write_bytes(old)
    for path in (file.parent, file):
        os.chown(path, CAMERA, CAMERA)
    mount = mounts.prepare(POLICY, store)
    mount.program = ("tests.attack.weakened", guards)
    mount.start()
    app = start_as(CAMERA, _change, mount / directory / "a.jpg", name)
    assert app.receive() == "open"
    before = mount.fuse(request)
    app.send("go on")
    wait_for(lambda: mount.fuse(request) > before, "the request")
    mount.policy.write_text(READ_ONLY)
    assert mount.reload().returncode == 0
    said = app.result()
    assert mount.status()["bugs"] == 0
    return said, file.read_bytes()


@pytest.mark.parametrize("name", CHANGES)
def test_a_policy_that_came_before_the_thread_decides(mounts: Mounts, empty_store: Path, name: str) -> None:
    """Attack B10.2: Reload the policy while a change waits for a check of content or for a thread: a write,
    a truncation, the end of a draft
    Guard: policyfs/fs/access/gate.py::Gate.unchanged, policyfs/fs/data/write_guard.py::WriteGuard.fence,
    policyfs/fs/checked/change_lock.py::Change.in_thread
    Also: tests/unit/test_fs_data_sync.py::test_a_policy_that_came_while_held_bytes_were_judged_decides
    Without: ::test_the_old_one_does_where_nobody_looks_again
    """
    assert overtaken(mounts, empty_store, name, "threads-begin-late") == ("EACCES", CHANGES[name][1])


@pytest.mark.parametrize("name", CHANGES)
def test_the_old_one_does_where_nobody_looks_again(mounts: Mounts, empty_store: Path, name: str) -> None:
    said, stored = overtaken(mounts, empty_store, name, "threads-begin-late,overtaken-unnoticed")
    assert said == ""
    assert stored != CHANGES[name][1]
