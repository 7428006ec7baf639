"""Listings: whole, once each, at any position, while names come and go; as natively."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import PATIENCE, count, daily
from tests.support.machine.processes import call_as, start_as, tool_as
from tests.support.models.twins import ROADS, UID, Case, Twins, content, error, twins_on

MANY = 4_000


EACH_DAY = daily(ROADS[count(1, 0) : 3], "passthrough on ext4")


@pytest.fixture(scope="module", params=EACH_DAY, ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


# ---------------------------------------------------------------- dirent(3), as C programs use it


class _Dirent(ctypes.Structure):
    _fields_ = [
        ("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8), ("name", ctypes.c_char * 256),
    ]  # fmt: skip


_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.fdopendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.POINTER(_Dirent)
_libc.telldir.restype = ctypes.c_long
for _name in ("readdir", "telldir", "rewinddir", "closedir", "dirfd"):
    getattr(_libc, _name).argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Directory:
    """A DIR stream."""

    def __init__(self, path: str) -> None:
        self._stream = _libc.opendir(os.fsencode(path))
        if not self._stream:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)

    def one(self) -> tuple[bytes, int, int] | None:
        """Name, number and type of the next entry."""
        ctypes.set_errno(0)
        found = _libc.readdir(self._stream)
        if not found:
            if ctypes.get_errno():
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return None
        return found.contents.name, found.contents.ino, found.contents.kind

    def rest(self) -> list[bytes]:
        """Names from here to the end, dots left out."""
        entries = iter(self.one, None)
        return [entry[0] for entry in entries if entry[0] not in {b".", b".."}]

    def tell(self) -> int:
        return _libc.telldir(self._stream)

    def seek(self, position: int) -> None:
        _libc.seekdir(self._stream, position)

    def rewind(self) -> None:
        _libc.rewinddir(self._stream)

    def close(self) -> None:
        _libc.closedir(self._stream)


@contextlib.contextmanager
def directory(path: str) -> Iterator[Directory]:
    stream = Directory(path)
    try:
        yield stream
    finally:
        stream.close()


def _fill(path: Path, count: int, make=Path.touch) -> None:
    for number in range(count):
        make(path / f"name-{number:05}")
    for entry in (path, *path.iterdir()):
        os.chown(entry, UID, UID)


# ---------------------------------------------------------------- stories


def dots_and_types() -> object:
    with directory(".") as stream:
        entries = {name: (ino, kind) for name, ino, kind in iter(stream.one, None)}
    numbers = {name: ino == os.lstat(name).st_ino for name, (ino, _) in entries.items()}
    # The number of `..` may be that of the zoo's parent or, natively at the top of a disk, its own.
    numbers.pop(b"..")
    return sorted((name, kind) for name, (_, kind) in entries.items()), all(numbers.values())


def empty_ones() -> object:
    with directory("vacant") as stream:
        first = {stream.one()[0], stream.one()[0]}
        return first, stream.one(), stream.one(), (stream.rewind(), stream.rest())[1]


def rewinding_shows_what_came() -> object:
    with directory("vacant") as stream:
        before = stream.rest()
        os.mkdir("vacant/new")
        late = stream.rest()
        stream.rewind()
        after = stream.rest()
        os.rmdir("vacant/new")
        stream.rewind()
        return before, late, after, stream.rest()


def only_directories_are_listed() -> object:
    return [error(Directory, name) for name in ("file", "missing", "tofile", "dangling", "loop", "file/x")]


def walking_removing() -> object:
    """rm -r: list, and remove what was listed, a few at a time."""
    for number in range(700):
        os.mkdir(f"vacant/d{number}") if number % 3 else os.symlink("x", f"vacant/d{number}")
    rounds = 0
    while True:
        with directory("vacant") as stream:
            batch = [entry[0] for _ in range(50) if (entry := stream.one())]
        batch = [name for name in batch if name not in {b".", b".."}]
        if not batch:
            break
        rounds += 1
        for name in batch:
            path = b"vacant/" + name
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    return rounds < 20, os.listdir("vacant"), error(os.rmdir, "vacant")


def a_name_replaced_meanwhile() -> object:
    with directory("dir") as stream:
        names = sorted(stream.rest())
        os.unlink("dir/inner")
        os.mkdir("dir/inner")
        stream.rewind()
        kinds = {name: kind for name, _, kind in iter(stream.one, None)}
    return names, kinds[b"inner"], sorted(os.listdir("dir"))


STORIES = (
    dots_and_types, empty_ones, rewinding_shows_what_came, only_directories_are_listed, walking_removing,
    a_name_replaced_meanwhile,
)  # fmt: skip


def test_listings_are_as_natively(twins: Twins) -> None:
    twins.compare([Case(story.__name__, story) for story in STORIES])


# ---------------------------------------------------------------- ten thousand names


@pytest.fixture(scope="module")
def many(twins: Twins) -> tuple[Path, Path]:
    """A directory of MANY names, as the app sees it and in the store; tests leave it as it is."""
    outside = twins.mount.store / "many"
    outside.mkdir()
    _fill(outside, MANY)
    return twins.mount / "many", outside


def test_a_long_listing_is_whole(twins: Twins, many: tuple[Path, Path]) -> None:
    def lists() -> object:
        with os.scandir(many[0]) as entries:
            first = {entry.name: entry.inode() for entry in entries}
        return first, os.listdir(many[0]), len(os.listdir(many[0]))

    first, second, third = call_as(UID, lists)
    assert first == {path.name: path.stat().st_ino for path in many[1].iterdir()}
    assert sorted(second) == sorted(first)
    assert third == MANY


def test_positions_of_a_long_listing_hold(twins: Twins, many: tuple[Path, Path]) -> None:
    def jump_about() -> object:
        chance = random.Random(3)
        with directory(str(many[0])) as stream:
            places = []
            while True:
                at = stream.tell()
                entry = stream.one()
                if entry is None:
                    break
                places.append((at, entry[0]))
            wrong = []
            for at, name in chance.sample(places, 300):
                stream.seek(at)
                if stream.one()[0] != name:
                    wrong.append(name)
            stream.seek(places[MANY // 2][0])
            tail = stream.rest()
            return len(places), wrong, tail == [name for _, name in places[MANY // 2 :]]

    assert call_as(UID, jump_about) == (MANY + 2, [], True)


def test_a_listing_goes_on_while_its_names_are_removed(twins: Twins, many: tuple[Path, Path]) -> None:
    outside = twins.mount.store / "shrinking"
    outside.mkdir()
    _fill(outside, 3000)

    def shrink() -> object:
        seen: Counter[bytes] = Counter()
        removed = set()
        with directory(str(twins.mount / "shrinking")) as stream:
            for step in range(100_000):
                entry = stream.one()
                if entry is None:
                    break
                seen[entry[0]] += 1
                number = (step * 7919) % 3000
                name = f"name-{number:05}".encode()
                if step % 2 and name not in removed:
                    os.unlink(twins.mount / "shrinking" / os.fsdecode(name))
                    removed.add(name)
        del seen[b"."], seen[b".."]
        twice = [name for name, times in seen.items() if times > 1]
        kept = {f"name-{number:05}".encode() for number in range(3000)} - removed
        return twice, kept - seen.keys(), seen.keys() - kept - removed, len(removed) > 500

    assert call_as(UID, shrink) == ([], set(), set(), True)


def test_a_listing_goes_on_while_names_are_made(twins: Twins) -> None:
    outside = twins.mount.store / "growing"
    outside.mkdir()
    _fill(outside, 1000)
    inside = twins.mount / "growing"

    def grow(channel) -> int:
        made = 0
        while not channel.poll(0.001):
            (inside / f"more-{made}").touch()
            made += 1
        return made

    def listings() -> object:
        expected = {f"name-{number:05}" for number in range(1000)}
        wrong = []
        for _ in range(15):
            names = os.listdir(inside)
            if len(names) != len(set(names)) or not expected <= set(names):
                wrong.append(len(names))
        return wrong

    writer = start_as(UID, grow)
    try:
        assert call_as(UID, listings) == []
    finally:
        writer.send("stop")
    assert writer.result() == len(os.listdir(outside)) - 1000


def test_names_that_come_from_elsewhere_are_listed(twins: Twins) -> None:
    """Whatever the kernel keeps of a listing."""
    inside, outside = twins.mount / "elsewhere", twins.mount.store / "elsewhere"
    outside.mkdir()
    outside.chmod(0o777)

    def watch(channel) -> None:
        while (wanted := channel.recv()) is not None:
            until = time.monotonic() + 10 * PATIENCE  # not a number of tries, which ask the kernel alone
            while sorted(os.listdir(inside)) != wanted and time.monotonic() < until:
                pass
            channel.send(sorted(os.listdir(inside)))

    child = start_as(UID, watch)
    names: set[str] = set()
    for step in range(20):
        if step % 4 == 3:
            gone = min(names)
            (outside / gone).unlink()
            names.discard(gone)
        else:
            (outside / f"n{step}").touch()
            names.add(f"n{step}")
        child.send(sorted(names))
        assert child.receive() == sorted(names)
    child.send(None)
    child.result()


def test_a_kept_listing_goes_on_where_it_was(twins: Twins) -> None:
    """The kernel keeps a listing, and forgets it while an app has read half of it: names that stay are read
    once each, whatever came and went before them. Positions of an earlier listing lead to the same names."""
    inside, outside = twins.mount / "half-read", twins.mount.store / "half-read"
    outside.mkdir()
    _fill(outside, 2000)

    def read(channel) -> object:
        os.listdir(inside)  # from now on the kernel keeps it, where it may
        with directory(str(inside)) as stream, directory(str(inside)) as another:
            half = [entry[0] for _ in range(1000) if (entry := stream.one())]
            position, expected = stream.tell(), stream.one()
            channel.send([name for name in half if name.startswith(b"name")])
            channel.recv()
            rest = stream.rest()
            another.seek(position)
            # A new name's hash may lie between the two.
            after = next(entry[0] for entry in iter(another.one, None) if not entry[0].startswith(b"more"))
            return [*half, expected[0], *rest], after == expected[0]

    reader = start_as(UID, read)
    seen = reader.receive()
    for name in seen[: len(seen) - 300]:
        (outside / os.fsdecode(name)).unlink()
    for number in range(50):
        (outside / f"more-{number}").touch()
    time.sleep(0.3)  # the kernel is told
    reader.send("on")
    names, same = reader.result()
    counts = Counter(name for name in names if name.startswith(b"name"))
    assert [name for name, times in counts.items() if times > 1] == []
    assert {f"name-{number:05}".encode() for number in range(2000)} - counts.keys() == set()
    assert same


# ---------------------------------------------------------------- ordinary tools


TOOLS = (
    ("find", ".", "-printf", r"%p %y %m %n %U %G %s %l %T@\n"),
    ("find", ".", "-type", "f", "-links", "+1", "-samefile", "file"),
    ("sh", "-c", "ls -laR --time-style=full-iso | grep -v ^total | grep -v '\\.\\.$'"),
    ("sh", "-c", "tar cf - --sort=name . | tar tvf - --full-time"),
    ("sh", "-c", "tar cf - --sort=name --format=gnu . | sha256sum"),
    ("sh", "-c", "stat -c '%n %F %a %h %u %g %s %Y %b %B' * */*"),
    ("du", "-a", "--apparent-size", "--block-size=1", "dir", "file", "hard"),
    ("sh", "-c", "cp -a . ../copy-$$ && diff -r --no-dereference . ../copy-$$ && rm -r ../copy-$$"),
    ("sh", "-c", "md5sum file hard script dir/inner; cat tofile todir/inner; ./script"),
)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: " ".join(tool)[:40])
def test_tools_say_the_same(twins: Twins, tool: tuple[str, ...]) -> None:
    name = f"tools-{TOOLS.index(tool)}"
    said = []
    for side, inside in ((twins.mount.store, twins.mount.mountpoint), (twins.native, twins.native)):
        (side / name).mkdir(mode=0o777)
        (side / name).chmod(0o777)
        twins.zoo(side / name / "zoo")
        done = tool_as(UID, *tool, cwd=inside / name / "zoo")
        said.append((done.returncode, sorted(done.stdout.splitlines()), done.stderr))
        assert content(side / name / "zoo" / "dir" / "inner") == b"inner"
    assert said[0] == said[1]
