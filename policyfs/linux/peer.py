"""The process at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple, Protocol

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


class Peer(NamedTuple):
    """The process at the other end of a connected Unix socket, as the kernel reports it (SO_PEERCRED)."""

    pid: int
    uid: int


class _Socket(Protocol):
    """A socket of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option's value."""


def peer_of(connected: _Socket) -> Peer:
    """Return the process at the other end of a socket. The process may have ended meanwhile."""
    pid, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid)
