"""A trial mount, which finds the FUSE features of this kernel, and tries passthrough of a file.

The trial mounts on an empty private directory, answers the kernel's INIT itself, registers a backing file,
and removes the mount. It makes no session. So a process may make a trial before it makes its own mount.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.kernel.backing import Backing, BackingRefused
from policyfs.kernel.protocol import InitFlag, Opcode
from policyfs.kernel.session import MountError, mount_device, unmount

_DEADLINE_MS: Final = 5_000
_BUFFER_BYTES: Final = 1 << 20
# include/uapi/linux/fuse.h: fuse_in_header, fuse_init_in, fuse_out_header, fuse_init_out
_IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
_INIT_IN: Final = struct.Struct("=IIIII")
_OUT_HEADER: Final = struct.Struct("=IiQ")
_INIT_OUT: Final = struct.Struct("=IIIIHHIIHHIIH22x")


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial. minor: FUSE 7.minor. offered: the kernel's INIT flags. backing: its refusal of
    passthrough, or None."""

    minor: int
    offered: InitFlag
    backing: BackingRefused | None


def try_passthrough(directory: str | None = None) -> Trial:
    """Try a mount, and passthrough of an unnamed file in *directory* (None: of a memfd). Leaves nothing
    behind. Raises MountError, or OSError if no file can be created in the directory."""
    with _unnamed_file(directory) as file_fd, tempfile.TemporaryDirectory(prefix="policyfs-trial-") as where:
        device = mount_device(
            where, source="trial", user_id=0, group_id=0, allow_other=False, default_permissions=False
        )
        try:
            minor, offered = answer_init(device.fd)
            backing = Backing(device.fd)
            result = backing.register(file_fd)
            backing.close()
        finally:
            os.close(device.fd)  # this ends the connection, so that the unmount waits for no answer
            unmount(where, lazy=True)
    return Trial(minor, offered, result if isinstance(result, BackingRefused) else None)


@contextlib.contextmanager
def _unnamed_file(directory: str | None) -> Iterator[int]:
    if directory is None:
        writable = os.memfd_create("policyfs-trial")
    else:
        writable = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        fd = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
    finally:
        os.close(writable)
    try:
        yield fd
    finally:
        os.close(fd)


def answer_init(fd: int) -> tuple[int, InitFlag]:
    """Read the kernel's INIT, and agree to passthrough. Return the kernel's minor version and its flags."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(_DEADLINE_MS):
        raise MountError("the kernel did not begin to talk to the trial mount")
    request = os.read(fd, _BUFFER_BYTES)
    _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
    if opcode != Opcode.INIT:
        raise MountError(f"the kernel began with request {opcode} instead of INIT")
    major, minor, readahead, low, high = _INIT_IN.unpack_from(request, _IN_HEADER.size)
    offered = InitFlag(low | high << 32)
    wanted = int(offered & (InitFlag.INIT_EXT | InitFlag.PASSTHROUGH))
    body = _INIT_OUT.pack(
        major, minor, readahead, wanted & 0xFFFFFFFF, 12, 9, 4096, 1, 1, 0, wanted >> 32, 1, 0
    )
    os.write(fd, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body)
    return minor, offered
