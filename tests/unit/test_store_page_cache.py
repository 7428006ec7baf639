"""Bytes of the store, and replacements laid over them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from policyfs.domain import Patch
from policyfs.fs.redacted.patching import patched
from policyfs.store.page_cache import read_store

DATA = bytes(range(1, 101))
PATCHES = (Patch(0, b"ab"), Patch(10, zeros=5), Patch(15, b"cdef"), Patch(60, zeros=30), Patch(99, b"z"))


def whole() -> bytes:
    """What a reader of all of it gets."""
    out = bytearray(DATA)
    for patch in PATCHES:
        out[patch.offset : patch.end] = patch.part(patch.offset, patch.end)
    return bytes(out)


@pytest.mark.parametrize("size", [1, 3, 7, 40, 100])
def test_each_part_is_that_of_the_whole(size: int) -> None:
    for at in range(100):
        assert patched(DATA[at : at + size], at, PATCHES) == whole()[at : at + size], at


@pytest.mark.parametrize(
    ("at", "size", "expected"),
    [(0, 100, 100), (90, 100, 10), (100, 5, 0), (200, 5, 0), (0, 2 << 20, 100), (200, 2 << 20, 0)],
)
def test_what_is_behind_the_end_is_left_out(tmp_path: Path, at: int, size: int, expected: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    try:
        read = trio.run(read_store, fd, at, size)
    finally:
        os.close(fd)
    assert read == DATA[at : at + size]
    assert len(read) == expected
