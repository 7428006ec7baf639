"""C1 and C2: content of the wrong kind, brought in by every way to write; and the right kind by the same.

Where only photos may be written, whatever is tried: at no time does the store hold a byte of the
wrong kind, and a new file that was refused is not there afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.corners import Corner
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

CAMERA, OTHER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/*/DCIM/**"}}
  - {{id: private, allow: [all], who: {{app: any}}, paths: "/*/private/***"}}
  - {{id: photos, require: {{content: [image/jpeg, image/png]}}, paths: "/*/DCIM/**"}}
"""
RIGHT: Final = jpegs.plain(1, 200) * 1
WRONG: Final = {
    "text": b"these are words, not a picture\n" * 300,
    "program": Path("/bin/true").read_bytes()[:9000],
    "page": b"<!DOCTYPE html><html><script>alert(1)</script></html>\n" * 150,
    "two bytes of a photo": b"\xff\xd8 and then words, and more words\n" * 250,
}
BIG_RIGHT: Final = RIGHT[:-2] + b"\0" * 150_000 + b"\xff\xd9"
CREATE: Final = os.O_RDWR | os.O_CREAT


def with_places(corner: Corner) -> Corner:
    """A place for photos only, and one for anything."""
    for name in ("DCIM", "private"):
        (corner.store / name).mkdir()
        (corner.store / name).chmod(0o777)
    return corner


@pytest.fixture
def mount(corner_of) -> Corner:
    return with_places(corner_of(POLICY))


@pytest.fixture
def stored(mount) -> Path:
    """What of it is in the store."""
    return mount.store


class Script:
    """One file being written by a script of calls; failures are collected, not raised."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed: list[str] = []

    def open(self, flags: int = CREATE) -> int:
        return os.open(self.path, flags, 0o644)

    def call(self, function: Callable, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            self.failed.append(errno.errorcode[error.errno or 0])
            return None

    def close(self, *fds: int) -> None:
        for fd in fds:
            self.call(os.close, fd)


def at_once(script: Script, data: bytes) -> None:
    fd = script.open()
    script.call(os.write, fd, data)
    script.close(fd)


def byte_by_byte(script: Script, data: bytes) -> None:
    fd = script.open()
    for at in range(530):
        script.call(os.pwrite, fd, data[at : at + 1], at)
    script.call(os.pwrite, fd, data[530:], 530)
    script.close(fd)


def appending(script: Script, data: bytes) -> None:
    fd = script.open(CREATE | os.O_APPEND)
    for at in range(0, len(data), 197):
        script.call(os.write, fd, data[at : at + 197])
    script.close(fd)


def two_handles(script: Script, data: bytes) -> None:
    fds = [script.open(CREATE | os.O_APPEND) for _ in range(2)]
    for at in range(0, len(data), 153):
        script.call(os.write, fds[at // 153 % 2], data[at : at + 153])
    script.close(*fds)


def with_dups(script: Script, data: bytes) -> None:
    """A descriptor is duplicated and closed again and again: FLUSH is no end of file."""
    fd = script.open()
    for at in range(0, len(data), 101):
        script.call(os.pwrite, fd, data[at : at + 101], at)
        if at < 1000:
            with contextlib.suppress(OSError):
                os.close(os.dup(fd))
    script.close(fd)


def with_fsync(script: Script, data: bytes) -> None:
    """fsync before the kind is known is an error or durable, never a lie."""
    fd = script.open()
    for at in range(0, len(data), 512):
        script.call(os.pwrite, fd, data[at : at + 512], at)
        if at == 0:
            with contextlib.suppress(OSError):
                os.fsync(fd)
    script.call(os.fsync, fd)
    script.close(fd)


def vectors(script: Script, data: bytes) -> None:
    fd = script.open()
    script.call(os.pwritev, fd, [data[:1], data[1:2], data[2:50]], 0)
    script.call(os.pwritev, fd, [data[50:]], 50)
    script.close(fd)


def sized_first(script: Script, data: bytes) -> None:
    fd = script.open()
    script.call(os.ftruncate, fd, 0)
    script.call(os.pwrite, fd, data, 0)
    script.call(os.ftruncate, fd, len(data))
    script.close(fd)


def made_elsewhere(script: Script, data: bytes) -> None:
    """Made in another directory, and moved as mv does: by a copy if a look takes too long for a rename."""
    source = script.path.parents[1] / "private" / script.path.name
    source.write_bytes(data)
    try:
        os.rename(source, script.path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            script.failed.append(errno.errorcode[error.errno or 0])
        else:
            at_once(script, data)


def opened_again(script: Script, data: bytes) -> None:
    """Made by mknod, then opened, closed and opened once more."""
    script.call(os.mknod, script.path, 0o100644)
    script.close(script.open(os.O_RDWR))
    fd = script.open(os.O_RDWR)
    script.call(os.write, fd, data)
    script.close(fd)


def backwards(script: Script, data: bytes) -> None:
    fd = script.open()
    for at in range(len(data) // 200 * 200, -1, -200):
        script.call(os.pwrite, fd, data[at : at + 200], at)
    script.close(fd)


def with_a_hole(script: Script, data: bytes) -> None:
    fd = script.open()
    script.call(os.pwrite, fd, data[4096:], 4096)
    script.call(os.pwrite, fd, data[:4096], 0)
    script.close(fd)


def reserved(script: Script, data: bytes) -> None:
    """A file's length is reserved before its bytes come, as by programs that load files from elsewhere."""
    fd = script.open()
    script.call(os.posix_fallocate, fd, 0, len(data))
    script.call(os.pwrite, fd, data, 0)
    script.close(fd)


