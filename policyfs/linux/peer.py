"""The process at the other end of a Unix socket, and the process that has run a command."""

from __future__ import annotations

import re
import socket
import struct
from typing import Final, NamedTuple, Protocol

from policyfs.linux import procfs

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""
_PARENT: Final = re.compile(r"^PPid:\t(\d+)$", re.MULTILINE)
_IN_BETWEEN: Final = frozenset({"sudo", "doas"})
_NO_LOGIN: Final = 0xFFFFFFFF


class Peer(NamedTuple):
    """The process at the other end of a connected Unix socket, as the kernel reports it (SO_PEERCRED)."""

    pid: int
    uid: int


class _Socket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option's value."""


def peer_of(connected: _Socket) -> Peer:
    """Return the process at the other end of a socket. The process may have ended meanwhile."""
    pid, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid)


def caller_of(command: int) -> int:
    """Return the pid of the process that has run *command* (a pid), such as a shell, not sudo or doas;
    *command* if it cannot be seen."""
    caller = command
    try:
        while caller == command or procfs.text(caller, "comm").strip() in _IN_BETWEEN:
            found = _PARENT.search(procfs.text(caller, "status"))
            if found is None or not int(found[1]):
                return caller
            caller = int(found[1])
    except OSError:
        pass
    return caller


def login_of(pid: int) -> int | None:
    """Return the uid with which a process's user has logged in, or None if the kernel does not know it."""
    try:
        login = int(procfs.text(pid, "loginuid"))
    except (OSError, ValueError):
        return None
    return None if login == _NO_LOGIN else login
