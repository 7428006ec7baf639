"""Threads that free the disk space of large files.

The kernel frees a file's bytes during the call that truncates the file, or that closes the last descriptor of
a file without a name. This takes 80 ms for 512 MiB in memory. On the event loop, all other requests would
wait.
"""

from __future__ import annotations

import os
import stat as stat_bits
import threading
from collections import deque
from functools import partial
from typing import Final

import trio

from policyfs.linux.statx import Stat

LARGE_BYTES: Final = 16 << 20
"""A file that frees more bytes than this is freed on a thread."""
_AT_ONCE: Final = 8
"""The limit of threads that close() uses at once. No request waits for the space that these threads free."""
_LATER: Final = 1024
"""The limit of descriptors that wait for one of these threads."""

_threads: Final = threading.Semaphore(_AT_ONCE)
_waiting: Final[deque[int]] = deque()


def is_much(stat: Stat, size: int = 0) -> bool:
    """Return True if much space may become free when a file is truncated to *size* bytes. Its own size says
    nothing: an app reserves space beyond the end, and makes holes."""
    return size <= stat.size and stat.blocks * 512 > LARGE_BYTES


def close(fd: int) -> None:
    """Close a descriptor. If its file is large and has no name, a thread closes the descriptor a moment
    later. Raises the OSError of close(2), but not if a thread closes the descriptor."""
    if not _keeps_much(fd):
        os.close(fd)
    elif _threads.acquire(blocking=False):
        _start(fd)
    elif len(_waiting) < _LATER:
        _waiting.append(fd)
    else:
        os.close(fd)


def _start(fd: int) -> None:
    try:
        trio.lowlevel.start_thread_soon(partial(os.close, fd), _closed)
    except RuntimeError:  # no thread can be started
        _threads.release()
        os.close(fd)


async def closed(fd: int) -> None:
    """Close a descriptor, and return when the file's space is free. A cancellation takes effect only then."""
    if not _keeps_much(fd):
        os.close(fd)
        return
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(os.close, fd)
        except RuntimeError:  # no thread can be started
            os.close(fd)


def _keeps_much(fd: int) -> bool:
    try:
        stat = os.fstat(fd)
    except OSError:  # a network store has lost the file, and the descriptor must be closed all the same
        return False
    return not stat.st_nlink and stat.st_blocks * 512 > LARGE_BYTES and stat_bits.S_ISREG(stat.st_mode)


def _closed(_: object) -> None:
    if _waiting:
        _start(_waiting.popleft())
    else:
        _threads.release()
