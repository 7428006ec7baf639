"""The uncompressed bytes of a compressed file of the trail (segment), in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import zstandard

_BLOCK: Final = 1 << 20


def decompressed(fd: int) -> int:
    """Return a descriptor of a file in memory with a segment's uncompressed bytes, up to a damage
    (is_damaged)."""
    memory = os.memfd_create("segment", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as target, suppress(zstandard.ZstdError):
        target.writelines(_blocks(fd))
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def is_damaged(fd: int) -> bool:
    """Return True if a compressed segment has bytes that are no compressed bytes. A cut segment has none."""
    try:
        return not all(_blocks(fd))
    except zstandard.ZstdError:
        return True


def _blocks(fd: int) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a compressed segment. Raises zstandard.ZstdError at a damage."""
    with open(fd, "rb", closefd=False) as source:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True, closefd=False)
        while block := reader.read(_BLOCK):
            yield block
