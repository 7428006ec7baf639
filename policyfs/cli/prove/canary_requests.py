"""Canaries: sample requests that test a mount.

A forked process makes these requests under an app's uid, and sends back the answers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from policyfs.domain import Op
from policyfs.linux.child import answer_of
from policyfs.linux.confinement.identity import become, become_for_files
from policyfs.policy.analysis.canaries import Canary, Sort

DEADLINE_S: Final = 30.0
_TRIES: Final = 3
"""The maximum number of processes that make the same requests, one after the other, if they are killed."""
_UMASK: Final = 0o022
_MOST_BYTES: Final = 1 << 16
_REFUSALS: Final = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM})
_READING: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group under which a forked process makes sample requests.

    is_whole: True if the kernel compares the whole identity of callers with the mount's user, as in an app
    mount. Then the process gets all uids of the user, and each process of this user can kill it. Otherwise it
    gets only the uid and gid that count in file systems (setfsuid(2)), and stays root's: no app can signal
    it.
    """

    uid: int
    gid: int
    is_whole: bool = False

    def take(self) -> None:
        """Give this process the identity, and no capabilities, for the rest of its life. Raises OSError."""
        if self.is_whole:
            become(self.uid, self.gid)
        else:
            become_for_files(self.uid, self.gid, _UMASK)


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
    """The error if a sample request got no answer in time, or if the process that makes requests failed."""


def ask(mount_fd: int, identity: Identity, asked: Sequence[Canary], *, reads: bool) -> list[Answer]:
    """Make sample requests in a mount, in a new process with this identity. Return the answers in order.

    reads: also list directories and read bytes. Without *reads*, all access times stay as they are.
    Raises NoAnswerError.
    """

    def work() -> list[tuple[object, ...]]:
        return [astuple(_answer(mount_fd, canary, reads=reads)) for canary in asked]

    return [
        Answer(code, inode, listed, bytes.fromhex(data))
        for code, inode, listed, data in in_process(identity, work, (mount_fd,))
    ]


def in_process(identity: Identity, work: Callable[[], object], kept: Sequence[int] = ()) -> Any:
    """Call *work* in a forked process with this identity. Return its result, which travels as JSON. After a
    kill, call it in a new process. kept: the descriptors that it needs. Raises NoAnswerError."""
    for _ in range(_TRIES):
        data = answer_of(lambda: _result(identity, work), timeout_s=DEADLINE_S, kept=kept)
        if data is None:
            raise NoAnswerError(f"uid {identity.uid} got no answer within {DEADLINE_S:g} s")
        with contextlib.suppress(ValueError):  # the process was killed
            well, told = json.loads(data)
            if well:
                return told
            raise NoAnswerError(f"uid {identity.uid} could not make its requests: {told}")
    senders = f"root and the processes of uid {identity.uid}" if identity.is_whole else "root"
    raise NoAnswerError(
        f"the process that makes the requests of uid {identity.uid} was killed {_TRIES} times;"
        f" only {senders} and the kernel can do that"
    )


def _result(identity: Identity, work: Callable[[], object]) -> bytes:
    try:
        identity.take()
        told: tuple[bool, object] = (True, work())
    except Exception as error:  # noqa: BLE001 - the command reports it
        told = (False, repr(error))
    return json.dumps(told, default=bytes.hex).encode()


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
