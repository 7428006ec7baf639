"""The C bridge and pyfuse3, loaded in the only order in which they work together.

Import pyfuse3 only from this module. The bridge must be in the process's global symbol scope before
pyfuse3 is loaded (docs/decisions/0001-symbol-interposition.md).
"""

from __future__ import annotations

import faulthandler
import os
import struct
import sys
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Final

# INVARIANT: no other module imports _bridge, because the first import decides the scope of the bridge's
# symbols.
for _name in ("pyfuse3", "policyfs.kernel._bridge"):
    if _name in sys.modules:
        raise ImportError(f"policyfs.kernel.bridge must be imported before {_name}")
_flags = sys.getdlopenflags()
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
try:
    from policyfs.kernel import _bridge
finally:
    sys.setdlopenflags(_flags)

import pyfuse3  # noqa: E402 - the bridge must be loaded first

from policyfs.kernel.protocol import Opcode  # noqa: E402 - after the loading above

start_readers = _bridge.start_readers
reader_shares = _bridge.reader_shares
reader_state = _bridge.reader_state
open_vectors = _bridge.open_vectors
install_vector = _bridge.install_vector
leave_directory = _bridge.leave_directory
see_all_vector = _bridge.see_all_vector
drop_vectors = _bridge.drop_vectors
drop_all_vectors = _bridge.drop_all_vectors
clear_vectors = _bridge.clear_vectors
take_opens = _bridge.take_opens
end_opens = _bridge.end_opens
age_opens = _bridge.age_opens
take_events = _bridge.take_events
events_bell = _bridge.events_bell
ring_early = _bridge.ring_early
vector_counts = _bridge.vector_counts
read_proc = _bridge.read_proc
# The functions from start_readers to vector_counts are for kernel/vectors.py; reader_state is also for
# readiness.py. read_proc is for own_proc.py.

DirectoryEntries = _bridge.DirectoryEntries
Pending = _bridge.Pending
"""A request that must be answered once. If the object is deleted without an answer, the bridge answers
EIO.
"""

Appender = _bridge.Appender
"""A thread that appends to a file without the interpreter lock, for the journal (_appender.c)."""

__all__ = [
    "FH_CACHE_DIR",
    "FH_DIRECT_IO",
    "FH_KEEP_CACHE",
    "FH_NOFLUSH",
    "FH_NONSEEKABLE",
    "FH_PARALLEL_DIRECT_WRITES",
    "FH_PASSTHROUGH",
    "FH_STREAM",
    "KEPT_REQUEST",
    "MAX_BACKING_ID",
    "MAX_INDEX",
    "Appender",
    "DirectoryEntries",
    "Pending",
    "RawRequest",
    "age_opens",
    "attached",
    "clear_vectors",
    "counters",
    "drop_all_vectors",
    "drop_vectors",
    "end_opens",
    "events_bell",
    "fh_index",
    "hear_flushes",
    "init_answer",
    "install_vector",
    "leave_directory",
    "lost_replies",
    "open_reply",
    "open_vectors",
    "pack_fh",
    "prepare",
    "pyfuse3",
    "raw_request",
    "read_proc",
    "reader_shares",
    "reader_state",
    "ring_early",
    "see_all_vector",
    "start_readers",
    "take_events",
    "take_opens",
    "take_requests",
    "take_turns",
    "vector_counts",
    "waiting",
    "write_notifications",
]

# The kernel's FOPEN_* flags (include/uapi/linux/fuse.h).
FH_DIRECT_IO: Final = 1 << 0
FH_KEEP_CACHE: Final = 1 << 1  # never together with FH_PASSTHROUGH: the open fails with EIO
FH_NONSEEKABLE: Final = 1 << 2
FH_CACHE_DIR: Final = 1 << 3  # the kernel keeps the listing; with FH_KEEP_CACHE, also for later opens
FH_STREAM: Final = 1 << 4
FH_NOFLUSH: Final = 1 << 5
FH_PARALLEL_DIRECT_WRITES: Final = 1 << 6
FH_PASSTHROUGH: Final = 1 << 7

MAX_INDEX: Final = (1 << 31) - 1
MAX_BACKING_ID: Final = (1 << 31) - 1
_PASSTHROUGH_BIT: Final = 1 << 63
_NOFLUSH_BIT: Final = 1 << 62
_FLAGS_SHIFT: Final = 56
_BACKING_SHIFT: Final = 31
_UID_SHIFT: Final = 31
_UID_MASK: Final = (1 << 24) - 1


