"""The access vector cache of the bridge. It answers repeats of decided requests without the interpreter.

A vector is a remembered decision: the rights of one uid on one node, as bits (LOOKUP, GETATTR, OPEN, ...).
See docs/architecture/vectors.md. Call all functions here on the event loop's thread only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.kernel import bridge

MAX_READERS: Final = 4
"""The limit of reader threads. Tests with more readers were not faster. (In those tests each request woke all
readers. Now a request wakes one reader: _readers.c.)"""

LOOKUP: Final = 1 << 0
GETATTR: Final = 1 << 1
UNCOUNTED: Final = 1 << 2
"""A bit of a directory's vector: the directory's link count and size are not shown. The bit stays until the
node is dropped.
"""
OPEN: Final = 1 << 3
"""The right to open a file for reading. Such a vector needs a gid, flags of open(2) and a backing id."""
RECORDED: Final = 1 << 4
"""A bit beside OPEN or LIST: each open is an event for the trail, and take_events() returns it."""
NO_ATTRIBUTES: Final = 1 << 5
"""A bit for xattrs outside the namespaces ``user.`` and ``system.``. The bridge answers as if the node had
none of these xattrs (fs/namespace/xattr.py, absence()).
"""
NO_ACLS: Final = 1 << 6
"""A bit for xattrs in ``system.`` (ACLs). The bridge answers as if the node had none of these xattrs
(fs/namespace/xattr.py, absence()).
"""
LIST: Final = 1 << 7
"""The right to open a directory for listing while the kernel keeps the listing. Such a vector needs a gid."""
_ACCESS_SHIFT: Final = 8
ACCESS_MODES: Final = 8
_SERIAL: Final = (1 << 52) - 1
"""The mask of the bits in a bridge's handle that the trail uses: the handle's place in the bridge's table,
and the lowest 36 bits of its serial number (_opens.c).
"""
_OURS: Final = 1 << 55
_NOT_OURS: Final = 1 << 63
"""The top bit of a handle's number. Handles of the bridge do not have this bit: they have the bit _OURS
(_opens.c).
"""

install = bridge.install_vector
see_all = bridge.see_all_vector
leave = bridge.leave_directory
drop = bridge.drop_vectors
drop_all = bridge.drop_all_vectors
clear = bridge.clear_vectors


def access(mode: int) -> int:
    """Return a vector's bit for access(2) with this mode (R_OK, W_OK, X_OK or a sum of these: 0 to 7)."""
    return 1 << (_ACCESS_SHIFT + mode)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Counts of the cache. lookups, getattrs, accesses, opens, releases, opendirs, releasedirs: answered
    requests. getxattrs: requests answered as if the node had no such xattr (fs/namespace/xattr.py,
    absence()). ioctls: requests answered with ENOTTY. absences: LOOKUPs of absent names, answered with
    ENOENT. lost: replies that the kernel did not take. nodes, directories: the numbers of nodes and
    directories in the cache now. installed: vectors that found a place. refused: vectors that found no place.
    dropped: calls that dropped vectors. handles: the bridge's open handles, without those that Python has
    taken over. readers: the number of threads. reading: True while the readers read the device instead of the
    event loop. began: the number of times that the readers began to read the device.
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
    opendirs: int
    releasedirs: int
    ioctls: int
    readers: int
    reading: bool
    began: int


class Opened(NamedTuple):
    """A handle that the bridge gave out, and the file's attributes at that time: inode number, mode, links,
    uid, gid, size, blocks, block size, and the times of access, data change and inode change in nanoseconds.
    """

    fh: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    flags: int
    attributes: tuple[int, ...]


class Seen(NamedTuple):
    """An open that the bridge answered, for the trail. size, mtime_ns: size and mtime of the file at that
    time.
    """

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
    """The path of the process's executable. Empty if the process had ended, or cannot be seen."""


def take_events() -> list[Seen]:
    """Take the recorded opens that the bridge has answered since the last call.

    The opens of one reader thread are in order.
    """
    return list(map(Seen._make, bridge.take_events()))


events_bell = bridge.events_bell
"""A function that returns an eventfd, or -1 if the mount has no vectors. The eventfd becomes readable when so
many recorded opens wait that take_events() must take them soon."""

ring_early = bridge.ring_early
"""A function that takes a bool. True: the eventfd of events_bell() becomes readable as soon as any recorded
open waits. Event loop only."""


def index_of(fh: int) -> int:
    """Return the trail's number for a handle of the bridge: above Python's numbers, and below 2**53."""
    return bridge.MAX_INDEX + 1 + (fh & _SERIAL)


def number_of(fh: int) -> int:
    """Return the number of an open directory's handle, which the bridge or Python has given out."""
    is_ours = fh & (_OURS | _NOT_OURS) == _OURS
    return index_of(fh) if is_ours else bridge.fh_index(fh)


def take_handle(fh: int) -> list[Opened]:
    """Take over the bridge's handle *fh*, so that its requests go to Python. Return [] if the bridge has no
    such handle.
    """
    return [Opened(*one) for one in bridge.take_opens(0, fh)]


def take_handles(nodeid: int) -> list[Opened]:
    """Take over the bridge's handles of a node, so that their requests go to Python."""
    return [Opened(*one) for one in bridge.take_opens(1, nodeid)]


def take_all_handles() -> list[Opened]:
    """Take over all handles of the bridge, so that their requests go to Python."""
    return [Opened(*one) for one in bridge.take_opens(2, 0)]


def end_opens(nodeid: int) -> list[Opened]:
    """Take over the bridge's handles of a node. After this call, the bridge answers no open of the node."""
    return [Opened(*one) for one in bridge.end_opens(nodeid)]


def end_all_opens() -> list[Opened]:
    """Take over all handles of the bridge. After this call, the bridge answers no opens."""
    return [Opened(*one) for one in bridge.end_opens(None)]


def age_opens(ages: int) -> tuple[list[Opened], list[int]]:
    """Take over the bridge's handles that were already open at the previous call of this function.

    Return these handles, and the nodes with an OPEN vector that was not used for *ages* calls (2: since the
    previous call; 3: since the call before that one).
    """
    handles, unused = bridge.age_opens(ages)
    return [Opened(*one) for one in handles], unused


def stats() -> VectorStats:
    """Return the counts so far."""
    return VectorStats(*bridge.vector_counts(), *bridge.reader_state())


def start(device: int, epoll: int, *, nodes: int, directories: int) -> int:
    """Open the cache, and start the reader threads. Return the number of threads. At first, the threads read
    no requests.

    epoll: the descriptor by which the event loop waits for requests. INVARIANT: called before seccomp filters
    system calls. The filter would not let a reader be pinned to its processor.
    """
    bridge.open_vectors(nodes, directories)
    return bridge.start_readers(reader_groups(sorted(os.sched_getaffinity(0))), device, epoll)


def reader_groups(processors: Sequence[int]) -> list[Sequence[int]]:
    """Return the processors for each reader: one, or several neighbours if there are many processors.

    Every processor is in one group, so that a reader can move from a busy processor to another.
    """
    many = len(processors)
    readers = min(many, MAX_READERS)
    return [processors[many * i // readers : many * (i + 1) // readers] for i in range(readers)]


def set_shares(begin_percent: int, end_percent: int) -> None:
    """Set when the reader threads read the device: by the share, in percent, of requests that the cache can
    answer.

    The readers begin when the share reaches *begin_percent*, and rest when it falls below *end_percent*. With
    0 and 0, they always read.
    """
    bridge.reader_shares(begin_percent, end_percent)
