"""Reads from the store: from memory on the event loop, from the disk on a worker thread."""

from __future__ import annotations

import errno
import os
from typing import Final

import trio

BUFFER_BYTES: Final = 1 << 20
"""The size of the largest READ: 256 pages (FUSE_MAX_MAX_PAGES, linux/fs/fuse/fuse_i.h)."""
_LARGE: Final = 128 << 10
"""The size in bytes from which glibc takes memory from the kernel (M_MMAP_THRESHOLD, mallopt(3))."""


class Buffers:
    """The buffers of large reads. They are used again and again.

    The C library takes each new buffer of this size from the kernel, and returns it. This costs one page
    fault for every 4 KiB: it took two thirds of the time of a film's read.

    INVARIANT: no reader gets bytes of another reader. A buffer is used again only when no memoryview of it
    exists. While a memoryview exists, CPython refuses to change the bytearray's size (BufferError).
    """

    def __init__(self, *, most: int = 8) -> None:
        """most: the limit of kept buffers, of BUFFER_BYTES each."""
        self._most = most
        self._kept: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """Return a view of *size* bytes of any content. The buffer is free again when the view is gone."""
        if size > BUFFER_BYTES:
            return memoryview(bytearray(size))
        buffer = next(filter(_is_free, self._kept), None)
        if buffer is None:
            if len(self._kept) >= self._most:
                return memoryview(bytearray(size))
            buffer = bytearray(BUFFER_BYTES)
            self._kept.append(buffer)
        return memoryview(buffer)[:size]


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.pop()
    except BufferError:
        return False
    buffer.append(0)
    return True


_BUFFERS: Final = Buffers()


async def read_store(fd: int, offset: int, size: int) -> memoryview:
    """Return up to *size* bytes at *offset*; fewer only at the end of the file. Raises OSError.

    Nobody but the caller has a view of the result's buffer, so the caller may change the bytes.

    RWF_NOWAIT reads bytes that are in memory without blocking the loop. A thread reads the rest, and
    everything on file systems without RWF_NOWAIT.
    """
    buffer = buffer_of(size)
    try:
        done = _read_cached(fd, buffer, offset)
        if done < size and offset + done < os.fstat(fd).st_size:  # the rest is not in memory
            done = await trio.to_thread.run_sync(read_all, fd, buffer, offset, done)
    except BaseException:
        buffer.release()  # the frames of an exception from a thread stay until the garbage is collected
        raise
    return buffer[:done]


def buffer_of(size: int) -> memoryview:
    """Return a buffer of any content. Nobody but the caller has a view of it."""
    return memoryview(bytearray(size)) if size < _LARGE else _BUFFERS.take(size)


def in_memory(fd: int, size: int) -> bool:
    """Return True if the first *size* bytes are in the page cache, so that a read waits for no disk."""
    return _read_cached(fd, memoryview(bytearray(size)), 0) == size


def _read_cached(fd: int, buffer: memoryview, offset: int) -> int:
    try:
        return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}:
            return 0
        raise


def read_all(fd: int, buffer: memoryview, offset: int, done: int = 0) -> int:
    """Read from a file at *offset* until the buffer is full, or the file ends. Return the number of bytes.

    done: the number of bytes that the buffer has already. May wait for the disk: call it on a worker thread.
    """
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done
