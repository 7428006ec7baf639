"""Files with bytes that are emptied before they are written anew, where written bytes may be refused."""

from __future__ import annotations

import functools
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import TOOL_ENVIRONMENT, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, open_handles, wait_until_heard
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
  - {{id: own, allow: [all], who: {{app: gallery}}, paths: "/*/Own/**", when: {{owner: self}}}}
  - {{id: new, allow: [create], who: {{app: gallery}}, paths: "/*/Share/**"}}
  - {{id: both, allow: [all], who: {{app: gallery}}, paths: "/*/Both/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/**"}}
"""
PLACED: Final = jpegs.photo_with(jpegs.exif())
OLD: Final = jpegs.plain(3, 64)
NEW: Final = jpegs.plain(4, 200)
APPENDS: Final = count(60, 2_000)
LONG: Final = 200_000
"""The length of a photo with bytes behind its end."""


@pytest.fixture
def photo(request: pytest.FixtureRequest) -> Path:
    """A photo of the camera's in the store, in the directory that is the parameter: where a test asks for
    `shared`, in a part of the mount that these tests share, else in `empty_store`."""
    if "shared" in request.fixturenames:
        top = request.getfixturevalue("corner_of")(POLICY).store
    else:
        request.getfixturevalue("empty_store").chmod(0o755)
        top = request.getfixturevalue("empty_store") / "top"
        top.mkdir(mode=0o755)
    directory = top / getattr(request, "param", "Share")
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


def _shell(shell: str, script: str, path: Path, data: bytes = b"") -> tuple[int, list[str]]:
    """Run a script in which $1 is the file: its exit code, and the lines that it printed."""
    words = [shell, "-c", script, shell, path]
    more = {"capture_output": True, "env": TOOL_ENVIRONMENT, "timeout": 30}
    ended = subprocess.run(words, input=data, check=False, **more)
    return ended.returncode, ended.stdout.decode().split("\n")[:-1]


@pytest.fixture
def shared(module_mounts: Mounts, photo: Path) -> tuple[Mount, Path]:
    """A mount, and the photo in it."""
    [mount] = module_mounts.all
    return mount, mount / photo.relative_to(mount.store)


def _released(mount: Mount) -> None:
    wait_for(lambda: open_handles(mount.status()) == 0, "the last release")


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("script", ['cat > "$1"', '{ true; cat; } > "$1"', 'exec 5> "$1"; cat >&5'])
def test_a_shell_empties_no_file_for_a_program_whose_bytes_are_refused(
    shared: tuple[Mount, Path], photo: Path, shell: str, script: str
) -> None:
    """It opens the file with O_TRUNC, and closes a copy of the descriptor before the program writes."""
    mount, path = shared
    code, _ = call_as(CAMERA, _shell, shell, script, path, PLACED)
    assert code != 0
    _released(mount)
    assert photo.read_bytes() == OLD
    assert call_as(CAMERA, path.read_bytes) == OLD
    assert call_as(CAMERA, _shell, shell, script, path, NEW)[0] == 0
    assert photo.read_bytes() == NEW


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_file_that_a_shell_only_empties_is_empty(
    shared: tuple[Mount, Path], photo: Path, shell: str
) -> None:
    """For the next program at once. Its modification time is that of the emptying, and stays."""
    mount, path = shared
    os.utime(photo, (5, 5))
    before = time.time_ns()
    script = ': > "$1"; stat -c %s "$1"; wc -c < "$1"; stat -c %.9Y "$1"; sleep 0.3; stat -c %.9Y "$1"'
    code, [size, length, first, later] = call_as(CAMERA, _shell, shell, script, path)
    assert (code, size, length) == (0, "0", "0")
    assert first == later
    _released(mount)
    assert photo.read_bytes() == b""
    stored = photo.stat().st_mtime_ns
    assert f"{stored // 10**9}.{stored % 10**9:09}" == first
    assert before - 10**8 < stored < time.time_ns()
    assert call_as(GALLERY, path.stat).st_mtime_ns == stored
    assert call_as(GALLERY, path.read_bytes) == b""


def _empty(path: Path, *calls: Callable[[int], object]) -> list[str]:
    """Open a file with O_TRUNC, and make calls with its descriptor: what these and close answered."""
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    return [code_of(each, fd) for each in (*calls, os.close)]


def _put(data: bytes, fd: int) -> None:
    os.pwrite(fd, data, 0)


def _cut(fd: int) -> None:
    os.ftruncate(fd, 0)


def _hold(channel, path: Path, flags: int = 0) -> str:
    """Open a file for writing, close a copy of the descriptor, and close it when told."""
    fd = os.open(path, os.O_RDWR | flags)
    os.close(os.dup(fd))
    channel.send(os.fstat(fd).st_size)
    channel.recv()
    return code_of(os.close, fd)


def test_the_release_of_the_last_of_several_writers_stores_the_emptied_file(
    shared: tuple[Mount, Path], photo: Path
) -> None:
    mount, path = shared
    one = start_as(CAMERA, _hold, path)
    assert one.receive() == len(OLD)
    other = start_as(CAMERA, _hold, path, os.O_TRUNC)
    assert other.receive() == 0
    assert call_as(CAMERA, path.read_bytes) == b""
    other.send("go on")
    assert other.result() == ""
    wait_for(lambda: open_handles(mount.status()) == 1, "the release of the first one")
    assert photo.read_bytes() == OLD
    one.send("go on")
    assert one.result() == ""
    _released(mount)
    assert photo.read_bytes() == b""


def test_an_fsync_of_a_writer_stores_the_emptied_file(shared: tuple[Mount, Path], photo: Path) -> None:
    _, path = shared
    writer = start_as(CAMERA, _overwrite, path, NEW)
    writer.receive()
    assert photo.read_bytes() == OLD
    assert call_as(CAMERA, _sync, path) == ("", b"")
    assert photo.read_bytes() == b""
    writer.send("go on")
    assert writer.result() == ["", ""]
    assert photo.read_bytes() == NEW


def test_truncate_stores_the_emptied_file_before_it_answers(shared: tuple[Mount, Path], photo: Path) -> None:
    _, path = shared
    writer = start_as(CAMERA, _hold, path)
    writer.receive()
    assert call_as(CAMERA, code_of, os.truncate, path, 0) == ""
    assert photo.read_bytes() == b""
    writer.send("go on")
    writer.result()


def test_a_file_that_is_emptied_after_a_refusal_keeps_its_bytes(
    shared: tuple[Mount, Path], photo: Path
) -> None:
    """The program is told so; what it writes instead is stored."""
    mount, path = shared
    wrong, right = (functools.partial(_put, data) for data in (PLACED, NEW))
    assert call_as(CAMERA, _empty, path, wrong, _close_a_copy, _cut) == ["", "EPERM", "", "EPERM"]
    _released(mount)
    assert photo.read_bytes() == OLD
    assert call_as(CAMERA, _empty, path, wrong, _close_a_copy, _cut, right) == ["", "EPERM", "", "", ""]
    assert photo.read_bytes() == NEW


def _close_a_copy(fd: int) -> None:
    os.close(os.dup(fd))


def test_a_close_that_cannot_empty_the_file_says_so(shared: tuple[Mount, Path], photo: Path) -> None:
    mount, path = shared
    writer = start_as(CAMERA, _hold, path, os.O_TRUNC)
    writer.receive()
    photo.write_bytes(NEW)
    writer.send("go on")
    assert writer.result() == "EBUSY"
    _released(mount)
    assert photo.read_bytes() == NEW


@pytest.mark.parametrize("end", ["umount", "SIGTERM"])
def test_an_emptied_file_is_stored_though_the_mount_ends_right_after_the_close(
    mounts: Mounts, empty_store: Path, photo: Path, end: str
) -> None:
    mount = mounts.start(POLICY.replace(f"uid: {CAMERA}", f"uid: [{CAMERA}, 0]"), empty_store)
    assert mount.process is not None
    assert _empty(mount / photo.relative_to(empty_store)) == [""]
    if end == "umount":
        mount.expected_exit = 1
        subprocess.run(["umount", mount.mountpoint], check=True, timeout=30)
    else:
        mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(30) == mount.expected_exit
    assert photo.read_bytes() == b""


def test_an_emptied_file_that_a_program_still_writes_keeps_its_bytes_if_the_mount_ends(
    mounts: Mounts, empty_store: Path, photo: Path
) -> None:
    mount = mounts.start(POLICY, empty_store)
    writer = start_as(CAMERA, _hold, mount / photo.relative_to(empty_store), os.O_TRUNC)
    writer.receive()
    assert mount.process is not None
    mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(30) == 0
    writer.send("go on")
    writer.result()
    assert photo.read_bytes() == OLD


def _empty_and_look(path: Path, uid: int, turns: int) -> set[tuple[int, int]]:
    """Empty a file as the camera, and open it at once as another user: the sizes of what that one sees."""
    seen = set()
    for _ in range(turns):
        os.setresuid(CAMERA, CAMERA, 0)
        path.write_bytes(OLD)
        assert _empty(path) == [""]
        os.setresuid(0, 0, 0)
        os.setresuid(uid, uid, 0)
        seen.add((len(path.read_bytes()), path.stat().st_size))
        os.setresuid(0, 0, 0)
    return seen


@pytest.mark.parametrize("uid", [CAMERA, GALLERY])
def test_an_open_after_the_close_finds_the_file_empty(shared: tuple[Mount, Path], uid: int) -> None:
    """RELEASE, which empties it, comes after the answer to close(). The gallery has a node of its own."""
    assert call_as(0, _empty_and_look, shared[1], uid, 40) == {(0, 0)}


def _read_twice(channel, path: Path) -> tuple[bytes, int]:
    with path.open("rb", buffering=0) as file:
        channel.send((file.read(), os.fstat(file.fileno()).st_size))
        channel.recv()
        return os.pread(file.fileno(), len(OLD), 0), os.fstat(file.fileno()).st_size


def test_who_has_the_file_open_sees_that_it_was_emptied(shared: tuple[Mount, Path], photo: Path) -> None:
    mount, path = shared
    reader = start_as(GALLERY, _read_twice, path)
    assert reader.receive() == (OLD, len(OLD))
    assert call_as(CAMERA, _empty, path) == [""]
    wait_for(lambda: open_handles(mount.status()) == 1, "the release")
    wait_until_heard(mount)
    reader.send("go on")
    assert reader.result() == (b"", 0)


def _store_through_a_mapping(path: Path) -> str:
    """Change bytes behind the photo's end after the last close(), and end the mapping."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, LONG) as pages:
        said = code_of(os.close, fd)
        pages[LONG - 100 : LONG] = b"\2" * 100
    return said