def tail_first(script: Script, data: bytes) -> None:
    """The first write is beyond all that is ever looked at."""
    fd = script.open()
    script.call(os.pwrite, fd, data, 100_000)
    script.call(os.pwrite, fd, data, 0)
    script.close(fd)


def mapped(script: Script, data: bytes) -> None:
    fd = script.open()
    if script.call(os.ftruncate, fd, len(data)) is None and not script.failed:
        try:
            with mmap.mmap(fd, len(data)) as memory:
                memory[:] = data
                script.call(memory.flush)
        except OSError as error:
            script.failed.append(errno.errorcode[error.errno or 0])
    script.close(fd)


def spliced(script: Script, data: bytes) -> None:
    """Through a pipe, without a copy in user space."""
    fd = script.open()
    read_end, write_end = os.pipe()
    for at in range(0, len(data), 4096):
        os.write(write_end, data[at : at + 4096])
        script.call(os.splice, read_end, fd, 4096)
    script.close(fd, read_end, write_end)


def sent(script: Script, data: bytes) -> None:
    """sendfile and copy_file_range from a file of the app's own."""
    source = script.path.parents[1] / "private" / f"{script.path.name}.source"
    source.write_bytes(data)
    source_fd, fd = os.open(source, os.O_RDONLY), script.open()
    done = script.call(os.copy_file_range, source_fd, fd, len(data)) or 0
    if done < len(data):
        script.call(os.sendfile, fd, source_fd, done, len(data) - done)
    script.close(source_fd, fd)


WAYS: Final = [
    *(at_once, byte_by_byte, appending, two_handles, with_dups, with_fsync, vectors, sized_first),
    *(made_elsewhere, opened_again, backwards, with_a_hole, reserved, mapped, spliced, sent),
]
"""By these the right content must get in; by none the wrong one."""


def run(mount: Corner, way: Callable, data: bytes, name: str) -> list[str]:
    """One file written in one way, as the camera; what failed."""

    def script() -> list[str]:
        one = Script(mount / "DCIM" / name)
        way(one, data)
        return one.failed

    return call_as(CAMERA, script)


