"""The access vector cache of the bridge: repeats of decided requests, answered without the interpreter.

See docs/architecture/vectors.md. Everything here is for the event loop's thread only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from policyfs.kernel import bridge

MAX_READERS: Final = 4
"""Each request wakes all readers that wait, and one of them gets it. So more readers are no gain."""

LOOKUP: Final = 1 << 0
GETATTR: Final = 1 << 1
UNCOUNTED: Final = 1 << 2
"""Of a directory: its link count and size are not shown. Stays until the node is dropped."""
_ACCESS_SHIFT: Final = 8
ACCESS_MODES: Final = 8

install = bridge.install_vector
drop = bridge.drop_vectors
drop_all = bridge.drop_all_vectors
clear = bridge.clear_vectors


def access(mode: int) -> int:
    """Return the bit of access(2) with a mode (0 to 7)."""
    return 1 << (_ACCESS_SHIFT + mode)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Counts of the cache. lookups, getattrs, accesses: requests answered. lost: replies that the kernel did
    not take. nodes, directories: in it now. installed, refused: vectors that found a place, and that found
    none. dropped: drops. readers: threads. reading: True while these read the device, and the event loop does
    not. began: times that they began to.
    """

    lookups: int
    getattrs: int
    accesses: int
    lost: int
    nodes: int
    directories: int
    installed: int
    dropped: int
    refused: int
    readers: int
    reading: bool
    began: int


def stats() -> VectorStats:
    """Return the counts so far."""
    return VectorStats(*bridge.vector_counts(), *bridge.reader_state())


def start(device: int, epoll: int, *, nodes: int, directories: int) -> int:
    """Open the cache, and start the readers, which rest at first; return their number.

    epoll: the descriptor by which the event loop waits for requests. INVARIANT: before the system calls are
    filtered, since a reader is pinned to its processor.
    """
    bridge.open_vectors(nodes, directories)
    return bridge.start_readers(sorted(os.sched_getaffinity(0))[:MAX_READERS], device, epoll)


def set_shares(begin_percent: int, end_percent: int) -> None:
    """Choose the percentage of repeats from which the readers read the device, and below which they rest.

    0 and 0: they read it always.
    """
    bridge.reader_shares(begin_percent, end_percent)
