"""A worker: it serves one request after the other, without privileges, until it is killed or its socket
closes.

A worker is forked from the zygote, which has imported everything and loaded the magic database. After
confine() the worker can open no file: not the interpreter, not the database, not a time zone file.
"""

from __future__ import annotations

import codecs
import errno
import os
import pkgutil
import socket
import time
from importlib import import_module
from typing import Final, NoReturn

import policyfs.redact
from policyfs.content.kinds import (
    FIRST_BYTES,
    SNIFF_BYTES,
    agreed,
    movie_kind,
    normalise,
    picture_kind,
    settle,
    stream_kind,
)
from policyfs.content.libmagic import magic
from policyfs.content.plans import pack_plan
from policyfs.content.workers import protocol
from policyfs.content.workers.frame_requests import FrameRequest
from policyfs.content.workers.protocol import Command, Request, Status
from policyfs.content.workers.sandbox import Limits, confine
from policyfs.domain import KIND_EMPTY
from policyfs.formats import REDACTABLE_KINDS, kind_by_start
from policyfs.linux.confinement.prctl import name_process
from policyfs.redact.audio.mp3 import kind_behind_junk
from policyfs.redact.documents.tracks import refine_kind
from policyfs.redact.plan import locate, look_at

SOCKET_FD: Final = 3
"""The descriptor of a worker's socket. 0, 1 and 2 are /dev/null, and all others are closed."""

BUG: Final = 255
"""Exit code of a worker that an error without an errno has ended."""

_CODECS: Final = (
    "ascii",
    "latin-1",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
)
"""Codecs that a locator may need; Python imports a codec at its first use."""

_WARM_UP: Final = (
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9",
    b"<?xml version='1.0'?><x/>\n",
    b"some text\n" * 100,
    b'{"a": 1}',
    bytes(range(256)) * 4,
)


class SniffError(Exception):
    """The error if a file's kind cannot be found. The message has the reason."""


class Passed:
    """A source of bytes for the locators (redact.core.patches.ByteSource): the file behind a descriptor."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """Read up to *size* bytes from *offset*, fewer only at the file's end.

        Raises OSError if the file cannot be read, and SniffError if the file is shorter than *self.size*.
        """
        wanted = max(0, min(size, self.size - offset))
        data = os.pread(self._fd, wanted, offset)
        while len(data) < wanted:
            more = os.pread(self._fd, wanted - len(data), offset + len(data))
            if not more:
                raise SniffError("the file shrank while it was read")
            data += more
        return data


class Detector:
    """A detector that finds kinds and plans inside a worker. INVARIANT: it is created before confine(),
    because confine() forbids the opening of files.
    """

    def __init__(self) -> None:
        """Load and import everything that a request can ever need.

        Raises magic.MagicException if the database is missing, ImportError if a module is missing.
        """
        # As file(1): magic.Magic has another limit, and makes a failure without a reason octet-stream.
        self._magic = magic.magic_open(magic.MAGIC_MIME_TYPE)
        magic.magic_load(self._magic, None)
        for module in pkgutil.walk_packages(policyfs.redact.__path__, "policyfs.redact."):
            import_module(module.name)
        for codec in _CODECS:
            codecs.lookup(codec)
        for sample in _WARM_UP:
            self.kind(sample)

    def kind(self, head: bytes) -> str:
        """Return the content kind of a file that begins with these bytes (at most SNIFF_BYTES count).

        Raises SniffError.
        """
        head = head[:SNIFF_BYTES]
        if not head:
            return KIND_EMPTY
        if (kind := kind_by_start(head)) is not None:
            return kind
        kind = self._named(head)
        if kind not in REDACTABLE_KINDS:  # files of these kinds are known by their first bytes
            kind = self._checked(kind, agreed(kind, self._settled(self._named(head[:FIRST_BYTES]), head)))
        kind = self._settled(kind, head)
        if kind == "application/octet-stream":
            kind = kind_behind_junk(head) or kind
        return refine_kind(kind, head)

    def _named(self, head: bytes) -> str:
        """Return libmagic's kind of a file that begins with these bytes. Raises SniffError."""
        try:
            answer = magic.maybe_decode(magic.magic_buffer(self._magic, head))
        except magic.MagicException as error:
            raise SniffError(f"libmagic: {error}") from error
        kind = normalise(answer)
        if kind is None:
            raise SniffError(f"libmagic answered {answer!r}, which is no MIME type")
        return kind

    def _settled(self, kind: str, head: bytes) -> str:
        """Return libmagic's kind with policyfs's corrections. Raises SniffError if the head contradicts."""
        settled = self._checked(kind, settle(kind, head))
        if settled == "application/octet-stream":
            return picture_kind(head) or movie_kind(head) or stream_kind(head) or settled
        return settled

    @staticmethod
    def _checked(kind: str, settled: str | None) -> str:
        if settled is None:
            raise SniffError(f"libmagic says that the file is {kind}, but the first bytes of the file differ")
        return settled

    def answer(self, request: Request) -> bytes:
        """Return the payload of the reply to a request. Raises the errors of libmagic and of the locators."""
        if request.fd is None:
            return self.kind(request.payload).encode("ascii")
        source = Passed(request.fd, request.size)
        if request.command == Command.LOOK:
            asked = FrameRequest.unpack(request.payload)
            plan = look_at(asked.frames, asked.what, source)
            return pack_plan(asked.kind, plan, source.read, source.size)
        kind = self.kind(source.read(0, SNIFF_BYTES))
        if request.command == Command.KIND_FD:
            return kind.encode("ascii")
        what = frozenset(request.payload.decode("ascii").split("\n"))
        plan = locate(kind, what, source, frames_later=request.command == Command.INDEX)
        return pack_plan(kind, plan, source.read, source.size)


