"""C1: writes into a file with accepted bytes wait for their check; none of them gets in unchecked."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_closed

CAMERA, OTHER = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
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


@pytest.mark.parametrize("options", first(1, [((),), (("--app", "camera"),)]))
@pytest.mark.parametrize("ends", ["close", "kill"])
def test_no_late_byte_gets_in(
    mounts: Mounts, empty_store: Path, ends: str, options: tuple[str, ...]
) -> None:
    """Attack C1.5: Write the right kind first, and later a wrong kind in small writes that wait for their
    check; close the file, wait, or be killed
    Guard: policyfs/fs/checked/head_writes.py::Checker._unhold
    Without: ::test_it_is_in_where_late_writes_are_unjudged: unknown data is stored at a path for texts
    only
    """
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
        time.sleep(0.2)
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


def _date(path: Path) -> tuple[int, int]:
    """Write twice and set the time of modification, as tar does. Return it before and after the close."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.write(fd, FIRST)
    os.write(fd, b"a second line\n")
    os.utime(fd, ns=(10**18, 10**18))
    before = os.fstat(fd).st_mtime_ns
    os.close(fd)
    return before, path.stat().st_mtime_ns


def test_a_time_that_an_app_has_set_stays(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    path = a_mount(mount)
    assert call_as(CAMERA, _date, path) == (10**18, 10**18)
    wait_until_closed(mount)
    assert (mount.store / "notes/a").stat().st_mtime_ns == 10**18


def _map(path: Path) -> None:
    """Change a page after the last close. (mmap.mmap() of Python would keep a descriptor.)"""
    libc, size = ctypes.CDLL(None), 4000
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.write(fd, FIRST.ljust(size, b"x"))
    os.fsync(fd)
    at = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    ctypes.memmove(at + len(FIRST), WRONG, len(WRONG))
    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))


def test_a_refused_page_of_a_mapping_is_on_record(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    path = a_mount(mount)
    call_as(CAMERA, _map, path)
    wait_until_closed(mount)
    assert (mount.store / "notes/a").read_bytes() == FIRST.ljust(4000, b"x")
    assert [event["path"] for event in mount.events(operation="write", decision="deny")] == ["/notes/a"]


def _append(channel: Any, path: Path) -> None:
    """Append each received text until None comes. Call fsync before the last answer."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    while (text := channel.recv()) is not None:
        os.write(fd, text)
        channel.send("written")
    os.fsync(fd)
    channel.send("stored")


def test_appends_keep_their_order_beside_another_view(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    path, stored = a_mount(mount), mount.store / "notes/a"
    old, other = b"words \n" * 9357 + b"e", b"of the other view" * 6  # across 64 KiB
    stored.write_bytes(old)
    stored.chmod(0o666)
    writer, beside = (start_as(uid, _append, path) for uid in (CAMERA, OTHER))
    for who, text in ((writer, b"one"), (beside, other), (writer, b"two"), (writer, None), (beside, None)):
        who.send(text)
        assert who.receive()
    assert stored.read_bytes() == old + other + b"onetwo"


def test_a_reload_keeps_what_another_view_appended(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    path = a_mount(mount)
    writer = start_as(CAMERA, _append, path)
    for text in (FIRST, b"one,"):
        writer.send(text)
        writer.receive()
    call_as(CAMERA, path.chmod, 0o666)
    beside = start_as(OTHER, _append, path)
    for text in (b"of the other view,", None):
        beside.send(text)
        beside.receive()
    in_draft = "on_refused: quarantine, require: {content: text/plain}"
    mount.policy.write_text(POLICY.replace("require: {content: text/plain}", in_draft))
    assert mount.reload().returncode == 0
    for text in (b"two", None):
        writer.send(text)
        writer.receive()
    # the first order, except if a second has passed before the other view's append
    orders = b"of the other view,one,two", b"one,of the other view,two"
    assert (mount.store / "notes/a").read_bytes() in {FIRST + order for order in orders}


def test_the_end_of_the_daemon_loses_no_late_byte(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    writer = start_as(CAMERA, _append, a_mount(mount))
    for text in (FIRST, b"a second line"):
        writer.send(text)
        writer.receive()
    process = mount.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    writer.kill()
    assert (mount.store / "notes/a").read_bytes() == FIRST + b"a second line"


def test_it_is_in_where_late_writes_are_unjudged(without, empty_store: Path) -> None:
    mount = without("late-unjudged", POLICY, empty_store)
    path = a_mount(mount)
    writer = start_as(CAMERA, written, path, "close")
    assert writer.receive() is True
    writer.send("go on")
    assert [writer.receive(), writer.receive()] == ["done", "done"]
    assert (mount.store / "notes/a").read_bytes() == FIRST + WRONG