def settled(path: Path) -> bytes | None:
    """What the store has in the end: RELEASE comes a moment after close()."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not path.exists(), "gone", 0.3)
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("way", [*WAYS, tail_first], ids=lambda way: way.__name__)
def test_the_wrong_content_leaves_nothing_behind_and_the_right_one_gets_in(mount, stored, way) -> None:
    """Attack C1.1: Write a wrong kind in small steps, backwards, with holes, by two handles, through a
    mapping; write the right kind first and a wrong one later
    Guard: policyfs/fs/checked/head_writes.py::Checker.write
    Also: ::test_a_photo_does_not_become_something_else,
    tests/attack/test_content_unguarded.py::test_an_app_mount_lets_no_wrong_content_in
    Without: tests/attack/test_content_unguarded.py::test_it_is_in_where_nothing_is_judged
    """
    for name, data in WRONG.items():
        failed = run(mount, way, data, name)
        assert failed, f"{name}: no call failed"
        assert set(failed) <= {"EPERM", "EIO"}, f"{name}: {failed}"
    for name in WRONG:
        left = settled(stored / "DCIM" / name)
        assert left is None or (left == b"" and way is opened_again), name  # mknod had made it empty
    failed = run(mount, way, RIGHT, "right.jpg")
    assert failed == []
    expected = RIGHT.ljust(100_000, b"\0") + RIGHT if way is tail_first else RIGHT
    assert (stored / "DCIM/right.jpg").read_bytes() == expected
    assert mount.events(operation="write", decision="deny", rules=["photos"]) or way is made_elsewhere


# ------------------------------------------------------------- first right, then something else


def _overwritten(path: Path, fd: int) -> None:
    os.pwrite(fd, WRONG["text"], 0)


def _first_byte(path: Path, fd: int) -> None:
    os.pwrite(fd, b"x", 0)


def _cut_and_rewritten(path: Path, fd: int) -> None:
    os.ftruncate(fd, 2)
    os.pwrite(fd, WRONG["text"], 2)


def _cut_by_path(path: Path, fd: int) -> None:
    os.truncate(path, 1)


def _through_another_handle(path: Path, fd: int) -> None:
    other = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(other, WRONG["program"], 0)
    finally:
        os.close(other)


def _through_a_mapping(path: Path, fd: int) -> None:
    with mmap.mmap(fd, 4096) as memory:
        memory[:400] = WRONG["text"][:400]
        memory.flush()


def _spliced_over(path: Path, fd: int) -> None:
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, WRONG["text"][:4000])
        os.splice(read_end, fd, 4000, offset_dst=0)
    finally:
        os.close(read_end)
        os.close(write_end)


CHANGES: Final = [
    *(_overwritten, _first_byte, _cut_and_rewritten, _cut_by_path, _through_another_handle),
    *(_through_a_mapping, _spliced_over),
]


@pytest.mark.parametrize("closed_between", [False, True], ids=["same open", "opened again"])
@pytest.mark.parametrize("data", [RIGHT, BIG_RIGHT], ids=["small", "larger than its head"])
def test_a_photo_does_not_become_something_else(mount, stored, data, closed_between) -> None:
    photo = stored / "DCIM/a.jpg"

    def attempt(change: Callable) -> str:
        path = mount / "DCIM/a.jpg"
        fd = os.open(path, CREATE | os.O_TRUNC, 0o644)
        os.write(fd, data)
        if closed_between:
            os.close(fd)
            fd = os.open(path, os.O_RDWR)
        try:
            change(path, fd)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        return ""

    for change in CHANGES:
        said = call_as(CAMERA, attempt, change)
        assert said in {"EPERM", "EIO"}, change.__name__
        kept = photo.read_bytes()
        assert kept.startswith(b"\xff\xd8\xff"), change.__name__
        assert kept == data[: len(kept)], change.__name__


def test_emptied_and_written_with_something_else_stays_as_it_was(mount, stored) -> None:
    path = mount / "DCIM/a.jpg"
    call_as(CAMERA, path.write_bytes, RIGHT)

    def rewrite() -> list[str]:
        fd = os.open(path, os.O_RDWR)
        os.ftruncate(fd, 0)
        return [code_of(os.write, fd, WRONG["text"]), code_of(os.close, fd)]

    assert call_as(CAMERA, rewrite) == ["EPERM", "EPERM"]
    assert (stored / "DCIM/a.jpg").read_bytes() == RIGHT


def test_an_empty_file_stands_and_a_killed_writer_leaves_nothing(mount, stored) -> None:
    call_as(CAMERA, (mount / "DCIM/empty").touch)
    assert (stored / "DCIM/empty").read_bytes() == b""

    def hold(channel) -> None:
        for name, data in (("killed.jpg", WRONG["text"][:3]), ("whole.jpg", RIGHT)):
            with contextlib.suppress(OSError):
                os.write(os.open(mount / "DCIM" / name, CREATE, 0o644), data)
        channel.send("written")
        signal.pause()

    writer = start_as(CAMERA, hold)
    writer.receive()
    writer.kill()
    wait_for(lambda: not (stored / "DCIM/killed.jpg").exists(), "killed.jpg is gone")
    assert (stored / "DCIM/whole.jpg").read_bytes() == RIGHT


def test_fsync_and_close_of_a_dup_tell_the_truth(mount, stored) -> None:
    """C2: before the kind is known they are errors, not lies; the bytes stay held and can still get in.

    Attack C2.1: Have a part of a file stored, or bytes confirmed that are not: by close of a copy,
    fsync, or a crash of writer or daemon
    Guard: policyfs/fs/checked/head_writes.py::Checker.settle
    Also: ::test_an_empty_file_stands_and_a_killed_writer_leaves_nothing,
    tests/attack/test_content_unguarded.py::test_a_crash_in_the_midst_leaves_no_half_and_broke_no_promise
    Without:
    tests/attack/test_content_unguarded.py::test_a_promise_is_broken_where_fsync_says_yes_to_what_is_held
    """

    def script(channel) -> list[str]:
        one = Script(mount / "DCIM/a.jpg")
        fd = one.open()
        os.write(fd, RIGHT[:2])
        one.call(os.fsync, fd)
        one.call(os.fdatasync, fd)
        one.call(os.close, os.dup(fd))
        channel.send(os.fstat(fd).st_size)
        channel.recv()
        os.write(fd, RIGHT[2:])
        os.fsync(fd)
        channel.send("synced")
        channel.recv()
        os.close(os.dup(fd))
        os.close(fd)
        return one.failed

    writer = start_as(CAMERA, script)
    assert writer.receive() == 2, "the writer sees what it has written"
    assert (stored / "DCIM/a.jpg").read_bytes() == b""
    writer.send("go on")
    assert writer.receive() == "synced"
    assert (stored / "DCIM/a.jpg").read_bytes() == RIGHT
    writer.send("go on")
    assert writer.result() == ["EPERM"] * 3


# ------------------------------------------------------------- moved in


def move_with_a_writer(corner: Corner, mapping: bool) -> str:
    """As the camera: move a photo in, while a descriptor or a mapping of it can be written."""

    def attempt() -> str:
        source, target = corner / "private/x.jpg", corner / f"DCIM/moved-{mapping}.jpg"
        source.write_bytes(RIGHT)
        fd = os.open(source, os.O_RDWR)
        memory = mmap.mmap(fd, len(RIGHT))
        if mapping:
            os.close(fd)
        try:
            os.rename(source, target)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        with contextlib.suppress(OSError):
            if mapping:
                memory[:100] = b"w" * 100
                memory.flush()
            else:
                os.pwrite(fd, WRONG["text"], 0)
        return "moved"

    return call_as(CAMERA, attempt)


def swap_while_moving(corner: Corner, other: Mount, turns: range) -> list[str]:
    """While the daemon looks at a photo that is to be moved in, another file takes its name.

    Through another mount of the store: in one mount the kernel holds both directories meanwhile.
    Returns the names of moved files that are no photos.
    """
    elsewhere = other / corner.name / "private"

    def race() -> int:
        source, words = corner / "private/x.jpg", corner / "private/words"
        moved = 0
        for turn in turns:
            source.write_bytes(RIGHT + bytes([turn % 251]))
            words.write_bytes(WRONG["text"])

            def swap(start: threading.Barrier, after_s: float) -> None:
                start.wait()
                time.sleep(after_s)
                with contextlib.suppress(OSError):
                    os.rename(elsewhere / "words", elsewhere / "x.jpg")

            start = threading.Barrier(2)
            thread = threading.Thread(target=swap, args=(start, turn % 16 * 0.0001))
            thread.start()
            start.wait()
            with contextlib.suppress(OSError):
                os.rename(source, corner / f"DCIM/{turn}.jpg")
                moved += 1
            thread.join()
        return moved

    moved = call_as(CAMERA, race, deadline_s=100)
    photos = [path for turn in turns if (path := corner.store / f"DCIM/{turn}.jpg").exists()]
    assert moved == len(photos) > 0
    return [path.name for path in photos if not path.read_bytes().startswith(b"\xff\xd8\xff")]


def test_what_is_moved_in_cannot_be_changed_afterwards(mount, stored) -> None:
    """A descriptor or a mapping from where anything may be written does not come along.

    Attack C1.6: Write a wrong kind elsewhere and move it in, with a descriptor or mapping kept open
    Guard: policyfs/fs/namespace/rename.py::Renamer._settled
    Without: ::test_something_else_is_moved_in_where_nobody_asks_for_writers
    """
    for mapping in (False, True):
        said = move_with_a_writer(mount, mapping)
        moved = stored / f"DCIM/moved-{mapping}.jpg"
        assert said in {"moved", "EXDEV", "EBUSY"}
        assert not moved.exists() or moved.read_bytes()[:3] == b"\xff\xd8\xff", said
    quiet = mount / "private/quiet.jpg"
    call_as(CAMERA, quiet.write_bytes, RIGHT)
    call_as(CAMERA, os.rename, quiet, mount / "DCIM/quiet.jpg")
    assert (stored / "DCIM/quiet.jpg").read_bytes() == RIGHT


def test_what_is_looked_at_is_what_is_moved(module_mounts, mount) -> None:
    other = module_mounts.start(POLICY, mount.mount.store)  # with the same directory of locks
    assert swap_while_moving(mount, other, range(count(30, 2000))) == []


def test_something_else_is_moved_in_where_nobody_asks_for_writers(mounts, without, empty_store) -> None:
    corner = with_places(Corner(without("moved-unsettled", POLICY, empty_store), "corner"))
    for mapping in (False, True):
        assert move_with_a_writer(corner, mapping) == "moved"
        moved = corner.store / f"DCIM/moved-{mapping}.jpg"
        assert moved.read_bytes()[:3] in {b"the", b"www"}
    other = mounts.start(POLICY, empty_store)
    assert any(swap_while_moving(corner, other, range(at, at + 10)) for at in range(0, 60, 10))


def test_a_second_name_is_no_way_in(mount, stored) -> None:
    def attempt() -> str:
        (mount / "private/words").write_bytes(WRONG["text"])
        try:
            os.link(mount / "private/words", mount / "DCIM/words.jpg")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return ""

    assert call_as(CAMERA, attempt) in {"EXDEV", "EPERM"}
    assert not (stored / "DCIM/words.jpg").exists()


def test_nothing_is_preallocated_punched_or_tagged_in(mount, stored) -> None:
    """Operations beside write(2): refused, or without effect on the bytes."""

    def attempt() -> dict[str, str]:
        path = mount / "DCIM/a.jpg"
        path.write_bytes(RIGHT)
        said: dict[str, str] = {}
        fd = os.open(path, os.O_RDWR)
        for name, call in {
            "posix_fallocate": lambda: os.posix_fallocate(fd, 0, len(RIGHT)),
            "truncate to 2": lambda: os.ftruncate(fd, 2),
            "grow": lambda: os.ftruncate(fd, len(RIGHT) + 10),
        }.items():
            try:
                call()
                said[name] = ""
            except OSError as error:
                said[name] = errno.errorcode[error.errno or 0]
        os.close(fd)
        return said

    said = call_as(CAMERA, attempt)
    assert said["truncate to 2"] == "EPERM"
    left = (stored / "DCIM/a.jpg").read_bytes()
    assert left[: len(RIGHT)] == RIGHT
    assert left[len(RIGHT) :].strip(b"\0") == b""
