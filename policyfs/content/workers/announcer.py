"""The announcer: a process that repeats changes of the store in a mount, so that inotify reports them there.

The kernel reports to inotify only calls that programs make on the mount itself. So for each change of the
store the daemon sends one order, and the announcer makes the call in the mount. The daemon knows this process
by its pid, and answers its requests without any change (fs/kernel_cache/announcements.py).

The announcer has the ids of the mount's app, no capability, and no descriptors but its control socket. It
gets a descriptor of the mount's root with each order, and keeps nothing open between orders. It is a fork of
the launcher, so that it has imported all modules. The app cannot trace it (PR_SET_DUMPABLE), but can kill it.

Messages (SOCK_SEQPACKET): the first has the ids and the mount's device number as JSON; the answer is READY.
Each order has the kind, a directory's path in the mount, and a name in it, after a MOVE also those of the new
place, with zero bytes between; and the root's descriptor. The answer is the errno of the call, 0: no error.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from typing import Final

from policyfs.linux import libc
from policyfs.linux.confinement.identity import become
from policyfs.linux.confinement.prctl import name_process, prctl
from policyfs.linux.scheduling import set_turns
from policyfs.linux.statx import cached_stat

READY: Final = b"ready"
FILE: Final = b"file"
WRITTEN_FILE: Final = b"written file"
DIRECTORY: Final = b"directory"
REMOVED_FILE: Final = b"removed file"
REMOVED_DIRECTORY: Final = b"removed directory"
MOVED: Final = b"moved"
ATTRIBUTES: Final = b"attributes"
BYTES: Final = b"bytes"
WRITTEN: Final = b"written"

MAX_ORDER: Final = 2 * (4096 + 256) + 64
_PR_SET_DUMPABLE: Final = 4
_SLICE_NS: Final = 100_000
"""A short time slice: programs that compute do not delay the few microseconds of each call."""


def live(control: socket.socket) -> int:
    """Carry out orders until the daemon is gone. Return the exit code."""
    name_process("policyfs-announ")
    setup = json.loads(control.recv(MAX_ORDER))
    set_turns(nicer=0, slice_ns=_SLICE_NS)
    become(setup["uid"], setup["gid"])
    prctl(_PR_SET_DUMPABLE, 0)  # after the change of ids, which sets it by a sysctl
    control.send(READY)
    while True:
        order, fds, _, _ = socket.recv_fds(control, MAX_ORDER, 1)
        if not fds:
            return 0
        try:
            code = _carry_out(order, fds[0], setup["device"])
        finally:
            os.close(fds[0])
        control.send(b"%d" % code)


def _carry_out(order: bytes, root: int, device: int) -> int:
    """Make the call of an order. Return its errno.

    INVARIANT: each call is made in the mount itself. A call on another file system would change it.
    """
    kind, *places = order.split(b"\0")
    opened: list[int] = []
    try:
        if cached_stat(root, b"").dev != device:
            return errno.EXDEV
        for path in places[::2]:
            opened.append(libc.open_beneath(root, path or b".", os.O_PATH | os.O_DIRECTORY, one_mount=True))
        _call(kind, list(zip(opened, places[1::2], strict=True)))
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        for fd in opened:
            os.close(fd)
    return 0


def _call(kind: bytes, places: list[tuple[int, bytes]]) -> None:
    directory, name = places[0]
    if kind == FILE:
        os.mknod(name, stat.S_IFREG | 0o600, dir_fd=directory)
    elif kind == WRITTEN_FILE:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory)
        try:
            libc.utimens_fd(fd, None, libc.TIME_NOW)
        finally:
            os.close(fd)
    elif kind == DIRECTORY:
        os.mkdir(name, 0o700, dir_fd=directory)
    elif kind == REMOVED_FILE:
        os.unlink(name, dir_fd=directory)
    elif kind == REMOVED_DIRECTORY:
        os.rmdir(name, dir_fd=directory)
    elif kind == MOVED:
        libc.rename2(directory, name, *places[1], 0)
    else:
        # A fifo would make an open for writing wait.
        flags = os.O_WRONLY | os.O_NONBLOCK if kind == WRITTEN else os.O_PATH
        fd = libc.open_beneath(directory, name, flags | os.O_NOFOLLOW, one_mount=True)
        try:
            if kind == ATTRIBUTES:
                libc.utimens_fd(fd, libc.TIME_NOW, libc.TIME_NOW)
            elif kind == BYTES:
                libc.utimens_fd(fd, None, libc.TIME_NOW)
        finally:
            os.close(fd)