def pack_fh(index: int, flags: int = 0, backing_id: int = 0, writer: int = 0) -> int:
    """Return the file handle that makes the bridge answer OPEN, OPENDIR or CREATE with these flags.

    index: the number of an open handle, unique in the session, from 0 to MAX_INDEX (2 billion). The caller
    counts up to MAX_INDEX, then begins again at 0, and skips the numbers of handles that are still open.
    flags: FH_* bits. FH_NOFLUSH means that the handle's FLUSH matters only for locks (see hear_flushes). Then
    the kernel sends no FLUSH if the daemon takes no locks, or if the handle is read-only and no byte range
    was requested so far. backing_id: the result of Backing.register; only with FH_PASSTHROUGH. FH_PASSTHROUGH
    allows no other flag than FH_NOFLUSH: with KEEP_CACHE the kernel would answer EIO, and with DIRECT_IO only
    mmap would use the backing file. writer: the uid that opened a mediated file for writing. If the kernel
    writes pages back by this handle, the requests count as requests of that uid (_request_kinds.h). Raises
    ValueError for any other combination.
    """
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"handle index {index} is not in 0..{MAX_INDEX}")
    if flags & FH_PASSTHROUGH:
        if not 0 < backing_id <= MAX_BACKING_ID or flags & ~(FH_PASSTHROUGH | FH_NOFLUSH):
            raise ValueError(f"passthrough is not possible with backing id {backing_id}, flags {flags:#x}")
        noflush = _NOFLUSH_BIT if flags & FH_NOFLUSH else 0
        return _PASSTHROUGH_BIT | noflush | backing_id << _BACKING_SHIFT | index
    if backing_id or not 0 <= flags < FH_PASSTHROUGH:
        raise ValueError(f"open flags {flags:#x} are not possible with backing id {backing_id}")
    return flags << _FLAGS_SHIFT | (writer & _UID_MASK) << _UID_SHIFT | index


def fh_index(fh: int) -> int:
    """Return the index (the number of an open handle) that was given to pack_fh."""
    return fh & MAX_INDEX


_OPEN_REPLY: Final = struct.Struct("=QIi")


def open_reply(fh: int) -> bytes:
    """Return struct fuse_open_out for a handle of pack_fh, without FOPEN_NOFLUSH.

    The bridge's fill_open makes the same reply if the daemon takes locks and the handle may be written.
    """
    if fh & _PASSTHROUGH_BIT:
        return _OPEN_REPLY.pack(fh, FH_PASSTHROUGH, fh >> _BACKING_SHIFT & MAX_BACKING_ID)
    return _OPEN_REPLY.pack(fh, fh >> _FLAGS_SHIFT & ~FH_NOFLUSH, 0)


def hear_flushes(every: bool) -> None:
    """Choose whether Python gets every FLUSH.

    Python needs every FLUSH while some process has a byte range locked (store/locking). every: if False (the
    initial state), the bridge answers the FLUSH of a handle with the flag FH_NOFLUSH. Python does not get it.
    """
    _bridge.hear_flushes(every)


def take_requests(take: Callable[[Pending], object] | None, opcodes: Collection[Opcode]) -> None:
    """Pass requests of these opcodes to *take* from now on, instead of libfuse. If *take* is None, pass all
    requests to libfuse.

    The bridge calls *take* on the event loop's thread, while it reads requests. *take* must not raise. An
    INTERRUPT gets no answer. If INTERRUPT is among the opcodes, libfuse gets no INTERRUPT, and needs none.
    """
    _bridge.operations(take, sum(1 << opcode for opcode in set(opcodes)))


_OPCODES: Final = tuple((opcode.name, opcode.value) for opcode in Opcode)


def counters() -> dict[str, int]:
    """Return the number of requests that the daemon has read since attach(), by opcode name."""
    counts = _bridge.counters()
    return {name: counts[value] for name, value in _OPCODES}


def prepare(flags: int, max_stack_depth: int) -> None:
    """Reset the bridge for a new session.

    flags: INIT flags to request. max_stack_depth: the stacking depth for passthrough, 0 for none.
    """
    _bridge.prepare(flags, max_stack_depth)


def attached() -> bool:
    """Return True if pyfuse3's session came through the bridge.

    If False, the symbols that pyfuse3 uses come from another library.
    """
    return _bridge.attached()


