"""Delivery to journald by its native protocol: separate fields, exact bytes, no limit of length.

A message that is too large for a datagram is sent as a sealed memfd (systemd.io/JOURNAL_NATIVE_PROTOCOL). The
socket belongs to systemd, so queued messages stay if journald restarts.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from policyfs.forward.delivery import Arrived, DeliveryError
from policyfs.forward.messages import Message, journal_datagram

SOCKET: Final = "/run/systemd/journal/socket"
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_BUFFER: Final = 8 << 20


class JournaldDelivery(Arrived):
    """A delivery that sends messages to journald, as one entry for each message."""

    def __init__(self, path: str | None = None, *, timeout_s: float = 10.0) -> None:
        """path: the path of journald's socket. None: $POLICYFS_JOURNAL_SOCKET, or else SOCKET."""
        self._path: Final = path or os.environ.get("POLICYFS_JOURNAL_SOCKET") or SOCKET
        self._timeout_s: Final = timeout_s
        self._socket: socket.socket | None = None

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send all messages to journald, one entry for each. Raises DeliveryError."""
        try:
            for message in messages:
                self._send(self._connected(), journal_datagram(message))
        except OSError as exc:
            self.close()
            reason = (
                "the socket accepts no records" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
            )
            raise DeliveryError(f"journald at {self._path}: {reason}") from exc

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(self._timeout_s)
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._socket.connect(self._path)
        return self._socket

    @staticmethod
    def _send(connection: socket.socket, data: bytes) -> None:
        try:
            connection.send(data)
        except OSError as exc:
            if exc.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            fd = os.memfd_create("policyfs-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                done = 0
                while done < len(data):
                    done += os.write(fd, data[done:])
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                connection.sendmsg([], rights)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
