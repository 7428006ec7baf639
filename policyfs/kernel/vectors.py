"""The access vector cache of the bridge. It answers repeats of decided requests without the interpreter.

A vector is a remembered decision: the rights of one uid on one node, as bits (LOOKUP, GETATTR, OPEN, ...).
See docs/architecture/vectors.md. Call all functions here on the event loop's thread only.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from policyfs.kernel.bridge import MAX_INDEX, fh_index, library

MAX_READERS: Final = 4
"""The limit of reader threads. Tests with more readers were not faster."""

LOOKUP: Final = 1 << 0
GETATTR: Final = 1 << 1
UNCOUNTED: Final = 1 << 2
"""A bit of a directory: its link count and size are not shown. It stays until the node is dropped."""
OPEN: Final = 1 << 3
"""The right to open a file for reading. Such a vector needs a gid, flags of open(2) and a backing id."""
RECORDED: Final = 1 << 4
"""A bit beside OPEN or LIST: each open is an event for the trail, and take_events() returns it."""
LIST: Final = 1 << 7
"""The right to open a directory for listing while the kernel keeps the listing. Such a vector needs a gid."""
CHANGE: Final = 1 << 16
"""A bit of a directory: the bridge may make files in it, and set their attributes."""
CHANGES_RECORDED: Final = 1 << 17
"""A bit beside CHANGE: each such change, and each open by WRITE, is an event for the trail."""
XATTRS: Final = 1 << 18
"""A bit of a directory: the bridge may show the xattrs of its files."""
WRITE: Final = 1 << 19
"""A bit of a directory beside CHANGE: the bridge may open its files for writing."""
REMOVE: Final = 1 << 20
"""A bit of a directory beside CHANGE: the bridge may remove its files."""
_ACCESS_SHIFT: Final = 8
ACCESS_MODES: Final = 8
RAW: Final = LOOKUP | GETATTR | OPEN | 1 << _ACCESS_SHIFT | 1 << _ACCESS_SHIFT + os.R_OK
"""The rights on each file in a directory: look up, see the attributes, read."""
_SERIAL: Final = (1 << 52) - 1
"""The bits of a bridge's handle for the trail: its place in the table, 36 of its serial number (_opens.c)."""
_OURS: Final = 1 << 55
_NOT_OURS: Final = 1 << 63
"""Bits of a handle's number: the bridge's handles have _OURS, and not the top bit (_opens.c)."""

OWN_NODES: Final = library.OWN_NODES
"""The bit in the numbers of nodes that the bridge makes. Python counts its own from 1 on, and phantoms from
twice this bit on (fs/kernel_cache/announcements.py)."""

MAKING: Final = 1 << 63
"""The bit in OwnNode.lookups of a node whose file was about to be made. The rest is the CREATE's number."""

install = library.install_vector
see_all = library.see_all_vector
leave = library.leave_directory
drop = library.drop_vectors
drop_all = library.drop_all_vectors
clear = library.clear_vectors
allow_directory = library.allow_directory
is_allowed = library.is_allowed
register_as = library.register_as
"""A function that sets the fsuid under which the bridge registers backing files."""
passes_through = library.passes_through
"""A function that says that the kernel passes files of the store through: else the bridge makes none."""
lock_names_in = library.lock_names_in
"""A function that says by bytes of which file (a descriptor) names are locked; -1: the bridge removes no
name."""
held_in = library.held_in
"""A function that says in which file (a descriptor) other daemons mark files with held bytes; -1: the bridge
replaces no file by another."""
name_number = library.name_number
"""A function that returns the byte that stands for a name (device, inode number of its directory, name)."""
know_inode = library.know_inode
changed = library.changed
"""A function that tells if an inode (argument) has a node of the bridge: it returns the node's number, or 0
if the kernel knows the file's present attributes; None if the inode has none, or has another name now."""
list_file = library.list_file
unlist_file = library.unlist_file
own_nodes = library.own_nodes
own_backed = library.own_backed
"""Functions that return the number of the bridge's own nodes, which Python does not know yet, and of those
with a backing id."""
free_taken = library.free_taken
"""A function that frees the slot of a handle that Python has taken over and saved. Argument: its number."""
_COUNT: Final = struct.Struct("=QQ")
COUNT_BYTES: Final = _COUNT.size
"""The size of the memory in which a node's count of look-ups outlives the process, in bytes."""
OPENS_BYTES: Final = library.OPENS_BYTES
"""The size of the memory in which the bridge's handles outlive the process, in bytes."""
_OPEN: Final = struct.Struct("=Qi")
"""The beginning of a slot (kernel/answers/_opens.c): the number of the handle, 0: none, and its file."""
OWN_BYTES: Final = library.OWN_BYTES
"""The size of the memory in which the nodes that the bridge makes outlive the process, in bytes."""
exempt = library.exempt
"""A function that sends all requests of a process to Python. Argument: its pid; 0: of no process."""
no_capabilities = library.no_capabilities
"""A function that lets the bridge answer (True) the kernel's question for the capabilities of a file."""
set_shares = library.reader_shares
"""A function that sets when the reader threads read the device. Arguments: the shares of requests that the
cache can answer, in percent, at which they begin and below which they rest. 0 and 0: they always read."""


