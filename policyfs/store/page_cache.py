"""Reads from the store: from memory on the event loop, from the disk on a worker thread."""

from __future__ import annotations

import errno
import os

import trio


async def read_store(fd: int, offset: int, size: int) -> bytes:
    """Return up to *size* bytes at *offset*; fewer only at the end of the file. Raises OSError.

    RWF_NOWAIT reads bytes that are in memory without blocking the loop. A thread reads the rest, and
    everything on file systems without RWF_NOWAIT.
    """
    buffer = bytearray(size)
    done = _read_cached(fd, buffer, offset)
    if done < size and offset + done < os.fstat(fd).st_size:  # the rest is not in memory
        done = await trio.to_thread.run_sync(_read_all, fd, buffer, offset, done)
    if done == size:
        return bytes(buffer)
    return bytes(buffer[:done])


def in_memory(fd: int, size: int) -> bool:
    """Return True if the first *size* bytes are in the page cache, so that a read waits for no disk."""
    return _read_cached(fd, bytearray(size), 0) == size


def _read_cached(fd: int, buffer: bytearray, offset: int) -> int:
    try:
        return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}:
            return 0
        raise


def _read_all(fd: int, buffer: bytearray, offset: int, done: int) -> int:
    view = memoryview(buffer)
    while done < len(buffer):
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done
