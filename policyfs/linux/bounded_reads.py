"""Reads of other processes' files in /proc that end after a time, even if the kernel does not answer.

During execve(2), the kernel holds a lock of the process (exec_update_lock) and closes files; on a FUSE file
system that does not answer, without end. Meanwhile reads of ``exe``, ``stat``, ``stack``, ``wchan``, ``fd``
and ``ns`` of the process wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

WAIT_S: Final = 1.0
MOST: Final = 32
"""The most processes whose reads may hang at one time: a thread waits for each."""

T = TypeVar("T")
_under_way: set[int] = set()


def each(pid: int, read: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Yield the results of *read*, which runs on a thread of its own and goes on there, until the next one
    takes longer than WAIT_S, or OSError. pid: the process whose files it reads.

    Nothing if an earlier read of this process, or reads of MOST processes, still hang, or no thread starts.
    INVARIANT: one thread of the daemon calls this, and consumes each iterator to its end."""
    if pid in _under_way or is_full():
        return
    results: SimpleQueue[tuple[T, ...]] = SimpleQueue()

    def run() -> None:
        try:
            with contextlib.suppress(OSError):
                for result in read():
                    results.put((result,))
        finally:
            _under_way.discard(pid)
            results.put(())

    _under_way.add(pid)
    try:
        threading.Thread(target=run, name="policyfs-proc", daemon=True).start()
    except RuntimeError:
        _under_way.discard(pid)
        return
    with contextlib.suppress(Empty):
        while result := results.get(timeout=WAIT_S):
            yield result[0]


def one(pid: int, read: Callable[[], T], otherwise: T) -> T:
    """Return the result of *read*, or *otherwise* where each() yields nothing."""
    return [otherwise, *each(pid, lambda: [read()])][-1]


def is_full() -> bool:
    """Return True if reads of MOST processes hang: then no process is read."""
    return len(_under_way) >= MOST
