"""Why a restricted app never gets the store's own file in passthrough, lease or no lease.

What is shown here is the kernel's doing (docs/decisions/0022-large-clean-files-stay-mediated.md): a test
that fails one day says that the decision can be thought of anew.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from typing import Final

import pytest

from policyfs.store.locking.leases import LeaseKeeper
from tests.support.machine.processes import call_as, start_as, wait_for

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

CLEAN, SECRET = b"nothing to hide here", b"taken at 47.80449 N "


def keeper_of(path) -> tuple[LeaseKeeper, int]:
    """A lease keeper of a process of one thread, and an O_RDONLY descriptor."""
    return LeaseKeeper(), os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class Mapping:
    """A mapping without a descriptor: the mmap module keeps one of its own."""

    def __init__(self, fd: int) -> None:
        self._at = _libc.mmap(None, len(CLEAN), mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert self._at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())

    def bytes(self) -> bytes:
        return ctypes.string_at(self._at, len(CLEAN))

    def close(self) -> None:
        assert _libc.munmap(self._at, len(CLEAN)) == 0


def write_secret(path) -> None:
    with open(path, "r+b") as file:
        file.write(SECRET)


def test_a_mapping_of_a_passed_through_file_outlives_the_handle(tiny) -> None:
    fs = tiny(CLEAN)
    with open(fs.path("f"), "rb") as file:
        mapping = Mapping(file.fileno())
        assert mapping.bytes() == CLEAN
    wait_for(lambda: fs.count("RELEASE") == 1, "the handle is released")
    write_secret(fs.backing)  # no lease stands in its way any more
    assert mapping.bytes() == SECRET
    assert fs.count("READ") == 0
    mapping.close()


def test_a_lease_dies_with_its_holder_and_the_descriptor_in_passthrough_does_not(tiny) -> None:
    fs = tiny(CLEAN)

    def hold(channel) -> None:
        keeper, fd = keeper_of(fs.backing)
        channel.send(keeper.grant(fd) is not None)
        channel.recv()

    with open(fs.path("f"), "rb") as file:
        assert file.read() == CLEAN
        holder = start_as(0, hold)
        assert holder.receive() is True
        with pytest.raises(BlockingIOError):
            call_as(0, os.open, fs.backing, os.O_WRONLY | os.O_NONBLOCK)
        holder.kill()
        write_secret(fs.backing)
        file.seek(0)
        assert file.read() == SECRET


def test_a_write_lease_tells_whether_somebody_else_has_a_file_open_or_mapped(arena) -> None:
    """What a cache of copies goes by (store/copies.py): our own descriptor is the only one."""
    path = arena / "copy"
    path.write_bytes(CLEAN)

    def alone(fd: int) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True

    ours = os.open(path, os.O_RDONLY)
    assert alone(ours)
    with open(path, "rb") as file:
        assert not alone(ours)
        mapping = Mapping(file.fileno())
    assert not alone(ours)
    mapping.close()
    assert alone(ours)
    os.close(ours)
