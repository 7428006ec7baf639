"""User namespaces as containers have them, and idmapped binds for them (mount_setattr(2))."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.machine.processes import Child, start_as

FIRST: Final = 100_000
"""The uid and gid outside that is root's inside; 65,536 ids follow, as LXC and podman give them."""
_NEWUSER: Final = 0x10000000
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_EMPTY_PATH, _ATTR_IDMAP, _MNT_DETACH = 0x1000, 0x100000, 2
_libc: Final = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _called(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _inside(channel: Any, flags: int, uid: int, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    _called(_libc.unshare(_NEWUSER | flags))
    channel.send("unshared")
    channel.recv()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(0, 0, 0)  # who leaves this uid loses the capabilities
    os.setresuid(uid, uid, uid)
    return function(*arguments)


def call_inside(
    function: Callable[..., T], *arguments: Any, uid: int = 0, first: int = FIRST, flags: int = 0
) -> T:
    """Run a function in a new user namespace, as this uid of it; return its result, or raise its exception.
    flags: further namespaces (unshare(2))."""
    child = start_as(0, _inside, flags, uid, function, arguments)
    child.receive()
    _map(child, first)
    child.send("mapped")
    return child.result()


def _map(child: Child, first: int) -> None:
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child.pid}/{name}").write_text(f"0 {first} 65536")


def _waits(channel: Any) -> None:
    _called(_libc.unshare(_NEWUSER))
    channel.send("unshared")
    channel.recv()


@contextlib.contextmanager
def idmapped(source: Path, target: Path) -> Iterator[Path]:
    """Bind a directory elsewhere so that root of a namespace is root there. OSError: it cannot be."""
    holder = start_as(0, _waits)
    holder.receive()
    try:
        _map(holder, FIRST)
        users = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
        tree = _called(_libc.syscall(_OPEN_TREE, -100, os.fsencode(source), 1 | os.O_CLOEXEC))
        try:
            attributes = struct.pack("QQQQ", _ATTR_IDMAP, 0, 0, users)
            _called(_libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes)))
            target.mkdir(exist_ok=True)
            _called(_libc.syscall(_MOVE_MOUNT, tree, b"", -100, os.fsencode(target), 4))
        finally:
            os.close(tree)
            os.close(users)
    finally:
        holder.kill()
    try:
        yield target
    finally:
        _libc.umount2(os.fsencode(target), _MNT_DETACH)
