"""B10: reaching by other operations what open, read and write refuse.

fallocate, copy_file_range, ioctl, files without a name, and naming them. Each attempt is a function
that says whether it succeeded; it is made on a whole daemon, in a shared mount and in the app's own,
and on one that lacks the very guard which it is about, and there it must succeed.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.calls import (
    FS_IOC_SETFLAGS,
    KEEP_SIZE,
    PUNCH_HOLE,
    ZERO_RANGE,
    fallocate,
    inode_flags,
)
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

APP, OTHER = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
"""
OPEN_RULE: Final = '  - {id: later, allow: [all], who: {app: app}, paths: "/later/***"}\n'
POLICY: Final = (
    HEAD
    + OPEN_RULE
    + """\
  - {id: free, allow: [all], who: {app: any}, paths: "/free/***"}
  - {id: photos, allow: [all], who: {app: any}, paths: "/photos/***"}
  - {id: kinds, require: {content: [image/jpeg]}, paths: "/photos/**"}
  - {id: look, allow: [see, read], who: {app: any}, paths: ["/look/***", "/shown/***"]}
  - {id: change, allow: [see, read, write], who: {app: any}, paths: "/change/***"}
  - {id: drop, allow: [see, create, write], who: {app: any}, paths: "/drop/***"}
  - {id: places, require: {redact: [location]}, who: {app: any}, paths: "/shown/**"}
  - {id: secret, deny: [all], who: {app: any}, paths: "/secret/***", errno: ENOENT}
"""
)
PHOTO: Final = jpegs.photo_with(jpegs.exif())
JPEG: Final = jpegs.plain(1, 200)
LONG_JPEG: Final = JPEG[:-2] + b"\0" * 150_000 + b"\xff\xd9"
WORDS: Final = b"these are words, not a picture\n" * 300
K: Final = 1024
FS_NODUMP_FL: Final = 0x40
NEW: Final = os.O_RDWR | os.O_CREAT
PLACES: Final = ("free", "photos", "look", "change", "shown", "secret", "later", "drop")


def fill(store: Path) -> Path:
    """A store with one directory for each rule."""
    store.mkdir(mode=0o700, exist_ok=True)
    for name in PLACES:
        (store / name).mkdir()
        (store / name).chmod(0o777)
    for name, data in (
        ("look/file", WORDS), ("change/file", WORDS), ("later/file", WORDS), ("free/flagged", WORDS),
        ("shown/photo.jpg", PHOTO), ("photos/photo.jpg", LONG_JPEG),
    ):  # fmt: skip
        (store / name).write_bytes(data)
        (store / name).chmod(0o666)
    os.chown(store / "free/flagged", APP, APP)
    return store


KINDS: Final = {"shared": (), "own": ("--app", "app"), "mediated": ("--no-passthrough",)}


@pytest.fixture(scope="module", params=list(KINDS.values()), ids=list(KINDS))
def mount(request, module_mounts, module_arena: Path) -> Iterator[Mount]:
    # Another each time: tests that are dealt out to several processes may come back to a parameter.
    store = Path(tempfile.mkdtemp(prefix="store-", dir=module_arena))
    running = module_mounts.start(POLICY, fill(store), *request.param)
    yield running
    running.stop()


@pytest.fixture
def weak(without: Callable[..., Mount], arena: Path) -> Callable[..., Mount]:
    """`weak(guard, *options)`: the same store and policy, and a daemon without that guard."""
    return lambda guard, *options: without(guard, POLICY, fill(arena / "weak"), *options)


def _no_loss(mount: Mount) -> None:
    """What the apps may only read is as it was."""
    for name, data in (("look/file", WORDS), ("shown/photo.jpg", PHOTO)):
        assert (mount.store / name).read_bytes() == data


# ---------------------------------------------------------------- ranges of what one may only read


def punch_what_may_be_read(root: Path) -> list[str]:
    """Every way to a descriptor that fallocate takes."""
    path = root / "look/file"
    said = [error(os.open, path, how) for how in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND)]
    with fd_of(path, os.O_RDONLY) as fd:
        said += [fallocate(fd, mode, 0, 4 * K) for mode in (0, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE)]
        said += [error(os.open, f"/proc/self/fd/{fd}", os.O_RDWR)]
        with fd_of(root / "free/mine", os.O_RDWR | os.O_CREAT) as mine:
            os.write(mine, b"mine" * 2000)
            said.append(error(os.copy_file_range, mine, fd, 4 * K, 0, 0))
    return said


def test_what_may_only_be_read_is_not_punched(mount: Mount) -> None:
    """Attack B10.1: Punch, reserve, or copy into a file by a descriptor whose rights a reload took away
    Guard: policyfs/fs/access/gate.py::Gate.handle
    Also: ::test_what_a_reload_took_away_is_refused_to_open_files
    Without: ::test_without_a_decision_open_files_go_on_being_changed
    """
    assert set(call_as(APP, punch_what_may_be_read, mount.mountpoint)) == {"EACCES", "EBADF"}
    _no_loss(mount)


