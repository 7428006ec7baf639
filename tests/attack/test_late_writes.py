"""C1: writes into a file with accepted bytes wait for their check; none of them gets in unchecked."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_closed

CAMERA, OTHER = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: late}}
apps:
  camera: {{uid: {CAMERA}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: texts, require: {{content: text/plain}}, who: {{app: camera}}, paths: "/notes/**"}}
  - id: any
    require: {{content: ["text/*", "application/*"]}}
    who: {{app: other}}
    paths: "/notes/with-more-rights"
"""
FIRST: Final = b"plain words, as in a letter\n"
WRONG: Final = bytes(range(256)) * 15
"""Behind FIRST these bytes make a file of unknown data."""


def a_mount(mount: Mount) -> Path:
    (mount.store / "notes").mkdir()
    (mount.store / "notes").chmod(0o777)
    return mount / "notes/a"


def written(channel: Any, path: Path, ends: str) -> None:
    """Store words; then write wrong bytes behind them, and try to keep these bytes. Send the answers."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.pwrite(fd, FIRST, 0)
    os.fsync(fd)
    try:
        os.pwrite(fd, WRONG, len(FIRST))
    except OSError as error:
        channel.send(errno.errorcode[error.errno or 0])
    else:
        channel.send(os.pread(fd, 1 << 20, 0) == FIRST + WRONG)
    channel.recv()
    if ends == "kill":
        os.kill(os.getpid(), 9)
    for call in (os.fsync, os.close):
        try:
            call(fd)
            channel.send("done")
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


@pytest.mark.parametrize("options", [(), ("--app", "camera")], ids=["shared", "app"])
@pytest.mark.parametrize("ends", ["close", "kill"])
def test_no_late_byte_gets_in(
    mounts: Mounts, empty_store: Path, ends: str, options: tuple[str, ...]
) -> None:
    mount = mounts.start(POLICY, empty_store, *options)
    path = a_mount(mount)
    stored = mount.store / "notes/a"
    writer = start_as(CAMERA, written, path, ends)
    assert writer.receive() is True, "the writer sees its bytes while they wait"
    until = time.monotonic() + 2.5  # longer than bytes wait by themselves
    while time.monotonic() < until:
        assert stored.read_bytes() == FIRST
        if not options:
            assert call_as(OTHER, path.read_bytes) == FIRST
    writer.send("go on")
    if ends == "close":
        assert [writer.receive(), writer.receive()] == ["EPERM", "EPERM"]
    writer.kill()
    wait_until_closed(mount)
    assert stored.read_bytes() == FIRST
    assert call_as(CAMERA, path.read_bytes) == FIRST
    refused = mount.events(operation="write", decision="deny")
    assert {event["path"] for event in refused} == {"/notes/a"}


def _write_beside(channel: Any, path: Path) -> None:
    """Change one byte of the other app's file, and try to store all of it."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"W", 20)
    channel.send(code_of(os.fsync, fd))
    channel.recv()
    os.close(fd)


def test_an_app_with_more_rights_stores_no_late_byte_of_another(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    path, stored = a_mount(mount).with_name("with-more-rights"), mount.store / "notes/with-more-rights"
    writer = start_as(CAMERA, written, path, "close")
    assert writer.receive() is True
    call_as(CAMERA, path.chmod, 0o666)
    beside = start_as(OTHER, _write_beside, path)
    assert beside.receive() == ""
    changed = FIRST[:20] + b"W" + FIRST[21:]
    assert stored.read_bytes() == changed, "the apps have a node each: their checks differ"
    writer.send("go on")
    assert [writer.receive(), writer.receive()] == ["EPERM", "EPERM"]
    writer.kill()
    beside.send("close")
    beside.kill()
    wait_until_closed(mount)
    assert stored.read_bytes() == changed


def test_it_is_in_where_late_writes_are_unjudged(without, empty_store: Path) -> None:
    mount = without("late-unjudged", POLICY, empty_store)
    path = a_mount(mount)
    writer = start_as(CAMERA, written, path, "close")
    assert writer.receive() is True
    writer.send("go on")
    assert [writer.receive(), writer.receive()] == ["done", "done"]
    assert (mount.store / "notes/a").read_bytes() == FIRST + WRONG
