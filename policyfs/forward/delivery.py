"""Deliveries: ways to send messages to one destination, such as a file or a command.

A delivery raises DeliveryError if some messages have perhaps not arrived.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Sequence
from typing import Final, Protocol

from policyfs.forward.messages import Message
from policyfs.linux.private_files import check_private

_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ERROR_CHARS: Final = 200


class DeliveryError(Exception):
    """The error if some messages have perhaps not arrived at their destination. Its text is for the user."""


class Delivery(Protocol):
    """A way to send messages to one destination."""

    @property
    def unsure_s(self) -> float:
        """Return a time in seconds. A receiver that dies within this time after a delivery may lose messages.

        The time is 0 if the receiver cannot lose messages that have arrived.
        """

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send all messages in order, and wait until they have arrived. Raises DeliveryError."""

    def check(self) -> None:
        """Raise DeliveryError if the receiver has died, and may have lost delivered messages. Never waits."""

    def close(self) -> None:
        """Close the connection or file. Never waits."""


def _line(message: Message, *, as_text: bool) -> bytes:
    return message.text.encode() + b"\n" if as_text else message.line + b"\n"


class Arrived:
    """The base class of deliveries whose receiver cannot lose messages that have arrived."""

    unsure_s = 0.0

    def check(self) -> None:
        """Do nothing."""


class FileDelivery(Arrived):
    """A delivery that appends lines to a file, and calls fsync. After a rename (logrotate), it creates a new
    file.
    """

    def __init__(self, path: str, *, as_text: bool = False) -> None:
        self._path: Final = path
        self._as_text: Final = as_text

    def deliver(self, messages: Sequence[Message]) -> None:
        """Append the lines of all messages. Raises DeliveryError; then some lines may be in the file."""
        data = b"".join(_line(message, as_text=self._as_text) for message in messages)
        try:
            fd = os.open(self._path, _OPEN, 0o600)
            try:
                check_private(fd, self._path)
                self._append(fd, data)
            finally:
                os.close(fd)
        except OSError as exc:
            raise DeliveryError(f"{self._path}: {exc.strerror}") from exc

    @staticmethod
    def _append(fd: int, data: bytes) -> None:
        with contextlib.suppress(OSError):  # other sinks may append to this file, too
            fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data  # a crash cut the last line; the forwarder delivers the complete line again
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:])
        except OSError:
            with contextlib.suppress(OSError):
                if os.fstat(fd).st_size == size + done:  # else another program has appended lines
                    os.ftruncate(fd, size)
            raise
        os.fsync(fd)

    def close(self) -> None:
        """Do nothing: the file is open only during a delivery."""


class CommandDelivery(Arrived):
    """A delivery that gives lines to a command. The command runs once for each batch of messages, and reads
    the messages' lines from standard input.

    If the exit code is 0, the messages count as delivered.
    """

    def __init__(self, words: Sequence[str], timeout_s: float, *, as_text: bool = False) -> None:
        self._words: Final = tuple(words)
        self._timeout_s: Final = timeout_s
        self._as_text: Final = as_text

    def deliver(self, messages: Sequence[Message]) -> None:
        """Run the command with all messages as input. Raises DeliveryError if the command fails.

        If the command does not end in time, kill it and the processes that it started.
        """
        data = b"".join(_line(message, as_text=self._as_text) for message in messages)
        name = self._words[0]
        try:
            process = subprocess.Popen(  # noqa: S603 - the words stand in root's own configuration
                self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            raise DeliveryError(f"{name}: {exc.strerror}") from exc
        try:
            _, told = process.communicate(data, self._timeout_s)
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"{name} did not end within {self._timeout_s:g} s") from None
        except OSError as exc:  # the command ended without reading its input
            raise DeliveryError(f"{name}: {exc.strerror}") from exc
        finally:
            _end(process)
        if process.returncode:
            reason = told.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
            raise DeliveryError(
                f"{name} ended with {process.returncode}: {reason[0][:_ERROR_CHARS]}".rstrip(": ")
            )

    def close(self) -> None:
        """Do nothing: the command runs only during a delivery."""


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
            try:
                pipe.close()
            except OSError:  # the rest of the input could not be sent to the killed command
                continue
