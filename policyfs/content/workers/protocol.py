"""Frames between the daemon and the workers.

Requests and replies are a fixed header and a payload over a stream socket; a file descriptor travels with the
first byte of a request. Only ``struct`` parses frames, never a module such as pickle: an attacker may have
taken over the sender.

=============  ==================================================  =============================
request        payload                                             reply's payload when OK
=============  ==================================================  =============================
KIND_FD + fd   empty                                               kind
KIND_HEAD      the bytes, at most SNIFF_BYTES                      kind
LOCATE + fd    words to locate, sorted, one per line               plan (plans.py)
INDEX + fd     as LOCATE                                           plan, with the frames of a film left out
LOOK + fd      frames of a film, words (frame_requests.py)         plan for these frames
=============  ==================================================  =============================

A reply with a status other than OK has the reason as text. A worker has one request at a time. A reply
repeats the number of its request. If a worker sends anything else, the daemon replaces the worker.
"""

from __future__ import annotations

import array
import enum
import os
import socket
import struct
from typing import Final, NamedTuple

REQUEST: Final = struct.Struct("<QBxxxIQ")
"""The header of a request: its number, command, payload size (bytes), size of the file behind the descriptor
(bytes).
"""
REPLY: Final = struct.Struct("<QBBxxI")
"""The header of a reply: number of its request, status, flags, payload size (bytes)."""

MAX_REQUEST_PAYLOAD: Final = 1 << 20
"""The size of the largest payload: a table of 50,000 frames of a film. A head has SNIFF_BYTES."""
MAX_KIND: Final = 255
MAX_REASON: Final = 500
MAX_REPLY_PAYLOAD: Final = 40 * 1024 * 1024
FLAG_RETIRE: Final = 1
"""A flag in a reply: the daemon must replace the worker.

The worker has used half of its processor time (Limits.cpu_s), or a bug or lack of memory stopped its parser.
"""
HELLO: Final = 0
"""Number of the reply that a worker sends once, without a request, when the worker is ready."""


class Command(enum.IntEnum):
    """Commands to a worker."""

    KIND_FD = 1
    KIND_HEAD = 2
    LOCATE = 3
    INDEX = 4
    LOOK = 5


PLANS: Final = frozenset({Command.LOCATE, Command.INDEX, Command.LOOK})
"""The commands whose reply is a plan. The reply to any other command is a kind."""


class Status(enum.IntEnum):
    """Result of a request, in the header of its reply."""

    OK = 0
    FAILED = 1


class WireError(Exception):
    """The error for malformed bytes from the other process. Also raised if the daemon cannot read the file to
    which a plan belongs.
    """


class Request(NamedTuple):
    """One request that a worker has received. The worker owns fd and closes it."""

    number: int
    command: Command
    size: int
    payload: bytes
    fd: int | None


class Reply(NamedTuple):
    """One reply that the daemon has received."""

    number: int
    status: Status
    retire: bool
    payload: bytes

    @property
    def reason(self) -> str:
        """The payload as text for people: at most MAX_REASON characters, all printable ASCII."""
        text = self.payload[:MAX_REASON].decode("ascii", "replace")
        return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def pack_reply(number: int, status: Status, payload: bytes, *, retire: bool = False) -> bytes:
    """Return the bytes of a reply: its header and its payload. retire: True if the daemon must replace the
    worker.
    """
    return REPLY.pack(number, status, FLAG_RETIRE if retire else 0, len(payload)) + payload


def parse_reply_header(header: bytes, limit: int = MAX_REPLY_PAYLOAD) -> tuple[Reply, int]:
    """Parse a reply header; return the reply without its payload, and the payload's size (bytes).

    Raises WireError if the header is malformed, or announces more than *limit* bytes (MAX_REASON if the reply
    is a kind).
    """
    number, status, flags, size = REPLY.unpack(header)
    if size > limit:
        raise WireError(f"a reply of {size} bytes where {limit} are allowed")
    if status not in tuple(Status) or flags & ~FLAG_RETIRE:
        raise WireError(f"a reply of status {status} and flags {flags}")
    return Reply(number, Status(status), bool(flags), b""), size


def ancillary(fd: int) -> list[tuple[int, int, bytes]]:
    """Return ancillary data for sendmsg() that passes a descriptor to the other process."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())]


def take_fds(data: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a message; the caller owns them."""
    fds = array.array("i")
    for level, kind, content in data:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


def receive_request(sock: socket.socket) -> Request | None:
    """Wait for one request and return it. Return None when the daemon is gone.

    The worker calls this function, which blocks. Raises WireError for a malformed request: the daemon has a
    bug, or the bytes are not the beginning of a frame.
    """
    header, data, flags, _ = sock.recvmsg(REQUEST.size, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = take_fds(data)
    fd = fds[0] if fds else None
    try:
        if not header:
            return None
        header += _receive_exactly(sock, REQUEST.size - len(header))
        number, command, size, file_size = REQUEST.unpack(header)
        if size > MAX_REQUEST_PAYLOAD or command not in tuple(Command) or flags & socket.MSG_CTRUNC:
            raise WireError(f"malformed request: {size} bytes, command {command}, flags {flags:#x}")
        payload = _receive_exactly(sock, size)
        if (fd is None) != (command == Command.KIND_HEAD):
            raise WireError(f"command {command} and descriptor {fd}")
    except BaseException:
        if fd is not None:
            os.close(fd)
        raise
    return Request(number, Command(command), file_size, payload, fd)


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = sock.recv(size)
        if not part:
            raise WireError("the stream ended within a request")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
