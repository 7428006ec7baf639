"""Delivery to a syslog server: RFC 5424 over a unix socket, UDP, TCP or TLS.

Over TCP and TLS, the length of each message is sent before the message (RFC 6587, 5425). Messages count as
delivered once the other machine's kernel has acknowledged every byte. But the syslog server may die before it
reads the messages. So after a broken connection the messages of the last 5 s are sent again. With UDP,
nothing proves that a message has arrived.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from policyfs.forward.config import TargetDoc
from policyfs.forward.delivery import DeliveryError
from policyfs.forward.messages import Message, syslog

_UDP_MOST: Final = 60_000
_UNIX_MOST: Final = 160_000
_UNSURE_S: Final = 5.0
_POLL_S: Final = 0.002


class SyslogDelivery:
    """A delivery that sends messages to one syslog server."""

    def __init__(self, doc: TargetDoc) -> None:
        self._doc: Final = doc
        self._scheme, _, self._place = doc.to.partition(":")
        self.unsure_s: Final = _UNSURE_S if self._is_stream else 0.0
        self._socket: socket.socket | None = None
        self._plain: socket.socket | None = None
        """The TCP socket (for TLS, a duplicate of it that is used only for polls), or None."""
        self._host: Final = _host_name()

    @property
    def _is_stream(self) -> bool:
        return self._scheme in {"tcp", "tls"}

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send all messages. Over TCP or TLS, wait until the server's kernel has them.

        Raises DeliveryError.
        """
        try:
            if self._is_stream:
                self._stream(messages)
            else:
                for message in messages:
                    self._datagram(message)
        except OSError as exc:  # ssl.SSLError is an OSError, too
            self.close()
            reason = "no answer in time" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
            raise DeliveryError(f"{self._doc.to}: {reason}") from exc
        except ValueError as exc:  # UnicodeError of getaddrinfo, or an error of wrap_socket
            self.close()
            raise DeliveryError(f"{self._doc.to}: not a valid host name: {exc}") from exc

    def _made(self, message: Message, most: int | None) -> bytes:
        as_text = self._doc.format == "text"
        return syslog(message, self._host, os.getpid(), as_text=as_text, most=most)

    # -- streams

    def _stream(self, messages: Sequence[Message]) -> None:
        connection = self._connected()
        self._check_alive(connection)
        frames = (self._made(message, None) for message in messages)
        connection.sendall(b"".join(b"%d %b" % (len(frame), frame) for frame in frames))
        until_s = time.monotonic() + self._doc.timeout
        while self._unacknowledged():
            if time.monotonic() > until_s:
                raise TimeoutError
            time.sleep(_POLL_S)
        self._check_alive(connection)

    def _check_alive(self, connection: socket.socket) -> None:
        """Raise OSError if the server has closed the connection. (A syslog server never sends data.)"""
        if self._plain is None or not select.select([self._plain], [], [], 0)[0]:
            return
        connection.settimeout(0.0)
        try:
            if not connection.recv(4096):
                raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # the received bytes were TLS's own messages
        finally:
            connection.settimeout(self._doc.timeout)

    def _unacknowledged(self) -> bool:
        assert self._plain is not None  # noqa: S101 - for the type checker
        buffer = bytearray(4)
        fcntl.ioctl(self._plain.fileno(), termios.TIOCOUTQ, buffer)  # SIOCOUTQ
        if self._plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return bool(struct.unpack("i", buffer)[0])

    def _connected(self) -> socket.socket:
        if self._socket is None:
            host, _, port = self._place.removeprefix("//").rpartition(":")
            host = host.strip("[]")
            self._plain = socket.create_connection((host, int(port)), self._doc.timeout)
            self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = self._plain
            if self._scheme == "tls":
                self._socket = self._context().wrap_socket(self._plain, server_hostname=host)
                # The descriptor now belongs to the TLS socket. This duplicate is only for polls and SIOCOUTQ.
                self._plain = socket.socket(fileno=os.dup(self._socket.fileno()))
        return self._socket

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._doc.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._doc.cert is not None:
            context.load_cert_chain(self._doc.cert, self._doc.key)
        return context

    def check(self) -> None:
        """Raise DeliveryError if the server of a stream has closed the connection, or has died."""
        if self._socket is None or not self._is_stream:
            return
        try:
            self._check_alive(self._socket)
            self._unacknowledged()
        except OSError as exc:
            self.close()
            raise DeliveryError(f"{self._doc.to}: {exc.strerror or exc}") from exc

    # -- datagrams

    def _datagram(self, message: Message) -> None:
        connection = self._socket
        if connection is None:
            connection = self._socket = self._datagram_socket()
        connection.send(self._made(message, _UNIX_MOST if self._scheme == "unix" else _UDP_MOST))

    def _datagram_socket(self) -> socket.socket:
        if self._scheme == "unix":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address: str | tuple[object, ...] = self._place
        else:
            host, _, port = self._place.removeprefix("//").rpartition(":")
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
            family, kind, _, _, address = found[0]
            connection = socket.socket(family, kind)
        connection.settimeout(self._doc.timeout)
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the connection."""
        for one in (self._socket, self._plain):
            if one is not None:
                with suppress(OSError):
                    one.close()
        self._socket = self._plain = None


def _host_name() -> str:
    """Return this machine's name with only the characters that RFC 5424 permits, or ``-`` if none is left."""
    name = "".join(char for char in socket.gethostname() if "!" <= char <= "~")
    return name[:255] or "-"