def access(mode: int) -> int:
    """Return a vector's bit for access(2) with this mode (R_OK, W_OK, X_OK or a sum of these: 0 to 7)."""
    return 1 << (_ACCESS_SHIFT + mode)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Counts of the cache: answered requests by kind (absences: LOOKUPs answered with ENOENT), and:

    lost: replies that the kernel did not take. nodes, directories: those in the cache now. installed,
    refused: vectors that found a place, or none. dropped: calls that dropped vectors. handles, listings: open
    files and directories, without those that Python has taken over. readers: threads. reading: True while
    they read the device instead of the event loop. began: the number of times that they began.
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
    listings: int
    getxattrs: int
    absences: int
    opendirs: int
    releasedirs: int
    ioctls: int
    creates: int
    setattrs: int
    unlinks: int
    renames: int
    renames2: int
    flushes: int
    listxattrs: int
    setxattrs: int
    removexattrs: int
    readers: int
    reading: bool
    began: int


class Opened(NamedTuple):
    """A handle that the bridge gave out. attributes: at that time; inode number, mode, links, uid, gid, size,
    blocks, block size, and the times of access, data change and inode change in nanoseconds. unique: the
    number of the request. file: the caller's from now on, a writer's descriptor of its file; -1: none."""

    fh: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    flags: int
    attributes: tuple[int, ...]
    unique: int = 0
    file: int = -1


class OwnNode(NamedTuple):
    """A node that the bridge has made, of a regular file. lookups: the kernel's references. backing_id: 0 if
    it is not open. remover: the number of the UNLINK or RENAME that a killed daemon was about to make, or 0.
    new_parent, new_name: of the RENAME."""

    nodeid: int
    parent: int
    name: bytes
    ino: int
    btime_ns: int
    lookups: int
    backing_id: int
    remover: int = 0
    new_parent: int = 0
    new_name: bytes = b""


class Listed(NamedTuple):
    """The entry of a file in a listing, with timeouts in seconds. attributes: as in Opened."""

    nodeid: int
    entry_s: int
    attr_s: float
    attributes: tuple[int, ...]


def take_node(nodeid: int) -> list[OwnNode]:
    """Take over the bridge's own node with this number, if there is one. See fs/inodes/vectors.py."""
    return [OwnNode(*one) for one in library.take_nodes(0, nodeid)]


def take_inode(ino: int) -> list[OwnNode]:
    """Take over the bridge's own node of this inode, if there is one."""
    return [OwnNode(*one) for one in library.take_nodes(1, ino)]


def take_in(directory: int) -> list[OwnNode]:
    """Take over all of the bridge's own nodes with a name in this directory."""
    return [OwnNode(*one) for one in library.take_nodes(2, directory)]


def take_some(most: int) -> list[OwnNode]:
    """Take over at most so many of the bridge's own nodes, the oldest first."""
    return [OwnNode(*one) for one in library.take_nodes(3, most)]


class Answer(enum.IntEnum):
    """The kind of an answer of the bridge that is an event for the trail (_avc.h)."""

    OPENED, MADE, SET, RELEASED, REMOVED, MOVED, WRITTEN = range(7)


class Seen(NamedTuple):
    """An answer of the bridge, for the trail. size, mtime_ns: of the file at the open. parent, name: of the
    bridge's own node; else 0 and empty. size_after, mtime_after_ns: at the release. new_parent, new_name:
    after a rename, whose *flags* are those of renameat2(2); fh: 0 unless it replaced a file of this size."""

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
    parent: int = 0
    name: bytes = b""
    kind: int = Answer.OPENED
    size_after: int = 0
    mtime_after_ns: int = 0
    new_parent: int = 0
    new_name: bytes = b""


def take_events() -> list[Seen]:
    """Take the recorded opens since the last call; those of one reader thread are in order."""
    return list(map(Seen._make, library.take_events()))


