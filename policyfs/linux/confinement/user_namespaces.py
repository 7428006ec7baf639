"""User namespaces for users other than root: user_namespaces(7), subuid(5), newuidmap(1).

A user becomes root of a namespace with the user's own uid and the user's *subordinate* uids. Programs there
can have uids that no other process of the machine has, so the kernel itself keeps them apart.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from policyfs.linux.confinement.identity import become_root_of_namespace
from policyfs.linux.confinement.namespaces import CLONE_NEWNS
from policyfs.linux.interpreter import PATH
from policyfs.linux.libc import LIBC, fail

_CLONE_NEWUSER: Final = 0x10000000
_LEAST: Final = 64
"""The least number of subordinate ids that is used: 32 for workers, one for the command."""
_USUAL: Final = 65_536
_FIRST_OF_USERS: Final = 100_000
"""The first subordinate id, and the number of each user: useradd(8), login.defs(5)."""
FIRST: Final = 2_000_000_000
"""The number of the first subordinate id in the namespace: neither accounts nor policies have such
numbers."""
_MOST_FDS: Final = 4
FILES: Final = ("/etc/subuid", "/etc/subgid")


@dataclass(frozen=True, slots=True)
class Nested:
    """Two namespaces in which only one user exists, with a uid of the namespace that they were made in.

    root: a descriptor of the namespace in which the user's uid and gid are 0. user: of the namespace in it,
    in which they are those that were asked for.
    """

    root: int
    user: int


def subordinate_ids(path: str, name: str, uid: int) -> range | None:
    """Return the first range of subordinate ids of a user in a file with _LEAST of them; None without one."""
    for first, count in _ranges(path, {name, str(uid)}):
        if count >= _LEAST:
            return range(first, first + count)
    return None


def free_range(paths: tuple[str, ...] = FILES) -> range:
    """Return a range of subordinate ids that no user has in these files."""
    ends = [first + count for path in paths for first, count in _ranges(path, None)]
    first = max([_FIRST_OF_USERS, *ends])
    return range(first, first + _USUAL)


def _ranges(path: str, names: set[str] | None) -> list[tuple[int, int]]:
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                name, first, count = line.split(":")
                if names is None or name in names:
                    found.append((int(first), int(count)))
    return found


def become_root_inside(uids: range, gids: range) -> None:
    """Make this process, which has one thread, root of a new user namespace: 0 is the user's own id, FIRST
    and what follows the subordinate ids. Raises OSError: ENOSPC or EPERM if the machine forbids it, ENOENT
    without newuidmap(1); CalledProcessError if newuidmap refuses, with its message in *stderr*.
    """
    uid, gid = os.geteuid(), os.getegid()
    heard, told = os.pipe()
    answer, answered = os.pipe()
    child = os.fork()
    if child == 0:  # outside of the namespace: newuidmap has the rights of root there
        os.close(told)
        os.close(answer)
        _map_parent(heard, answered, uid, gid, uids, gids)
    os.close(heard)
    os.close(answered)
    try:
        if LIBC.unshare(_CLONE_NEWUSER):
            raise fail()
        os.write(told, b"x")
    finally:
        os.close(told)
        with open(answer, "rb") as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
    if text == b"0":
        become_root_of_namespace()
        return
    if text.startswith(b"-"):
        raise OSError(int(text[1:]), os.strerror(int(text[1:])), "newuidmap")
    raise subprocess.CalledProcessError(1, "newuidmap", stderr=text.decode(errors="replace").strip())


def _map_parent(heard: int, answered: int, uid: int, gid: int, uids: range, gids: range) -> NoReturn:
    try:
        text = b"-%d" % errno.EPERM
        if os.read(heard, 1):
            text = b"0"
            for program, own, ids in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
                words = [program, os.getppid(), 0, own, 1, FIRST, ids.start, len(ids)]
                done = subprocess.run(  # noqa: S603 - a fixed program in a fixed PATH
                    list(map(str, words)), capture_output=True, env={"PATH": PATH}, check=False
                )
                if done.returncode:
                    text = done.stderr or b"newuidmap refuses"
                    break
    except OSError as error:
        text = b"-%d" % (error.errno or errno.EIO)
    finally:
        os.write(answered, text)
        os._exit(0)


def nested(outer: tuple[int, int], inner: tuple[int, int]) -> Nested:
    """Make namespaces in which only one user exists. outer, inner: the uid and gid here, and in *user*.
    Raises OSError."""
    root = _of_one((0, 0), outer)

    def make_inner() -> list[int]:
        become_root_of_namespace()  # only a user whom it has can make a namespace in it
        return [_of_one(inner, (0, 0))]

    return Nested(root, in_namespace(root, make_inner)[0])


def in_namespace(namespace: int, function: Callable[[], Sequence[int]]) -> list[int]:
    """Call a function in a child that has entered a user namespace with all its rights, and a mount namespace
    of it. Return duplicates of the descriptors that the function returns. Raises the OSError that the
    function raises."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _answer(theirs, namespace, function)
        theirs.close()
        text, fds, _, _ = socket.recv_fds(ours, 64, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        os.waitpid(child, 0)
    if not fds:
        code = int(text or errno.EIO)
        raise OSError(code, os.strerror(code))
    return fds


def enter(namespace: int) -> None:
    """Enter a user namespace, in a process with one thread. Raises OSError."""
    if LIBC.setns(namespace, _CLONE_NEWUSER):
        raise fail()


def _answer(theirs: socket.socket, namespace: int, function: Callable[[], Sequence[int]]) -> NoReturn:
    try:
        enter(namespace)
        if LIBC.unshare(CLONE_NEWNS):
            raise fail()
        socket.send_fds(theirs, [b"0"], function())
    except Exception as error:  # noqa: BLE001 - no exception may reach the code of the other process
        theirs.send(b"%d" % (getattr(error, "errno", None) or errno.EIO))
    finally:
        os._exit(0)


def _of_one(inside: tuple[int, int], outer: tuple[int, int]) -> int:
    """Make a user namespace with one user. Return a descriptor of it. inside, outer: uid and gid in it, and
    here."""
    waits, told = os.pipe()
    heard, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.write(ready, b"0" if LIBC.unshare(_CLONE_NEWUSER) == 0 else b"%d" % ctypes.get_errno())
        os.read(waits, 1)  # until the other process has opened the namespace
        os._exit(0)
    try:
        if code := int(os.read(heard, 8)):
            raise OSError(code, os.strerror(code))
        for name, *ids in zip(("uid_map", "gid_map"), inside, outer, strict=True):
            Path(f"/proc/{child}/{name}").write_text(f"{ids[0]} {ids[1]} 1\n", encoding="ascii")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (waits, told, heard, ready):
            os.close(fd)
        os.waitpid(child, 0)