def run(sock: socket.socket, detector: Detector, limits: Limits, parent: int) -> NoReturn:
    """Serve requests as a forked worker; never return, never raise.

    sock: this worker's end of the socket pair to the daemon. parent: the pid of the zygote, which forked this
    worker.
    """
    try:
        sock = _keep_only(sock)
        try:
            held = confine(limits, parent)
        except Exception as error:  # noqa: BLE001 # the daemon must hear of any error
            sock.sendall(protocol.pack_reply(protocol.HELLO, Status.FAILED, _reason(error)))
            os._exit(1)
        sock.sendall(protocol.pack_reply(protocol.HELLO, Status.OK, ", ".join(held).encode("ascii")))
        _serve(sock, detector, limits.cpu_s / 2)
    except BaseException as error:  # noqa: BLE001 # no exception may reach the zygote's code
        os._exit(exit_code(error))
    os._exit(0)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a worker that an error ends: its errno, or BUG. It is all that the worker can
    tell, without a socket and without a standard error."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", BUG)
    return number if number in errno.errorcode else BUG


def _keep_only(sock: socket.socket) -> socket.socket:
    """Close all descriptors except this socket, which becomes SOCKET_FD, and /dev/null as 0, 1 and 2."""
    name_process("policyfs-sniff")
    os.dup2(sock.detach(), SOCKET_FD, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(SOCKET_FD + 1, 1 << 20)
    return socket.socket(fileno=SOCKET_FD)


def _serve(sock: socket.socket, detector: Detector, cpu_share_s: float) -> None:
    while (request := protocol.receive_request(sock)) is not None:
        retire = False
        try:
            payload = detector.answer(request)
            status = Status.OK
        except (SniffError, OSError) as error:
            payload, status = _reason(error), Status.FAILED
        except Exception as error:  # noqa: BLE001 # a bug in a parser, or no memory: do not go on
            payload, status, retire = _reason(error), Status.FAILED, True
        finally:
            if request.fd is not None:
                os.close(request.fd)
        retire = retire or time.process_time() > cpu_share_s
        sock.sendall(protocol.pack_reply(request.number, status, payload, retire=retire))


def _reason(error: Exception) -> bytes:
    text = str(error) if isinstance(error, SniffError) else f"{type(error).__name__}: {error}"
    return text.encode("ascii", "backslashreplace")[: protocol.MAX_REASON]
