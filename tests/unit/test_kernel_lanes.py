"""The order in which waiting requests go on: their C source without Python, a mount or a device."""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.kernel.protocol import Opcode
from tests.support.machine.objects import build

KERNEL = Path(__file__).resolve().parents[2] / "policyfs/kernel"
HEADER = struct.Struct("=IIQQIIIHH")


class Lanes:
    """The queue of one session."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._buffer = ctypes.create_string_buffer(4096)
        self._uniques = itertools.count(2, 2)

    def put(self, opcode: Opcode, uid: int = 0) -> int:
        unique = next(self._uniques)
        message = HEADER.pack(HEADER.size, opcode, unique, 1, uid, 0, 0, 0, 0)
        assert self._library.lanes_put(message, len(message))
        return unique

    def take(self) -> int:
        """Pass the next request on; its number."""
        lane = ctypes.c_void_p(self._library.lanes_turn())
        assert self._library.lanes_take(lane, self._buffer, len(self._buffer)) == HEADER.size
        unique: int = HEADER.unpack_from(self._buffer)[2]
        return unique


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    build(
        tmp_path / "lanes.so",
        ("-std=gnu11", "-O1", "-fPIC", "-shared", f"-I{KERNEL}"),
        [(KERNEL / "_lanes.c").read_text(encoding="utf-8")],
        tmp_path,
    )
    library = ctypes.CDLL(str(tmp_path / "lanes.so"))
    library.lanes_turn.restype = ctypes.c_void_p
    library.lanes_take.restype = ctypes.c_ssize_t
    library.lanes_limit(32, 192)
    yield Lanes(library)
    library.lanes_reset()


def test_a_request_waits_for_each_release_that_came_before_it(lanes: Lanes) -> None:
    """A later request may rely on it: the last writer of a file is gone."""
    before = [lanes.put(Opcode.RELEASE) for _ in range(20)]
    asked = lanes.put(Opcode.LOOKUP, uid=1)
    assert [lanes.take() for _ in range(21)] == [*before, asked]


def test_a_request_waits_for_few_releases_that_came_after_it(lanes: Lanes) -> None:
    """A process with thousands of open files ends: for each answer to a RELEASE the kernel sends another."""
    before = [lanes.put(Opcode.RELEASE) for _ in range(5)]
    asked = lanes.put(Opcode.LOOKUP, uid=1)
    taken = []
    for _ in range(1000):
        lanes.put(Opcode.RELEASE)
        taken.append(lanes.take())
    assert taken[:5] == before
    assert taken.index(asked) <= 6


def test_releases_go_on_beside_requests_without_end(lanes: Lanes) -> None:
    """They free resources, so at least every second one that goes on is one of them."""
    asked = [lanes.put(Opcode.LOOKUP, uid=1 + number % 3) for number in range(30)]
    releases = [lanes.put(Opcode.RELEASE) for _ in range(10)]
    taken = [lanes.take() for _ in range(40)]
    assert [unique for unique in taken if unique in releases] == releases
    assert max(taken.index(unique) for unique in releases) < 20
    assert sorted(taken) == asked + releases
