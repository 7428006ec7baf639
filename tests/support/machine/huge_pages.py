"""Huge pages for what a process of tests has imported, since each fork copies its page table.

With all tests of mounts imported it has 23,000 entries. Most of a fork's processor time goes into them, and
into giving them up at the child's end. As huge pages they are some dozens. But each write while a child lives
splits a huge page: after some hundred tests more than half are small again. So a process that forks for long
has them collapsed again and again.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

from policyfs.linux.libc import LIBC

_MADV_COLLAPSE: Final = 25  # linux/mman.h; whatever /sys/kernel/mm/transparent_hugepage/enabled says
_HUGE_BYTES: Final = 1 << 21
_FORKS: Final = 16
"""Forks, or tests, until pages are collapsed again."""


def collapse() -> None:
    """Make huge pages of this process's own memory, as far as the kernel has and grants them."""
    for start, end in _own_memory():
        first, behind = -(-start // _HUGE_BYTES) * _HUGE_BYTES, end // _HUGE_BYTES * _HUGE_BYTES
        if first < behind:
            LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(behind - first), _MADV_COLLAPSE)


class Collapsed:
    """The huge pages of a process that forks for long."""

    def __init__(self) -> None:
        """Make them."""
        collapse()
        self._forks = 0

    def renew(self) -> None:
        """Make huge pages of those that were split, every few calls. Call it before a fork, or a test."""
        self._forks += 1
        if self._forks % _FORKS == 0:
            collapse()


def _own_memory() -> list[tuple[int, int]]:
    """Return the writable ranges of addresses behind which there is no file."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights.startswith("rw-p") and inode == "0" and name in ([], ["[heap]"]):
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append((start, end))
    return found
