"""Deliveries: the two ways to send messages, appended to a file or as the input of a command."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Sequence
from typing import Final, Protocol

from policyfs.forward.config import TargetDoc
from policyfs.forward.messages import Message
from policyfs.linux.private_files import check_private

_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ERROR_CHARS: Final = 200
_PIPE_BYTES: Final = 1 << 20


class DeliveryError(Exception):
    """The error if some messages have perhaps not arrived at their destination. Its text is for the user."""


class Delivery(Protocol):
    """A way to send messages to one destination."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send all messages in order, and wait until they have arrived. Raises DeliveryError."""


def delivery_to(doc: TargetDoc) -> Delivery:
    """Return the delivery for the destination in an item of the configuration. Nothing is opened yet."""
    as_text = doc.format == "text"
    if doc.file is not None:
        return FileDelivery(doc.file, as_text=as_text)
    return CommandDelivery(doc.command or (), doc.timeout, as_text=as_text)


def _lines(messages: Sequence[Message], *, as_text: bool) -> bytes:
    return b"".join((one.text.encode() if as_text else one.line) + b"\n" for one in messages)


class FileDelivery:
    """A delivery that appends lines to a file, and calls fsync. After a rename (logrotate), it creates a new
    file."""

    def __init__(self, path: str, *, as_text: bool = False) -> None:
        self._path: Final = path
        self._as_text: Final = as_text

    def deliver(self, messages: Sequence[Message]) -> None:
        """Append the lines of all messages. Raises DeliveryError; then some lines may be in the file."""
        try:
            append_lines(self._path, _lines(messages, as_text=self._as_text))
        except OSError as exc:
            raise DeliveryError(f"{self._path}: {exc.strerror}") from exc


def append_lines(path: str, data: bytes) -> None:
    """Append whole lines to a file that only its owner can read, and sync it. Raises OSError.

    The lines begin at a new line. If the disk is full, the written part is taken back, unless another program
    has appended lines.
    """
    fd = os.open(path, _OPEN, 0o600)
    try:
        check_private(fd, path)
        with contextlib.suppress(OSError):  # other sinks may append to this file, too
            fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data  # a crash cut the last line
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:])
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                if os.fstat(fd).st_size == size + done:  # else another program has appended lines
                    os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


class CommandDelivery:
    """A delivery that gives lines to a command. The command runs once for each batch of messages, and reads
    the messages' lines from standard input.

    The messages count as delivered if the command has read all lines, and its exit code is 0.
    """

    def __init__(self, words: Sequence[str], timeout_s: float, *, as_text: bool = False) -> None:
        self._words: Final = tuple(words)
        self._timeout_s: Final = timeout_s
        self._as_text: Final = as_text

    def deliver(self, messages: Sequence[Message]) -> None:
        """Run the command with all messages as input. Raises DeliveryError if the command fails, or does not
        read all of its input.

        If the command does not end in time, kill it and the processes that it started.
        """
        data = _lines(messages, as_text=self._as_text)
        name = self._words[0]
        try:
            process = subprocess.Popen(  # noqa: S603 - the words stand in root's own configuration
                self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            raise DeliveryError(f"{name}: {exc.strerror}") from exc
        try:
            told, unread = self._feed(process, data)
        except subprocess.TimeoutExpired:
            raise DeliveryError(
                f"{name} did not read its input and end within {self._timeout_s:g} s"
            ) from None
        except OSError as exc:
            raise DeliveryError(f"{name}: {exc.strerror}") from exc
        finally:
            _end(process)
        if process.returncode:
            reason = told.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
            raise DeliveryError(
                f"{name} ended with {process.returncode}: {reason[0][:_ERROR_CHARS]}".rstrip(": ")
            )
        if unread:
            raise DeliveryError(f"{name} ended with 0, but did not read the last {unread} bytes of its input")

    def _feed(self, process: subprocess.Popen[bytes], data: bytes) -> tuple[bytes, int]:
        """Write *data* to the command, and wait for its end. Return its standard error, and the number of
        bytes that nobody has read from the pipe. Raises OSError and subprocess.TimeoutExpired.

        INVARIANT: the pipe has a second reader during the write. Otherwise the kernel would drop the bytes
        that the command left, and they would count as read.
        """
        assert process.stdin is not None  # noqa: S101 - for the type checker
        reader = os.open(f"/proc/self/fd/{process.stdin.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # room for a batch, so that a command that fails ends at once
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            _, told = process.communicate(data, self._timeout_s)
            (unread,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))
        finally:
            os.close(reader)
        return told, unread


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a command. If communicate() failed, first kill the command and the processes that it
    started.

    The command itself may have ended, while one of its child processes still has standard error open.
    INVARIANT: the command was not waited for yet, so no other process group has its number.
    """
    if process.returncode is None:
        os.killpg(process.pid, 9)
    process.wait()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # bytes that a killed command did not read
                pipe.close()
