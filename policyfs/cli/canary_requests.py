"""Canaries: sample requests that test a mount.

A forked process makes these requests under an app's uid, and sends back the answers.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, NoReturn

from policyfs.domain import Op
from policyfs.policy.analysis.canaries import Canary, Sort

DEADLINE_S: Final = 30.0
_KILLED_S: Final = 1.0
_MOST_BYTES: Final = 1 << 16
_REFUSALS: Final = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM})
_READING: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group of the process that makes the sample requests."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one sample request.

    errno: 0 if the request succeeded. inode: st_ino of the file, 0 if unknown. listed: True if the listing of
    the file's directory has the name; None if the directory was not listed. data: the bytes that were read.
    """

    errno: int
    inode: int = 0
    listed: bool | None = None
    data: bytes = b""


class NoAnswerError(Exception):
    """The error if a sample request got no answer in time, or if the process that makes the requests failed.
    """


def ask(mount_fd: int, identity: Identity, asked: Sequence[Canary], *, reads: bool) -> list[Answer]:
    """Make sample requests in a mount, in a new process of the user *identity*. Return the answers in order.

    reads: also list directories and read bytes. Without *reads*, all access times stay as they are.
    Raises NoAnswerError.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _become(mount_fd, identity, asked, write_end, reads=reads)
    os.close(write_end)
    try:
        data = _all_of(read_end, time.monotonic() + DEADLINE_S)
    finally:
        os.close(read_end)
        _end(child)
    try:
        found = json.loads(data)
        if isinstance(found, dict):
            raise NoAnswerError(f"uid {identity.uid} could not make its requests: {found['error']}")
        return [Answer(one[0], one[1], one[2], bytes.fromhex(one[3])) for one in found]
    except (ValueError, TypeError, LookupError) as error:
        raise NoAnswerError(f"uid {identity.uid} got no answer within {DEADLINE_S:g} s") from error


def _end(child: int) -> None:
    """Kill a child, and wait at most _KILLED_S (seconds) for its end.

    While a request of the child waits for a daemon that does not answer, no signal ends the child. Then the
    child ends when the daemon ends.
    """
    os.kill(child, signal.SIGKILL)  # the child was not reaped yet, so no other process has this pid
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if poll.poll(_KILLED_S * 1000):
            os.waitpid(child, 0)
    finally:
        os.close(pidfd)


def _all_of(fd: int, until: float) -> bytes:
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0, (until - time.monotonic()) * 1000)):
        data = os.read(fd, 1 << 16)
        if not data:
            break
        found += data
    return found


def _become(
    mount_fd: int, identity: Identity, asked: Sequence[Canary], write_end: int, *, reads: bool
) -> NoReturn:
    try:
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        _write(write_end, [astuple(_answer(mount_fd, canary, reads=reads)) for canary in asked])
    except Exception as error:  # noqa: BLE001 - the command that mounts reports it
        _write(write_end, {"error": repr(error)})
    finally:
        os._exit(0)


def _write(fd: int, found: object) -> None:
    told = json.dumps(found, default=bytes.hex).encode()
    while told:
        told = told[os.write(fd, told) :]


def _answer(mount_fd: int, canary: Canary, *, reads: bool) -> Answer:
    path = canary.path.lstrip(b"/") or b"."
    if canary.sort is Sort.HIDING:
        return _hidden(mount_fd, path, reads=reads)
    try:
        if canary.op is Op.DELETE:
            os.unlink(path, dir_fd=mount_fd)
            return Answer(0)
        flags = os.O_WRONLY | os.O_CLOEXEC if canary.op is Op.WRITE else _READING
        fd = os.open(path, flags, dir_fd=mount_fd)
    except OSError as error:
        return Answer(error.errno or errno.EIO)
    try:
        return Answer(0, os.fstat(fd).st_ino, None, _content(fd) if reads and flags == _READING else b"")
    except OSError as error:
        return Answer(error.errno or errno.EIO)
    finally:
        os.close(fd)


def _content(fd: int) -> bytes:
    """Return all bytes of an open file. One read may return only a part."""
    return b"".join(iter(lambda: os.read(fd, _MOST_BYTES), b""))


def _hidden(mount_fd: int, path: bytes, *, reads: bool) -> Answer:
    """Test whether a name is hidden: by stat, by open and, with *reads*, by the listing of its directory."""
    found, inode = errno.ENOENT, 0
    try:
        inode, found = os.lstat(path, dir_fd=mount_fd).st_ino, 0
    except OSError as error:
        found = error.errno or errno.EIO
    try:
        os.close(os.open(path, _READING, dir_fd=mount_fd))
        found = 0
    except OSError as error:
        if found == errno.ENOENT:  # an open that fails with another error reveals the name, as a stat does
            found = error.errno or errno.EIO
    return Answer(found, inode, _lists(mount_fd, path) if reads else None)


def _lists(mount_fd: int, path: bytes) -> bool | None:
    directory, _, name = path.rpartition(b"/")
    try:
        fd = os.open(directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount_fd)
    except OSError as error:
        if error.errno not in _REFUSALS:  # the listing failed, but was not refused
            raise
        return None
    try:
        return os.fsdecode(name) in os.listdir(fd)
    finally:
        os.close(fd)
