"""A FUSE mount without a daemon, for the time in which a mount is absent: each call on it gets ENOTCONN.

Otherwise a program would find an empty directory, take all files for deleted, and delete them elsewhere, too.
Mode bits cannot prevent this for root. The real mount goes over the placeholder; its end uncovers it again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
from functools import partial
from typing import Final

from policyfs.kernel import mount_api
from policyfs.kernel.protocol import Opcode
from policyfs.kernel.session import DEVICE_PATH
from policyfs.kernel.trial import answer_init
from policyfs.linux.child import answer_of
from policyfs.linux.mountinfo import ABSENT, mounts_at
from policyfs.linux.statx import fstatx

_ANSWER_S: Final = 5.0
_BUFFER_BYTES: Final = 1 << 20
# include/uapi/linux/fuse.h: fuse_in_header, fuse_out_header, fuse_attr_out
_IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
_OUT_HEADER: Final = struct.Struct("=IiQ")
_ATTRIBUTES: Final = struct.Struct("=QII6Q10I")
_FOR_EVER_S: Final = 1 << 32
_ROOT: Final = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40555, 2, 0, 0, 0, 4096, 0)
"""A fuse_attr: inode 1, size, blocks and times, a directory of root with two links, blocks of 4096 bytes."""


def put_placeholder(path: str) -> None:
    """Mount a placeholder on a directory, unless a mount is there already.

    path: absolute, without symlinks. The connection ends before any process can reach the mount: neither a
    process nor a descriptor is left. Raises OSError.
    """
    if not mounts_at(path):
        _put(path, is_seen=False)


def cover(path: str) -> None:
    """Mount, on top of what is mounted on a directory, a placeholder on which an engine starts a container.

    For stat(2) alone it is an empty directory: engines call it, and would refuse to start the container. What
    is mounted on the placeholder later appears in the container, too (mount_api.share). path: as above.
    Raises OSError.
    """
    _put(path, is_seen=True)


def _put(path: str, *, is_seen: bool) -> None:
    device = os.open(DEVICE_PATH, os.O_RDWR | os.O_CLOEXEC)
    try:
        options = [
            ("source", "absent"), ("subtype", ABSENT.partition(".")[2]), ("rootmode", "40000"),
            ("user_id", "0"), ("group_id", "0"), ("fd", str(device)),
        ]  # fmt: skip
        attributes = mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV
        mount = mount_api.detached("fuse", [*options, "allow_other"], attributes)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, mount)
            if is_seen:
                _remember_root(device, mount)
                mount_api.share(mount)
            os.close(device)
            device = -1
            mount_api.attach(mount, path)
    finally:
        if device >= 0:
            os.close(device)


def _remember_root(device: int, mount: int) -> None:
    """Make the kernel remember the attributes of a mount's root, also after the end of the connection. If it
    does not ask for them in time, it asks later, and gets ENOTCONN. Raises OSError."""
    asked = partial(_answer_attributes, device)
    answer_of(lambda: bytes(bool(fstatx(mount))), timeout_s=_ANSWER_S, kept=(mount,), meanwhile=asked)


def _answer_attributes(device: int) -> None:
    answer_init(device)
    poll = select.poll()
    poll.register(device, select.POLLIN)
    while poll.poll(_ANSWER_S * 1000):
        _, opcode, unique, *_ = _IN_HEADER.unpack_from(os.read(device, _BUFFER_BYTES))
        is_attributes = opcode == Opcode.GETATTR
        # Without STATX, the kernel does not ask for a birth time, which it would never remember.
        body = _ATTRIBUTES.pack(_FOR_EVER_S, 0, 0, *_ROOT) if is_attributes else b""
        code = 0 if is_attributes else -errno.ENOSYS
        os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), code, unique) + body)
        if is_attributes:
            return
