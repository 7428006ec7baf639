"""The names of a directory in C, beside a reference in Python."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from policyfs.kernel.bridge import DirectoryEntries
from policyfs.store.names.directory_records import DirectoryRecords
from tests.support.models.directory_entries import PlainEntries, position_of

REG, DIR, LNK, FIFO = 8, 4, 10, 1
KINDS = (REG, DIR, LNK, FIFO)
NOTHING: dict[bytes, int] = {}


def records(*names: tuple[bytes, int, int]) -> bytes:
    """struct linux_dirent64 of each name, inode number and type."""
    found = b""
    for name, ino, kind in names:
        length = (19 + len(name) + 1 + 7) & ~7
        found += (struct.pack("=QqHB", ino, 0, length, kind) + name).ljust(length, b"\0")
    return found


def collected(names: list[tuple[bytes, int, int]]) -> tuple[DirectoryEntries, PlainEntries]:
    ours, plain = DirectoryEntries(), PlainEntries()
    for name in names:
        ours.put(*name)
        plain.put(*name)
    while ours.sort():
        pass
    return ours, plain


def some(count: int, seed: int = 1) -> list[tuple[bytes, int, int]]:
    chance = random.Random(seed)
    names = {chance.randbytes(chance.randint(1, 255)).replace(b"\0", b"x") for _ in range(count)}
    return [(name, chance.getrandbits(64), chance.choice(KINDS)) for name in names]


@pytest.mark.parametrize("count", [0, 1, 2, 700, 9_000])
def test_names_are_in_the_order_of_their_positions(count: int) -> None:
    ours, plain = collected(some(count))
    assert len(ours) == len(plain)
    assert list(ours) == list(plain)
    assert all(entry[0] == position_of(entry[1]) for entry in ours)


def test_many_names_are_sorted_and_freed_in_steps() -> None:
    ours = DirectoryEntries()
    for number in range(40_000):
        ours.put(b"name-%05d-%s" % (number, b"x" * 100), number, REG)
    steps = [ours.sort() for _ in range(200)]
    assert steps.count(True) > 10
    assert not steps[-1]
    assert len(ours) == 40_000
    assert ours.drop()
    assert len(ours) == 0
    while ours.drop():
        pass
    assert ours.pack(0, 4096, False) == b""


def test_names_of_four_kilobytes_have_room() -> None:
    """A FUSE store may have names that are longer than the first piece of memory (fs/fuse/fuse_i.h)."""
    for size in (999, 1000, 1001, 1024, 2049, 4095):
        name = b"x" * size
        listings = [collected([(name, 5, REG), (b"short", 6, REG)]) for _ in range(50)]
        assert all(list(ours) == list(plain) for ours, plain in listings)


@pytest.mark.parametrize("plus", [False, True])
def test_replies_are_those_of_the_reference(plus: bool) -> None:
    ours, plain = collected(some(500, 7))
    for size in (0, 23, 24, 100, 300, 4096, 32_768):
        for index in (0, 1, 250, 498, 499, 500, 10_000):
            assert ours.pack(index, size, plus) == plain.pack(index, size, plus)
    assert len(ours.pack(0, 1 << 30, plus)) <= 128 << 10, "one reply takes a small part of a millisecond"


def test_a_listing_goes_on_behind_any_position() -> None:
    ours, plain = collected(some(300, 3))
    places = [entry[0] for entry in plain]
    for position in (0, 2, *places, *(place - 1 for place in places), (1 << 62) + 3, (1 << 64) - 1):
        assert ours.after(position) == plain.after(position)


@pytest.mark.parametrize("shown", [0, 1 << REG, 1 << REG | 1 << DIR])
@pytest.mark.parametrize("hidden", [0, 1 << FIFO, 1 << FIFO | 1 << LNK])
@pytest.mark.parametrize("withheld", [False, True])
def test_records_are_sorted_by_type_and_the_rest_is_left(shown: int, hidden: int, withheld: bool) -> None:
    names = some(200, 5)
    ways = (0, 1 << REG, 1 << DIR << 16, 1 << REG | 1 << LNK << 16, 0xFFFF, 0xFFFF << 16)
    apart = {name: ways[number % len(ways)] for number, (name, _, _) in enumerate(names[::3])}
    numbers = {ino: 1 for _, ino, _ in names[::7]} if withheld else {}
    ours, plain = DirectoryEntries(), PlainEntries()
    raw = records((b".", 1, DIR), *names, (b"..", 2, DIR), (b"...", 3, DIR))
    left = ours.add(raw, len(raw), shown, hidden, apart, numbers)
    assert left == plain.add([*names, (b"...", 3, DIR)], shown, hidden, apart, numbers)
    while ours.sort():
        pass
    assert list(ours) == list(plain)


def test_what_is_apart_has_one_number_each() -> None:
    raw = records((b"a", 1, REG))
    for wrong in ({b"a": "shown"}, {b"a": -1}):
        with pytest.raises((TypeError, OverflowError)):
            DirectoryEntries().add(raw, len(raw), 0, 0, wrong, ())


def test_types_that_the_store_does_not_tell_are_left() -> None:
    raw = records((b"a", 1, 0), (b"b", 2, REG), (b"c", 3, 200))
    ours = DirectoryEntries()
    assert ours.add(raw, len(raw), 0xFFFE, 0, NOTHING, ()) == [(b"a", 1, 0), (b"c", 3, 200)]


def test_a_real_directory(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"name-{number}").touch()
    fd = os.open(tmp_path, os.O_PATH)
    ours = DirectoryEntries()
    with DirectoryRecords(fd) as parts:
        os.close(fd)
        while parts.read():
            assert not ours.add(parts.buffer, parts.size, 1 << REG, 0, NOTHING, ())
    while ours.sort():
        pass
    assert {(name, ino) for _, name, ino, _ in ours} == {
        (os.fsencode(entry.name), entry.inode()) for entry in os.scandir(tmp_path)
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"x" * 19,
        b"x" * 24,
        records((b"a", 1, REG))[:-1],
        struct.pack("=QqHB", 1, 0, 0, REG) + b"a\0\0\0\0",
        struct.pack("=QqHB", 1, 0, 24, REG) + b"abcde",
        struct.pack("=QqHB", 1, 0, 32, REG) + b"a\0\0\0\0",
        struct.pack("=QqHB", 1, 0, 21, REG) + b"a\0\0\0\0",
    ],
    ids=["short", "garbage", "cut", "no length", "no end", "too long", "unaligned"],
)
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="the bytes are not records of getdents64"):
        DirectoryEntries().add(raw, len(raw), 0xFFFF, 0, NOTHING, ())


def test_names_are_collected_sorted_and_read_in_this_order() -> None:
    ours = DirectoryEntries()
    ours.put(b"a", 1, REG)
    for read in (lambda: ours.after(0), lambda: ours[0], lambda: ours.pack(0, 99, False)):
        with pytest.raises(RuntimeError, match="not sorted yet"):
            read()
    while ours.sort():
        pass
    with pytest.raises(RuntimeError, match="sorted already"):
        ours.put(b"b", 1, REG)
    with pytest.raises(RuntimeError, match="sorted already"):
        ours.add(b"", 0, 0, 0, NOTHING, ())
    with pytest.raises(IndexError):
        ours[1]
    for wrong in ((-1, 9), (0, -9)):
        with pytest.raises(ValueError, match="negative"):
            ours.pack(*wrong, False)
    with pytest.raises(ValueError, match="longer than the buffer"):
        DirectoryEntries().add(b"", 9, 0, 0, NOTHING, ())
    with pytest.raises(OverflowError):
        ours.after(-1)