def init_answer() -> tuple[int, int, int, int, int] | None:
    """Return the result of INIT as a tuple, or None before INIT.

    The tuple has the kernel's minor version, the flags that the kernel offered, the agreed flags,
    max_stack_depth, and max_write.
    """
    return _bridge.negotiated()


def lost_replies() -> int:
    """Return the number of replies that the kernel did not take since attach(), e.g. after an abort."""
    return _bridge.lost_replies()


_HEADER: Final = struct.Struct("=IIQQIIIHH")
HEADER_SIZE: Final = _HEADER.size


class RawRequest:
    """The bytes of one request (struct fuse_in_header, then the body), parsed on demand.

    Only the first 8 KiB of a request are kept. Of a WRITE, only the header and struct fuse_write_in are kept.
    uid, gid, pid: the numbers of the caller, as the kernel sent them.
    """

    __slots__ = ("_fields", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._fields: tuple[int, ...] | None = None

    def _field(self, number: int) -> int:
        if self._fields is None:
            self._fields = _HEADER.unpack_from(self.data)
        return self._fields[number]

    @property
    def length(self) -> int:
        """The length of the whole request in bytes, including bytes that are not kept."""
        return self._field(0)

    @property
    def opcode(self) -> int:
        """The request's type: one of protocol.Opcode, or a newer number."""
        return self._field(1)

    @property
    def unique(self) -> int:
        """The request's number. Bit 63 is set if the kernel sends the request again (RESEND)."""
        return self._field(2)

    @property
    def nodeid(self) -> int:
        """The node of the request. For a request by name, this is the directory."""
        return self._field(3)

    @property
    def uid(self) -> int:
        """The caller's filesystem uid."""
        return self._field(4)

    @property
    def gid(self) -> int:
        """The caller's filesystem gid."""
        return self._field(5)

    @property
    def pid(self) -> int:
        """The number of the calling thread (gettid(2)) in the daemon's pid namespace; 0 if the thread is
        outside it (task_pid in fs/fuse/dev.c).
        """
        return self._field(6)

    def rests(self) -> None:
        """Stop counting this request as under way, so that its uid may begin another (Request.rests())."""
        _bridge.let_rest(self.unique)

    @property
    def body(self) -> bytes:
        """The bytes after the header: the opcode's own struct, then names."""
        return self.data[HEADER_SIZE:]


KEPT_REQUEST: Final[ContextVar[RawRequest | None]] = ContextVar("kept_request", default=None)
"""A copy of raw_request() for a handler that begins after an await."""


def raw_request() -> RawRequest:
    """Return the request being processed. Valid only before the handler's first await."""
    return KEPT_REQUEST.get() or RawRequest(_bridge.raw_request())


def write_notifications(fd: int, messages: bytes) -> tuple[int, int, int]:
    """Write notifications, each with its header, to a FUSE device. Other Python threads can run meanwhile.

    Return three numbers: the notifications that the kernel took, the notifications about nodes or names that
    the kernel does not know, and the errno that ended the call (0: none).
    """
    return _bridge.notify(fd, messages)


def end_at_faults() -> None:
    """From now on, end this process by SIGKILL at a fault in C (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT),
    and at the other signals that make a core dump (_faults.c).

    A core dump would wait for all threads, and all apps would wait, too. If faulthandler is on, it first
    writes the tracebacks. Raises OSError.
    """
    is_traced = faulthandler.is_enabled()
    faulthandler.disable()
    _bridge.end_at_faults()
    if is_traced:
        faulthandler.enable(file=2)


def take_turns(most: int, room: int = 0, waiting_bytes: int = 256 << 20) -> int:
    """From now on, pass on requests of different uids in round-robin order. Return a descriptor, which the
    bridge owns.

    A uid has three lanes (_lanes.c). most: the limit of one lane's requests under way; 0: requests go on in
    the kernel's order. room: the limit of all requests under way; 0: no limit. A lane may begin one more
    request while it has fewer requests under way than are left of *room*. A lane that has none under way may
    always begin one. waiting_bytes: the limit of bytes in large requests that wait. A lane may have as many
    bytes as are left for all other lanes.

    The descriptor is readable while a request that was read ahead can go on. Call this after prepare(),
    because prepare() removes the limits.
    """
    return _bridge.take_turns(most, room, waiting_bytes)


def waiting() -> tuple[int, int]:
    """Return two numbers: the requests that were read ahead and wait, and the requests under way."""
    return _bridge.waiting()