def _with_open_file(channel, root: Path, out: Path) -> dict[str, object]:
    """Opens while it may, waits for the policy to change, and then goes on."""
    with fd_of(root / "later/file", os.O_RDWR) as fd, fd_of(out, os.O_RDWR | os.O_CREAT) as mine:
        os.write(mine, b"mine" * 2000)
        channel.send("open")
        channel.recv()
        said: dict[str, object] = {
            "ranges": {fallocate(fd, mode, 0, 4 * K) for mode in (0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE)},
            "in": error(os.copy_file_range, mine, fd, 4 * K, 0, 0),
            "out": error(os.copy_file_range, fd, mine, 4 * K, 0, 0),
            "holes": error(os.lseek, fd, 0, os.SEEK_HOLE),
        }
        said["mine"] = os.pread(mine, 4 * K, 0) == b"mine" * K
    return said


def _after_a_reload(mount: Mount) -> dict[str, object]:
    child = start_as(APP, _with_open_file, mount.mountpoint, mount.mountpoint / "free/out")
    assert child.receive() == "open"
    mount.policy.write_text(POLICY.replace("{id: later, allow: [all]", "{id: later, allow: [see]"))
    assert mount.reload().returncode == 0
    child.send("go on")
    return child.result()


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_what_a_reload_took_away_is_refused_to_open_files(mounts, arena: Path, options) -> None:
    mount = mounts.start(POLICY, fill(arena / "store"), *options)
    said = _after_a_reload(mount)
    assert said == {"ranges": {"EACCES"}, "in": "EACCES", "out": "EACCES", "holes": "EACCES", "mine": True}
    assert (mount.store / "later/file").read_bytes() == WORDS
    denied = {event["syscall"] for event in mount.events(decision="deny", path="/later/file")}
    assert {"fallocate", "copy_file_range", "lseek"} <= denied


def test_without_a_decision_open_files_go_on_being_changed(weak) -> None:
    mount = weak("handles-undecided")
    said = _after_a_reload(mount)
    assert "None" in said["ranges"]
    assert (mount.store / "later/file").read_bytes() != WORDS


# ---------------------------------------------------------------- copies out of what is redacted


def copy_out(root: Path) -> bytes:
    """All of a photo that is shown without its place, by copy_file_range."""
    with fd_of(root / "shown/photo.jpg", os.O_RDONLY) as source, fd_of(root / "free/copy", NEW) as to:
        while os.copy_file_range(source, to, 1 << 20):
            pass
        with contextlib.suppress(OSError):
            fcntl.ioctl(to, 0x40049409, source)  # FICLONE
        return os.pread(to, 1 << 24, 0)


def test_copies_of_what_is_redacted_have_no_place(mount: Mount) -> None:
    """Attack B10.3: Copy a photo out of its redacted view within the store
    Guard: policyfs/fs/data/ranges.py::Ranges.copy
    Without: ::test_copied_in_the_store_they_would_have_it
    """
    copied = call_as(APP, copy_out, mount.mountpoint)
    assert len(copied) == len(PHOTO)
    assert jpegs.leaks(PHOTO)
    assert jpegs.leaks(copied) == []
    _no_loss(mount)


def test_copied_in_the_store_they_would_have_it(weak) -> None:
    assert jpegs.leaks(call_as(APP, copy_out, weak("copies-of-any-view").mountpoint))


# ---------------------------------------------------------------- ranges of what is judged


def zero_the_head(root: Path) -> list[str]:
    """A photo is to become something else, byte range by byte range."""
    with fd_of(root / "photos/photo.jpg", os.O_RDWR) as fd:
        return [
            fallocate(fd, mode, at, length)
            for mode in (KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE | ZERO_RANGE)
            for at, length in ((0, 4 * K), (0, 1 << 20))
        ]


def keep_the_head(root: Path) -> list[str]:
    """What leaves it a photo."""
    with fd_of(root / "photos/photo.jpg", os.O_RDWR) as fd:
        said = [
            fallocate(fd, mode, at, 4 * K)
            for mode, at in ((0, 0), (KEEP_SIZE, 200 * K), (KEEP_SIZE | PUNCH_HOLE, 100 * K), (0, 300 * K))
        ]
        os.ftruncate(fd, len(LONG_JPEG))
        return said


