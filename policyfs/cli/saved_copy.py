"""A file as an app would read it under redaction, saved as a new file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from policyfs.cli.common.output import new_file
from policyfs.content.cache import RACY_NS
from policyfs.errors import PolicyfsError
from policyfs.linux import libc
from policyfs.redact.core.patches import PatchedSource
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.frozen import FrozenTooLarge, Version, freeze, seal

_COPY_BYTES: Final = 1 << 20
_FROZEN_BYTES: Final = 32 << 20
_CHANGED: Final = "another program changed the file: try again"

Look = Callable[[int], Plan]
"""A function that returns the plan for the file behind an O_RDONLY descriptor."""


class _ChangedError(Exception):
    """The error if a file has other bytes than when its plan was made."""


class _Bytes:
    """The bytes of an open file (ByteSource). read() raises _ChangedError if the file has become shorter."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        data, left = b"", max(0, min(size, self.size - offset))
        while left:
            part = os.pread(self._fd, left, offset + len(data))
            if not part:
                raise _ChangedError
            data, left = data + part, left - len(part)
        return data


def settled(fd: int) -> Version:
    """Return the version of a file, once every later change also changes it: after RACY_NS (ns)."""
    version = _version(fd)
    if time.time_ns() - max(version.mtime_ns, version.ctime_ns) < RACY_NS:
        time.sleep(RACY_NS / 1e9)
    return version


@contextlib.contextmanager
def frozen(fd: int) -> Iterator[int]:
    """Provide a descriptor of a file's bytes as they are now: of a copy in memory that nothing can change, or
    of the file itself (*fd*) if it has more than 32 MiB. Raises PolicyfsError."""
    try:
        copy = freeze(fd, _FROZEN_BYTES, None, reflink=False)
    except OSError as error:
        raise PolicyfsError(f"it cannot be read: {error.strerror}") from error
    except FrozenTooLarge:
        yield fd
        return
    with copy:
        seal(copy)
        yield copy.fd


def save(fd: int, before: Version, source: int, plan: Plan, path: str, look: Look) -> None:
    """Save the bytes that an app would read under redaction in a new file.

    fd: the file, with the version that it had before frozen(). source: the descriptor that frozen() has
    provided, of whose bytes *plan* was made. Raises PolicyfsError; then nothing is left of the new file.

    INVARIANT: the new file gets no name if it has bytes that no plan was made of. A program that writes the
    file through a mapping need not change its version. So, without a copy in memory, *look* must find nothing
    in the new file.
    """
    view = PatchedSource(_Bytes(source, before.size), plan.patches)
    try:
        with new_file(path) as out:
            for at in range(0, before.size, _COPY_BYTES):
                _write(out, view.read(at, _COPY_BYTES), at)
            with _reopened(out) as copy:
                if _version(fd) != before or (source == fd and look(copy).outcome is not Outcome.CLEAN):
                    raise _ChangedError
    except _ChangedError as error:
        raise PolicyfsError(_CHANGED) from error
    except OSError as error:
        raise PolicyfsError(error.strerror or str(error)) from error


@contextlib.contextmanager
def _reopened(fd: int) -> Iterator[int]:
    copy = os.open(libc.proc_fd(fd), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield copy
    finally:
        os.close(copy)


def _version(fd: int) -> Version:
    status = os.fstat(fd)
    return Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _write(out: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(out, view, at)
        view, at = view[done:], at + done