events_bell = library.events_bell
"""A function that returns an eventfd (-1: no vectors). It is readable if take_events() must come soon."""

ring_early = library.ring_early
"""A function that takes a bool. True: that eventfd is readable once any recorded open waits."""


def index_of(fh: int) -> int:
    """Return the trail's number for a handle of the bridge: above Python's numbers, and below 2**53."""
    return MAX_INDEX + 1 + (fh & _SERIAL)


def number_of(fh: int) -> int:
    """Return the number of an open directory's handle, which the bridge or Python has given out."""
    is_ours = fh & (_OURS | _NOT_OURS) == _OURS
    return index_of(fh) if is_ours else fh_index(fh)


def take_handle(fh: int) -> list[Opened]:
    """Take over the bridge's handle *fh* (if it has it), so that its requests go to Python."""
    return [Opened(*one) for one in library.take_opens(0, fh)]


def writer_file(fh: int) -> int:
    """Return another descriptor of the file that the bridge's handle *fh* writes to; -1: it has none. The
    handle stays the bridge's."""
    return library.writer_file(fh)


def take_handles(nodeid: int) -> list[Opened]:
    """Take over the bridge's handles of a node, so that their requests go to Python."""
    return [Opened(*one) for one in library.take_opens(1, nodeid)]


def read_opens(memory: memoryview) -> list[Opened]:
    """Return the handles that the bridge of a dead process had, from the memory that start() got."""
    return [Opened(*one) for one in library.read_opens(memory)]


def renumber_opens(memory: memoryview, number: Callable[[int], int]) -> None:
    """Replace the descriptors of handles in such memory. number: returns another one, or -1."""
    for at in range(0, OPENS_BYTES, OPENS_BYTES // library.OPENS_SLOTS):
        fh, file = _OPEN.unpack_from(memory, at)
        if fh and file >= 0:
            _OPEN.pack_into(memory, at, fh, number(file))


def read_own(memory: memoryview, known: dict[int, Any]) -> list[OwnNode]:
    """Return the nodes with a backing id that the bridge of a dead process had made, and forget *known* ones,
    which Python has. start() makes those without a backing id again, as the bridge's own."""
    return [OwnNode(*one) for one in library.read_own(memory, known)]


def read_counts(memory: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the look-ups (node, number) of a dead process's bridge that Python had not counted yet."""
    return ((nodeid, lookups) for nodeid, lookups in _COUNT.iter_unpack(memory) if nodeid and lookups)


def end_opens(nodeid: int) -> list[Opened]:
    """Take over the bridge's handles of a node. After this call, the bridge answers no open of the node."""
    return [Opened(*one) for one in library.end_opens(nodeid)]


def end_all_opens() -> list[Opened]:
    """Take over all handles of the bridge. After this call, the bridge answers no opens."""
    return [Opened(*one) for one in library.end_opens(None)]


def age_opens(ages: int) -> tuple[list[Opened], list[int]]:
    """Take over all handles of the bridge if it has little room left for more. Return them, and the nodes
    with an OPEN vector that was not used for *ages* calls (2: since the last one)."""
    handles, unused = library.age_opens(ages)
    return [Opened(*one) for one in handles], unused


def stats() -> VectorStats:
    """Return the counts so far."""
    readers, reading, began = library.reader_state()
    return VectorStats(**library.vector_counts(), readers=readers, reading=reading, began=began)


def start(
    device: int, epoll: int, *, nodes: int, directories: int, memory: memoryview | None = None,
    counts: memoryview | None = None, own: memoryview | None = None,
) -> int:  # fmt: skip
    """Open the cache, and start the reader threads, which at first read nothing. Return their number.

    epoll: the descriptor by which the event loop waits for requests. memory: OPENS_BYTES, if the bridge's
    handles must outlive this process; those that are in it are dropped. counts: COUNT_BYTES for each node, if
    the counts of look-ups must. own: OWN_BYTES, if the nodes that it makes must.
    INVARIANT: called before seccomp filters system calls. The filter would not let a reader be pinned to its
    processor.
    """
    library.open_vectors(nodes, directories, memory, counts, own)
    return library.start_readers(reader_groups(sorted(os.sched_getaffinity(0))), device, epoll)


def reader_groups(processors: Sequence[int]) -> list[Sequence[int]]:
    """Return the processors for each reader: one or several neighbours. Each processor is in one group."""
    many = len(processors)
    readers = min(many, MAX_READERS)
    return [processors[many * i // readers : many * (i + 1) // readers] for i in range(readers)]