def _read_end_twice(channel, path: Path) -> tuple[bytes, int]:
    with path.open("rb", buffering=0) as file:
        channel.send(os.pread(file.fileno(), 100, LONG - 100))
        channel.recv()
        return os.pread(file.fileno(), 100, LONG - 100), path.stat().st_mtime_ns


def test_who_has_the_file_open_sees_what_the_last_release_stored(
    shared: tuple[Mount, Path], photo: Path
) -> None:
    mount, path = shared
    photo.write_bytes(OLD.ljust(LONG, b"\0"))
    os.utime(photo, (5, 5))
    reader = start_as(GALLERY, _read_end_twice, path)
    assert reader.receive() == bytes(100)
    assert call_as(CAMERA, _store_through_a_mapping, path) == ""
    wait_for(lambda: open_handles(mount.status()) == 1, "the release")
    assert photo.read_bytes()[-100:] == b"\2" * 100
    wait_until_heard(mount)
    reader.send("go on")
    assert reader.result() == (b"\2" * 100, photo.stat().st_mtime_ns)


HIDDEN: Final = """\
  - {id: hide, require: {redact: location}, who: {app: camera}, unless: {owner: self}}
"""


@pytest.mark.parametrize("script", [': > "$1"; cat >> "$1"', 'exec 5> "$1"; cat >> "$1"'])
@pytest.mark.parametrize("data", [PLACED, NEW], ids=["refused", "allowed"])
def test_an_app_appends_to_a_redacted_file_that_it_has_emptied(
    mounts: Mounts, empty_store: Path, photo: Path, script: str, data: bytes
) -> None:
    """It does not own the file. The store's file has its old bytes until the release, or until new bytes."""
    mount = mounts.start(POLICY + HIDDEN, empty_store)
    path = mount / photo.relative_to(empty_store)
    code, _ = call_as(CAMERA, _shell, "bash", script, path, data)
    assert (code == 0) == (data == NEW)
    _released(mount)
    stored = photo.read_bytes()
    assert stored == NEW if data == NEW else stored in {OLD, b""}, "the first writer may be released already"
    assert call_as(CAMERA, code_of, os.open, path, os.O_WRONLY | os.O_APPEND) == ("EACCES" if stored else "")


def _append_again_and_again(path: Path) -> None:
    for _ in range(APPENDS):
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, NEW)
        os.close(fd)


def test_an_earlier_release_that_empties_the_file_refuses_no_append(
    mounts: Mounts, empty_store: Path, photo: Path
) -> None:
    """close(2) does not wait for RELEASE: it may empty the store's file between the next open and write."""
    mount = mounts.start(POLICY + HIDDEN, empty_store)
    call_as(CAMERA, _append_again_and_again, mount / photo.relative_to(empty_store), deadline_s=300)
    _released(mount)
    assert photo.read_bytes() == NEW
