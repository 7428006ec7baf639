"""The access vector cache of the bridge: repeats of decided requests, answered without the interpreter.

See docs/architecture/vectors.md. Everything here is for the event loop's thread only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.kernel import bridge

MAX_READERS: Final = 4
"""Most readers. More were no gain when each request woke all of them. Now it wakes one (_readers.c)."""

LOOKUP: Final = 1 << 0
GETATTR: Final = 1 << 1
UNCOUNTED: Final = 1 << 2
"""Of a directory: its link count and size are not shown. Stays until the node is dropped."""
OPEN: Final = 1 << 3
"""It needs a gid, flags of open(2) and a backing id."""
RECORDED: Final = 1 << 4
"""With OPEN: each open is an event for the trail, see take_events()."""
NO_ATTRIBUTES: Final = 1 << 5
"""Extended attributes outside ``user.`` and ``system.`` are not shown: the answer is an error (absence())."""
NO_ACLS: Final = 1 << 6
"""Extended attributes in ``system.`` are not shown, with the same error."""
_ACCESS_SHIFT: Final = 8
ACCESS_MODES: Final = 8
_SERIAL: Final = (1 << 52) - 1
"""The bits of a handle's number that count slots and serials (_opens.c)."""

install = bridge.install_vector
see_all = bridge.see_all_vector
leave = bridge.leave_directory
drop = bridge.drop_vectors
drop_all = bridge.drop_all_vectors
clear = bridge.clear_vectors


def access(mode: int) -> int:
    """Return the bit of access(2) with a mode (0 to 7)."""
    return 1 << (_ACCESS_SHIFT + mode)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Counts of the cache. lookups, getattrs, accesses, opens, releases: answered requests. getxattrs:
    requests answered with that error. absences: LOOKUPs of absent names, answered with ENOENT. lost: replies
    that the kernel did not take. nodes, directories: in the cache now. installed, refused: vectors that found
    a place, and that found none. dropped: drops. handles: given out, and neither released nor taken over by
    Python. readers: threads. reading: True while the readers read the device, and the event loop does not.
    began: times that the readers began to read it.
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
    opens: int
    releases: int
    handles: int
    getxattrs: int
    absences: int
    readers: int
    reading: bool
    began: int


class Opened(NamedTuple):
    """A handle that the bridge gave out, and the file's attributes at that time: inode number, mode, links,
    uid, gid, size, blocks, block size, and the times of access, change of data and change in nanoseconds.
    """

    fh: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    flags: int
    attributes: tuple[int, ...]


class Seen(NamedTuple):
    """An open that the bridge answered and that belongs on the trail; size and mtime_ns of the file then."""

    time_ns: int
    fh: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    flags: int
    size: int
    mtime_ns: int
    program: bytes
    """The path of the process's executable; empty if it was gone, or cannot be seen."""


def take_events() -> list[Seen]:
    """Take the recorded opens that the bridge has answered since the last call.

    Those of one reader are in order.
    """
    return list(map(Seen._make, bridge.take_events()))


events_bell = bridge.events_bell
"""Returns an eventfd that is readable once so many events wait that they must be taken soon. -1 without
vectors."""


def index_of(fh: int) -> int:
    """Return the trail's number for a handle of the bridge: above those of Python's handles, below 2**53."""
    return bridge.MAX_INDEX + 1 + (fh & _SERIAL)


def take_handle(fh: int) -> list[Opened]:
    """Take over the handle with this number: all its requests then go to Python. Empty if there is none."""
    return [Opened(*one) for one in bridge.take_opens(0, fh)]


def take_handles(nodeid: int) -> list[Opened]:
    """Take over the handles of a node."""
    return [Opened(*one) for one in bridge.take_opens(1, nodeid)]


def take_all_handles() -> list[Opened]:
    """Take over all handles."""
    return [Opened(*one) for one in bridge.take_opens(2, 0)]


def end_opens(nodeid: int) -> list[Opened]:
    """Answer no open of a node any more, from the return of this call on; take over its handles."""
    return [Opened(*one) for one in bridge.end_opens(nodeid)]


def end_all_opens() -> list[Opened]:
    """Answer no open of any node any more, from the return of this call on; take over all handles."""
    return [Opened(*one) for one in bridge.end_opens(None)]


def age_opens(ages: int) -> tuple[list[Opened], list[int]]:
    """Take over the handles that were already open at the previous call.

    Returns them, and the nodes with an open vector that was not used for so many ages: 2 means since the
    previous call, 3 since the one before it.
    """
    handles, unused = bridge.age_opens(ages)
    return [Opened(*one) for one in handles], unused


def stats() -> VectorStats:
    """Return the counts so far."""
    return VectorStats(*bridge.vector_counts(), *bridge.reader_state())


def start(device: int, epoll: int, *, nodes: int, directories: int) -> int:
    """Open the cache, and start the readers, which rest at first; return their number.

    epoll: the descriptor by which the event loop waits for requests. INVARIANT: called before the system
    calls are filtered, since the filter would refuse to pin a reader to its processor.
    """
    bridge.open_vectors(nodes, directories)
    return bridge.start_readers(reader_groups(sorted(os.sched_getaffinity(0))), device, epoll)


def reader_groups(processors: Sequence[int]) -> list[Sequence[int]]:
    """Return the processors of each reader: one each, or several neighbours if there are many processors.

    All processors are in a group, so that a reader can move away from one that is busy.
    """
    many = len(processors)
    readers = min(many, MAX_READERS)
    return [processors[many * i // readers : many * (i + 1) // readers] for i in range(readers)]


def set_shares(begin_percent: int, end_percent: int) -> None:
    """Set two shares of repeats in percent: from the first on the readers read, below the second they rest.

    0 and 0: they always read the device.
    """
    bridge.reader_shares(begin_percent, end_percent)