def test_a_checked_file_stays_what_it_must_be(mount: Mount) -> None:
    """Attack C1.7: Change a photo into another kind by zeroing or punching its beginning
    Guard: policyfs/fs/checked/head_writes.py::Checker.allocate
    Also: ::test_space_is_reserved_for_what_is_not_known_yet
    Without: ::test_unjudged_it_becomes_something_else
    """
    path = mount.store / "photos/photo.jpg"
    said = call_as(APP, zero_the_head, mount.mountpoint)
    assert set(said) <= {"EPERM", "ENOTSUP"}
    assert "EPERM" in said
    assert path.read_bytes() == LONG_JPEG
    assert call_as(APP, keep_the_head, mount.mountpoint) == ["None"] * 4
    assert path.read_bytes() == LONG_JPEG  # zeros were zeros
    assert mount.events(syscall="write", decision="deny", path="/photos/photo.jpg")


def test_unjudged_it_becomes_something_else(weak) -> None:
    mount = weak("ranges-unjudged")
    assert "None" in call_as(APP, zero_the_head, mount.mountpoint)
    assert (mount.store / "photos/photo.jpg").read_bytes()[:3] == b"\0\0\0"


def reserve_before_writing(root: Path, data: bytes) -> list[str]:
    """As downloaders do: space first, then bytes."""
    fd = os.open(root / "photos/new.jpg", os.O_RDWR | os.O_CREAT)
    said = [fallocate(fd, mode, 0, len(data)) for mode in (0, KEEP_SIZE, ZERO_RANGE)]
    said.append(error(os.write, fd, data))
    return [*said, fallocate(fd, 0, 0, len(data)), error(os.fsync, fd), error(os.close, fd)]


def test_space_is_reserved_for_what_is_not_known_yet(mount: Mount) -> None:
    said = call_as(APP, reserve_before_writing, mount.mountpoint, JPEG)
    assert said == ["None", "None", "None", str(len(JPEG)), "None", "None", "None"]
    assert (mount.store / "photos/new.jpg").read_bytes() == JPEG
    (mount.store / "photos/new.jpg").unlink()
    said = call_as(APP, reserve_before_writing, mount.mountpoint, WORDS)
    assert said == ["None", "None", "None", str(len(WORDS)), "None", "EPERM", "EPERM"]
    wait_for(lambda: not (mount.store / "photos/new.jpg").exists(), "the refused file to go")


# ---------------------------------------------------------------- ioctl


def poke(root: Path) -> list[str]:
    """Flags changed, blocks told, blocks shared, by numbers that a store would know."""
    numbers = (
        0x40086602, 0x401C5820, 0x40087602, 0xC020660B, 0x40049409, 0x4020940D, 0xC0185879, 0x40305839,
        0x801C581F, 0x8004587D, 0x5402, 0x80086601 + 1, 0xC0E86201, 0x5450 + 0x1000,
    )  # fmt: skip
    said = []
    for name in ("free/flagged", "look/file", "shown/photo.jpg", "look"):
        with fd_of(root / name, os.O_RDONLY) as fd:
            said += [error(fcntl.ioctl, fd, number, bytearray(b"\x50" * 256)) for number in numbers]
    return said


def no_dump(root: Path) -> str:
    """A flag that the owner of a file may set natively."""
    with fd_of(root / "free/flagged", os.O_RDONLY) as fd:
        flags = int(inode_flags(fd), 16)
        return error(fcntl.ioctl, fd, FS_IOC_SETFLAGS, array.array("i", [flags | FS_NODUMP_FL]))


def is_no_dump(mount: Mount) -> bool:
    """Has the store's file the flag."""
    with fd_of(mount.store / "free/flagged", os.O_RDONLY) as fd:
        return bool(int(inode_flags(fd), 16) & FS_NODUMP_FL)


def test_passed_on_a_flag_would_be_set(weak) -> None:
    mount = weak("any-ioctl", "--no-avc")  # the bridge refuses it, too
    call_as(APP, no_dump, mount.mountpoint)
    assert is_no_dump(mount)


def test_no_flag_is_set_and_no_block_is_told(mount: Mount) -> None:
    """Attack B10.5: Set inode flags, ask for block numbers, share blocks
    Guard: policyfs/fs/raw_handlers.py::RawHandlers.ioctl
    Without: ::test_passed_on_a_flag_would_be_set
    """
    names = ("free/flagged", "look/file", "shown/photo.jpg", "look")

    def flags() -> list[str]:
        found = []
        for name in names:
            with fd_of(mount.store / name, os.O_RDONLY) as fd:
                found.append(inode_flags(fd))
        return found

    before = flags()
    refusals = {"ENOTTY", "ENOTSUP", "EPERM", "EINVAL", "EACCES", "EBADF", "EFAULT", "EXDEV"}
    assert set(call_as(APP, poke, mount.mountpoint)) <= refusals
    assert call_as(APP, no_dump, mount.mountpoint) in refusals
    assert not is_no_dump(mount)
    assert flags() == before
    _no_loss(mount)
