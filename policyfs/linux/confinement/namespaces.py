"""Namespaces of mounts, processes and networks, which only a process and its descendants see:
namespaces(7)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from policyfs.linux.libc import LIBC, fail

CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_PROC_FLAGS: Final = 0x2 | 0x4 | 0x8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 1 << 19


def is_first_user_namespace(uid_map: str) -> bool:
    """Return True for the machine's user namespace, not a container's. uid_map: /proc/self/uid_map's text."""
    return uid_map.split() == ["0", "0", "4294967295"]


def enter_own_mounts() -> None:
    """Enter a new mount namespace, before any thread starts. Its mounts stay private; new mounts of the
    machine appear in it. Raises OSError (EPERM without CAP_SYS_ADMIN)."""
    if LIBC.unshare(CLONE_NEWNS):
        raise fail()
    _mount(None, b"/", _MS_REC | _MS_SLAVE)


def leave_network() -> bool:
    """Move this process, before any thread starts, and its later children into an empty network namespace.
    Return False if the kernel refuses; the mount works all the same. The kernel's own traffic with a network
    store stays in the namespace of the store's mount."""
    return not LIBC.unshare(_CLONE_NEWNET)


def bind(source: str, target: str) -> None:
    """Mount the directory *source* at *target*, too (a bind mount). Raises OSError."""
    _mount(os.fsencode(source), os.fsencode(target), _MS_BIND)


def fork_first_process() -> int:
    """Fork a child, before any thread starts, that is the first process of a new PID namespace: at its end
    the kernel kills all others there. Return its pid, 0 in the child. Raises OSError.

    Later children are not of the new namespace. Only root of the machine can go back: for another user, who
    is root of a user namespace, this must be the last fork."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if LIBC.unshare(_CLONE_NEWPID):
            raise fail()
        pid = 1
        try:
            pid = os.fork()
        finally:
            if pid and LIBC.setns(own, _CLONE_NEWPID) and ctypes.get_errno() != errno.EPERM:
                raise fail()
    finally:
        os.close(own)
    return pid


def mount_own_proc() -> None:
    """Mount the procfs of this process's PID namespace at /proc, in this mount namespace. Raises OSError."""
    _mount(b"proc", b"/proc", _PROC_FLAGS, b"proc")


def _mount(source: bytes | None, target: bytes, flags: int, fstype: bytes | None = None) -> None:
    if LIBC.mount(source, target, fstype, ctypes.c_ulong(flags), None):
        raise fail(target)
