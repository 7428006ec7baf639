"""The uncompressed bytes of a compressed file of the trail (segment), in memory."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import zstandard

_BLOCK: Final = 1 << 20


def decompressed(fd: int) -> int:
    """Return a descriptor of a file in memory with the uncompressed bytes of a compressed segment.

    fd: the compressed segment (a file of the trail). If the segment is damaged, the uncompressed bytes end at
    the damage. `policyfs audit verify` reports the rest as missing.
    """
    memory = os.memfd_create("segment", os.MFD_CLOEXEC)
    with open(fd, "rb", closefd=False) as source, open(memory, "wb", closefd=False) as target:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True, closefd=False)
        with suppress(zstandard.ZstdError):
            while block := reader.read(_BLOCK):
                target.write(block)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory
