"""What takes several calls or processes to see: listings under change, limits, appends, renames, EROFS.

Each is done in a directory of a mount and in a native one; where it is not only a promise that both
must keep, the outcomes are compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.posix.calls import create, opened, raised, renameat2
from tests.posix.sides import User, being, places
from tests.posix.test_posix import POLICY, ROADS
from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.stores import Mounts

UID = 65534
NAMES = count(1_200, 100_000)

pytestmark = pytest.mark.timeout(600)  # of all, since a road's tests are to follow one another


class Both(NamedTuple):
    """The same empty directory twice: in a mount and native."""

    mounted: Path
    native: Path

    def same(self, call: Callable[[Path], Any], deadline_s: float = 60.0) -> Any:
        """What the call, made by a plain user, comes to on both sides; fails if that differs."""
        ours, theirs = (call_as(UID, call, side, deadline_s=deadline_s) for side in self)
        assert ours == theirs
        return ours


@pytest.fixture(scope="module", params=ROADS, ids=lambda road: road.name)
def road(request, module_arena: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Mountpoint, store and native directory of one disk."""
    directory = Path(tempfile.mkdtemp(prefix="road-", dir=module_arena))
    directory.chmod(0o711)
    with file_system("ext4", directory, "-N", str(max(20_000, 4 * NAMES))) as disk:
        store, native = places(disk, "store"), places(disk, "native")
        mounts = Mounts(directory)
        try:
            yield mounts.start(POLICY, store, *request.param.options).mountpoint, store, native
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong


@pytest.fixture
def both(request, road: tuple[Path, Path, Path]) -> Both:
    """A directory of this test's own on each side."""
    mountpoint, store, native = road
    name = request.function.__name__
    for place in (store, native):
        os.chown(places(place, name), UID, UID)
    return Both(mountpoint / name, native / name)


# ---------------------------------------------------------------- listing


LASTING = {f"lasting-{number:06}" for number in range(NAMES)}


def make_lasting(directory: Path) -> None:
    """Make the names that stay."""
    for name in LASTING:
        os.close(os.open(directory / name, os.O_CREAT | os.O_WRONLY, 0o600))


def list_while_changing(directory: Path) -> tuple[int, int]:
    """List a long directory while others' names come and go; how often a lasting name was missed or came
    twice."""
    os.chdir(directory)
    for number in range(NAMES // 10):
        os.close(os.open(f"going-{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    seen: dict[str, int] = {}
    with os.scandir(".") as entries:
        for position, entry in enumerate(entries):
            seen[entry.name] = seen.get(entry.name, 0) + 1
            if position % 10 == 0:
                number = position // 10
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"going-{number}")
                os.close(os.open(f"coming-{number}", os.O_CREAT | os.O_WRONLY, 0o600))
                if number % 2:
                    os.rename(f"coming-{number}", f"moved-{number}")
    os.chdir("/")
    return len(LASTING - seen.keys()), sum(times > 1 for name, times in seen.items() if name in LASTING)


def test_listing_a_long_directory_while_it_changes(both: Both, road: tuple[Path, Path, Path]) -> None:
    """The names that stay are made in the store: through a mount it would take most of the test's time."""
    _, store, _ = road
    for side, kept_in in zip(both, (store / both.mounted.name, both.native), strict=True):
        call_as(UID, make_lasting, kept_in, deadline_s=500)
        assert call_as(UID, list_while_changing, side, deadline_s=500) == (0, 0)


class _Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_uint16),
                ("kind", ctypes.c_uint8), ("name", ctypes.c_char * 256)]  # fmt: skip


def seek_everywhere(directory: Path) -> tuple[bool, int]:
    """telldir(3) at each entry; seekdir(3) back to each, from the last to the first, finds the rest."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.opendir.argtypes, libc.readdir.argtypes = [ctypes.c_char_p], [ctypes.c_void_p]
    libc.telldir.restype, libc.telldir.argtypes = ctypes.c_long, [ctypes.c_void_p]
    libc.seekdir.argtypes, libc.closedir.argtypes = [ctypes.c_void_p, ctypes.c_long], [ctypes.c_void_p]
    for number in range(150):
        create(f"{directory}/name-{number}")
    stream = libc.opendir(os.fsencode(directory))

    def rest(most: int) -> list[bytes]:
        found = []
        while len(found) < most and (entry := libc.readdir(stream)):
            found.append(_Dirent.from_address(entry).name)
        return found

    try:
        places, names = [], []
        while True:
            places.append(libc.telldir(stream))
            if not (name := rest(1)):
                break
            names += name
        right = all(
            (libc.seekdir(stream, places[at]), rest(20))[1] == names[at : at + 20]
            for at in reversed(range(len(names)))
        )
        libc.seekdir(stream, places[0])
        return right and rest(1000) == names, len(names)
    finally:
        libc.closedir(stream)


def test_seekdir_goes_back_to_where_telldir_was(both: Both) -> None:
    assert both.same(seek_everywhere) == (True, 152)


def rewind(directory: Path) -> list[list[str]]:
    """A descriptor's listing before and after changes, rewound and not."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listings = [sorted(os.listdir(fd))]
        create(f"{directory}/one")
        listings.append(sorted(os.listdir(fd)))
        os.rename(f"{directory}/one", f"{directory}/two")
        os.mkdir(f"{directory}/three")
        listings.append(sorted(os.listdir(fd)))
        os.unlink(f"{directory}/two")
        os.lseek(fd, 0, os.SEEK_SET)
        listings.append(sorted(os.listdir(fd)))
        return listings
    finally:
        os.close(fd)


def test_a_rewound_listing_is_a_new_one(both: Both) -> None:
    assert both.same(rewind)[-1] == ["three"]


# ---------------------------------------------------------------- limits


def beyond_the_limit(directory: Path) -> list[Any]:
    """RLIMIT_FSIZE: writes are cut, then refused, with SIGXFSZ; truncation too; others' files stay."""
    signals: list[int] = []
    signal.signal(signal.SIGXFSZ, lambda number, _: signals.append(number))
    path = f"{directory}/x"
    create(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    fd = os.open(path, os.O_RDWR)
    said: list[Any] = []
    try:
        writes = ((b"a" * 9_000, 0), (b"b" * 5_000, 9_000), (b"c", 10_000), (b"d", 20_000), (b"", 30_000))
        said += [raised(os.pwrite, fd, data, offset) for data, offset in writes]
        said += [raised(os.ftruncate, fd, size) for size in (10_000, 10_001, 2**62)]
        said += [raised(os.truncate, path, 10_001), raised(os.posix_fallocate, fd, 0, 20_000)]
        said += [os.fstat(fd).st_size, raised(os.ftruncate, fd, 5), os.pread(fd, 10, 0), len(signals)]
    finally:
        os.close(fd)
    return said


def test_the_limit_of_file_sizes(both: Both) -> None:
    assert both.same(beyond_the_limit)[1] == "1000"


def descriptors_run_out(directory: Path) -> list[Any]:
    """EMFILE is the caller's own affair."""
    create(f"{directory}/x")
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, used + 5))
    held, said = [], []
    while not said:
        try:
            held.append(os.open(f"{directory}/x", os.O_RDONLY))
        except OSError as error:
            said.append(errno.errorcode[error.errno or 0])
    said += [raised(os.mkdir, f"{directory}/sub"), raised(opened, f"{directory}/new", os.O_CREAT | os.O_RDWR)]
    for fd in held:
        os.close(fd)
    return [*said, sorted(os.listdir(directory))]


def test_descriptors_run_out_on_the_callers_side(both: Both) -> None:
    assert both.same(descriptors_run_out) == ["EMFILE", "None", "EMFILE", ["sub", "x"]]


# ---------------------------------------------------------------- several processes


