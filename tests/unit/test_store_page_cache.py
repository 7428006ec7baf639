"""Bytes of the store, and replacements laid over them."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest
import trio

from policyfs.domain import Patch
from policyfs.fs.redacted.patching import patched
from policyfs.store import page_cache
from policyfs.store.page_cache import BUFFER_BYTES, Buffers, read_store

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
        part = DATA[at : at + size]
        assert patched(memoryview(bytearray(part)), at, PATCHES) == whole()[at : at + size], at


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


def test_a_buffer_is_used_again_once_nobody_has_a_view_of_it() -> None:
    buffers = Buffers(most=2)
    first = buffers.take(BUFFER_BYTES)
    first[:3] = b"one"
    assert buffers.take(BUFFER_BYTES)[:3] != b"one"
    part = first[1:]
    del first
    second, third = buffers.take(100), buffers.take(100)
    assert second[:3] != b"one"
    assert third[:3] != b"one"
    del part, second
    assert buffers.take(BUFFER_BYTES)[:3] == b"one"  # the memory, not new memory
    assert len(buffers.take(BUFFER_BYTES + 1)) == BUFFER_BYTES + 1


def test_a_read_beyond_the_kept_buffers_takes_no_more_memory_than_it_needs() -> None:
    buffers = Buffers(most=1)
    first = buffers.take(BUFFER_BYTES)
    second = buffers.take(200_000)
    assert len(first) == BUFFER_BYTES
    assert isinstance(second.obj, bytearray)
    assert len(second.obj) == 200_000


@pytest.mark.parametrize("on_thread", [False, True])
def test_a_read_that_fails_gives_its_buffer_back_at_once(
    tmp_path: Path, monkeypatch, on_thread: bool
) -> None:
    """trio keeps the exception of a thread in a reference cycle, and the exception keeps its frames."""
    buffers = Buffers(most=1)
    monkeypatch.setattr(page_cache, "_BUFFERS", buffers)
    (tmp_path / "film").write_bytes(bytes(BUFFER_BYTES))
    fd = os.open(tmp_path / "film", os.O_RDONLY)

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "a bad disk")

    monkeypatch.setattr(page_cache, "read_all", fails)
    monkeypatch.setattr(page_cache, "_read_cached", (lambda *_: 0) if on_thread else fails)
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="a bad disk"):
                trio.run(read_store, fd, 0, BUFFER_BYTES)
            buffers.take(1)[:1] = b"x"
            assert len(buffers._kept) == 1
            assert buffers._kept[0][:1] == b"x", "it was used"
    finally:
        gc.enable()
        os.close(fd)


def test_reads_at_the_same_time_get_the_bytes_of_their_own_files(tmp_path: Path) -> None:
    """More reads than there are buffers, in turns with reads of the end of a shorter file."""
    fds = []
    for number in range(12):
        (tmp_path / str(number)).write_bytes(bytes([number]) * (BUFFER_BYTES - number * 50_000))
        fds.append(os.open(tmp_path / str(number), os.O_RDONLY))

    async def read(number: int) -> None:
        for _ in range(20):
            os.posix_fadvise(fds[number], 0, 0, os.POSIX_FADV_DONTNEED)  # some on threads
            data = await read_store(fds[number], 0, BUFFER_BYTES)
            await trio.lowlevel.checkpoint()
            assert bytes(data) == bytes([number]) * (BUFFER_BYTES - number * 50_000)

    async def read_all() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(len(fds)):
                nursery.start_soon(read, number)

    try:
        trio.run(read_all)
    finally:
        for fd in fds:
            os.close(fd)
