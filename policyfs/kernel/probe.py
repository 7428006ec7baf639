"""A check whether a policyfs or app mount is alive, which ends in time even if the mount is dead or hangs."""

from __future__ import annotations

import enum
import errno
import os
from typing import Final

from policyfs.linux.child import answer_of
from policyfs.linux.confinement.identity import become
from policyfs.linux.mountinfo import FSTYPE, Mount, mounts_at, resolve

_CANNOT_ASK: Final = 255  # the child could not become the mount's user


class MountState(enum.Enum):
    """The state of a mount. NONE: no policyfs mount. ALIVE: a daemon answers. DEAD: the connection has ended.
    SILENT: no answer in time. CLOSED: only another user, whom this process cannot become, may use it."""

    NONE = "none"
    ALIVE = "alive"
    DEAD = "dead"
    SILENT = "silent"
    CLOSED = "closed"


def mount_state(path: str, timeout_s: float = 5.0) -> MountState:
    """Return the state of the topmost mount on a path, after *timeout_s* at most.

    A forked child becomes the mount's user and sends one STATFS: only a child may wait, since a request that
    a daemon has read cannot be interrupted.
    """
    try:
        path = resolve(path)
    except FileNotFoundError:  # a directory above, as below /run before the first `up`
        return MountState.NONE
    there = mounts_at(path)
    if not there or there[-1].fstype != FSTYPE:
        return MountState.NONE
    try:
        root = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # sends the daemon no request
    except OSError as exc:
        return MountState.DEAD if exc.errno == errno.ENOTCONN else MountState.CLOSED
    try:
        answer = _ask(root, there[-1], timeout_s)
    finally:
        os.close(root)
    if answer is None:
        return MountState.SILENT
    if answer == _CANNOT_ASK:
        return MountState.CLOSED
    # Any other errno is the answer of a daemon. ECONNABORTED: the daemon died during the request.
    gone = answer in {errno.ENOTCONN, errno.ENODEV, errno.ECONNABORTED}
    return MountState.DEAD if gone else MountState.ALIVE


def _ask(root: int, mount: Mount, timeout_s: float) -> int | None:
    """Return the errno of the child's statfs (0: none), or None if the child did not answer in time."""
    answer = answer_of(lambda: _errno(root, mount), timeout_s=timeout_s, kept=(root,))
    return answer[0] if answer else None


def _errno(root: int, mount: Mount) -> bytes:
    try:
        if not _become_user(mount):
            return bytes([_CANNOT_ASK])
        os.fstatvfs(root)
    except OSError as exc:
        return bytes([min(exc.errno or errno.EIO, _CANNOT_ASK)])
    return bytes(1)


def _become_user(mount: Mount) -> bool:
    """Take the ids of the mount's user, unless allow_other admits all. Return False if not permitted."""
    if "allow_other" in mount.super_options:
        return True
    options = dict(option.partition("=")[::2] for option in mount.super_options)
    uid, gid = int(options["user_id"]), int(options["group_id"])
    if os.geteuid():
        return (os.getresuid(), os.getresgid()) == ((uid,) * 3, (gid,) * 3)
    try:
        become(uid, gid)
    except PermissionError:
        return False
    return True
