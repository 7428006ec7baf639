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
from types import ModuleType
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


def _unknown(package: str) -> str:
    raise LookupError(package)


# pyfuse3 asks for its own version. The modules for e-mail and ZIP files that this loads take 1.5 MiB.
_metadata = ModuleType("importlib.metadata")
_metadata.__dict__.update(PackageNotFoundError=LookupError, version=_unknown)
_is_needed = sys.modules.setdefault(_metadata.__name__, _metadata) is _metadata
import pyfuse3  # noqa: E402 - the bridge must be loaded first

if _is_needed:
    del sys.modules[_metadata.__name__]

from policyfs.kernel.protocol import Opcode  # noqa: E402 - after the loading above

__all__ = ["pyfuse3"]  # the only imported name that other modules take from here

library = _bridge
"""The functions of the bridge, for the other modules of kernel/."""

DirectoryEntries = _bridge.DirectoryEntries
Pending = _bridge.Pending
"""A request that must be answered once. If the object is deleted before, the bridge answers EIO."""
Appender = _bridge.Appender
"""A thread that appends to a file without the interpreter lock, for the journal (_appender.c)."""

# The kernel's FOPEN_* flags (include/uapi/linux/fuse.h).
FH_DIRECT_IO: Final = 1 << 0
FH_KEEP_CACHE: Final = 1 << 1  # never together with FH_PASSTHROUGH: the open fails with EIO
FH_CACHE_DIR: Final = 1 << 3  # the kernel keeps the listing; with FH_KEEP_CACHE, also for later opens
FH_NOFLUSH: Final = 1 << 5
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

    index: the number of the open handle, from 0 to MAX_INDEX, unique among those that are open. flags: FH_*
    bits. FH_NOFLUSH: the handle's FLUSH matters only for locks (hear_flushes). FH_PASSTHROUGH needs a
    backing_id (Backing.register), and allows only FH_NOFLUSH beside it: with KEEP_CACHE the kernel would
    answer EIO, and with DIRECT_IO only mmap would use the backing file. writer: the uid whose requests the
    write-back of a mediated file's pages counts as (_request_kinds.h). Raises ValueError for other values.
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
    """Return struct fuse_open_out for a handle of pack_fh, without FOPEN_NOFLUSH (as fill_open in C)."""
    if fh & _PASSTHROUGH_BIT:
        return _OPEN_REPLY.pack(fh, FH_PASSTHROUGH, fh >> _BACKING_SHIFT & MAX_BACKING_ID)
    return _OPEN_REPLY.pack(fh, fh >> _FLAGS_SHIFT & ~FH_NOFLUSH, 0)


hear_flushes = _bridge.hear_flushes
"""A function that takes a bool. False (at first): the bridge answers the FLUSH of a handle with FH_NOFLUSH.
True, while some process has a byte range locked (store/locking): Python gets every FLUSH."""


def take_requests(take: Callable[[Pending], object] | None, opcodes: Collection[Opcode]) -> None:
    """Pass requests of these opcodes to *take* instead of libfuse, from now on; None: to libfuse again.

    The bridge calls *take* on the event loop's thread, while it reads requests. *take* must not raise. An
    INTERRUPT gets no answer. If libfuse gets no INTERRUPT, it needs none.
    """
    _bridge.operations(take, sum(1 << opcode for opcode in set(opcodes)))


_OPCODES: Final = tuple((opcode.name, opcode.value) for opcode in Opcode)


def counters() -> dict[str, int]:
    """Return the number of requests that the daemon has read since attach(), by opcode name."""
    counts = _bridge.counters()
    return {name: counts[value] for name, value in _OPCODES}


prepare = _bridge.prepare
"""A function that resets the bridge for a new session. Arguments: the INIT flags to request, and the stacking
depth for passthrough (0: none)."""
attached = _bridge.attached
"""A function that returns False if pyfuse3's session has its symbols from another library."""
detach = _bridge.detach
"""A function that ends the session, before libfuse closes its descriptor: no thread uses it any more."""
init_answer = _bridge.negotiated
"""A function that returns the result of INIT, or None before INIT: the kernel's minor version, the flags that
the kernel offered, the agreed flags, max_stack_depth, and max_write."""
init_request = _bridge.init_request
"""A function that returns the INIT request of the session, as bytes; none before INIT."""
adopt = _bridge.adopt
"""A function that continues the session of a dead daemon. Argument: its INIT request. The kernel then sends
again what that daemon had read and not answered. Raises ValueError, and OSError if the connection ended."""
lost_replies = _bridge.lost_replies
"""A function that returns how many replies the kernel did not take, for example after an abort."""
waiting = _bridge.waiting
"""A function that returns two numbers: the requests that were read ahead and wait, and those under way."""
write_notifications = _bridge.notify
"""A function that writes notifications, each with its header, to a FUSE device (a descriptor), without the
interpreter lock. It returns how many the kernel took, how many were about unknown nodes or names, and the
errno that ended the call (0: none)."""

_HEADER: Final = struct.Struct("=IIQQIIIHH")
HEADER_SIZE: Final = _HEADER.size


class RawRequest:
    """The bytes of one request (struct fuse_in_header, then the body), parsed on demand. Only the first 8 KiB
    are kept; of a WRITE, only the header and struct fuse_write_in."""

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
        """The calling thread (gettid(2)) in the daemon's pid namespace; 0 outside it (fs/fuse/dev.c)."""
        return self._field(6)

    def rests(self) -> None:
        """Stop counting this request as under way (Request.rests())."""
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


def end_at_faults() -> None:
    """End this process by SIGKILL at each signal that makes a core dump, such as SIGSEGV (_faults.c).

    A core dump would wait for all threads, and all apps would wait, too. If faulthandler is on, it first
    writes the tracebacks. Raises OSError.
    """
    is_traced = faulthandler.is_enabled()
    faulthandler.disable()
    _bridge.end_at_faults()
    if is_traced:
        faulthandler.enable(file=2)


def take_turns(most: int, room: int = 0, waiting_bytes: int = 256 << 20) -> int:
    """Pass on requests of different uids in round-robin order from now on, until the next prepare().

    A uid has three lanes (_lanes.c). most: the limit of one lane's requests under way; 0: the kernel's order.
    room: the limit of all requests under way (0: none), of which a lane leaves as many as it has itself. A
    lane that has none under way may always begin one. waiting_bytes: the same limit for the bytes of large
    requests that wait. Return a descriptor of the bridge that is readable while a request that was read
    ahead can go on.
    """
    return _bridge.take_turns(most, room, waiting_bytes)