def append_lines(path: str, mark: str, lines: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(lines):
            os.write(fd, f"{mark}{number:05}{mark * 40}\n".encode())
    finally:
        os.close(fd)


def test_appends_of_several_processes_are_whole_and_none_is_lost(both: Both) -> None:
    lines = count(200, 20_000)
    for side in both:
        call_as(UID, create, f"{side}/log")
        writers = [
            start_as(UID, lambda _, *what: append_lines(*what), f"{side}/log", mark, lines) for mark in "abcd"
        ]
        for writer in writers:
            writer.result(120)
        text = call_as(UID, (side / "log").read_text)
        expected = {f"{mark}{number:05}{mark * 40}" for mark in "abcd" for number in range(lines)}
        found = text.splitlines()
        assert len(found) == 4 * lines
        assert set(found) == expected
        for mark in "abcd":
            of_one = [line for line in found if line[0] == mark]
            assert of_one == sorted(of_one), "each writer's own are in order"


def read_until(channel, path: str) -> tuple[int, int]:
    """Open and read without end: how often, and how often it was not one of the two whole texts."""
    times = wrong = 0
    channel.send("reading")
    while not channel.poll():
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            text = b""
        wrong += text not in (b"old " * 1000, b"new " * 1000)
        times += 1
    return times, wrong


def test_who_opens_a_name_that_is_replaced_finds_the_old_or_the_new(both: Both) -> None:
    for side in both:
        path, rounds = f"{side}/name", count(60, 5_000)
        call_as(UID, create, path, 0o644, b"old " * 1000)
        reader = start_as(UID, read_until, path)
        reader.receive()

        def replace(path: str = path, rounds: int = rounds) -> None:
            for number in range(rounds):
                create(f"{path}.next", 0o644, (b"new " if number % 2 else b"old ") * 1000)
                if number % 3:
                    os.rename(f"{path}.next", path)
                else:
                    renameat2(f"{path}.next", path, 2)
                    os.unlink(f"{path}.next")

        call_as(UID, replace, deadline_s=120)
        reader.send("stop")
        times, wrong = reader.result()
        assert times > 10
        assert wrong == 0


def make_first(channel, path: str) -> list[int]:
    """Try to be the one who makes each of many names."""
    channel.send("ready")
    channel.recv()
    won = []
    for number in range(count(100, 5_000)):
        with contextlib.suppress(FileExistsError):
            if number % 2:
                os.mkdir(f"{path}/{number}")
            else:
                os.close(os.open(f"{path}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(number)
    return won


def test_only_one_makes_a_name(both: Both) -> None:
    for side in both:
        racers = [start_as(UID, make_first, str(side)) for _ in range(3)]
        for racer in racers:
            racer.receive()
        for racer in racers:
            racer.send("go")
        won = sorted(number for racer in racers for number in racer.result(120))
        assert won == list(range(count(100, 5_000)))


# ---------------------------------------------------------------- read-only


def test_a_read_only_store_says_erofs(arena: Path) -> None:
    calls: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
        (create, ("new",)), (os.mkdir, ("new",)), (os.symlink, ("t", "new")), (os.link, ("x", "new")),
        (os.rename, ("x", "new")), (os.rename, ("x", "d")), (os.unlink, ("x",)), (os.unlink, ("none",)),
        (os.rmdir, ("d",)), (os.chmod, ("x", 0o600)), (os.chown, ("x", -1, -1)), (os.utime, ("x",)),
        (os.truncate, ("x", 0)), (opened, ("x", os.O_WRONLY)), (opened, ("x", os.O_RDONLY)),
        (opened, ("x", os.O_RDONLY | os.O_TRUNC)), (opened, ("x", os.O_RDWR | os.O_CREAT)),
        (opened, ("none", os.O_RDWR)), (opened, ("none", os.O_RDONLY | os.O_CREAT)),
        (os.access, ("x", os.W_OK)), (os.access, ("d", os.W_OK)),
        (os.setxattr, ("x", "user.a", b"")), (os.mkfifo, ("new",)),
        (os.removexattr, ("x", "user.a")), (os.mkdir, ("d",)), (os.mkdir, ("x/y",)), (os.rmdir, ("x",)),
        (opened, ("d", os.O_RDONLY)), (os.listdir, ("d",)), (os.readlink, ("l",)), (os.unlink, ("d",)),
    )  # fmt: skip

    def try_all(directory: Path) -> list[str]:
        os.chdir(directory)
        said = []
        for uid in (0, UID, UID - 1):
            with being(User(uid, uid)):
                said += [raised(call, *arguments) for call, arguments in calls]
        os.chdir("/")
        return said

    with file_system("ext4", arena) as disk:
        for name in ("store", "native"):
            place = disk / name
            (place / "d").mkdir(parents=True)
            (place / "x").write_text("text")
            (place / "l").symlink_to("x")
            for path in (place, place / "d", place / "x"):
                os.chown(path, UID, UID)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=30)
        mounts = Mounts(arena)
        try:
            mount = mounts.start(POLICY, disk / "store", "--posix")
            through, plain = (call_as(0, try_all, side) for side in (mount.mountpoint, disk / "native"))
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
    assert through.count("EROFS") > 30
    assert through == plain
