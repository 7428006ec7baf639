"""Compression of closed files of the trail (segments) with zstd, to a tenth of their size.

A compressed segment is a series of zstd frames of 1 MiB of lines, which any zstd program can read. Before the
uncompressed file is removed, the compressed file is on the disk and was read back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

import zstandard

from policyfs.journal.files.segments import NEW, ZST, is_compressed, open_segment, synced_file

COMPRESS_FROM: Final = 1 << 20
"""The least size, in bytes, at which a closed file of the trail (segment) is compressed."""

_FRAME: Final = 1 << 20
_LEVEL: Final = 1
"""Smaller files here than levels 3 to 12, as half of each compressed line is its digest; at 700 MB/s."""
_ALONE: Final = nullcontext()


def compress(
    place: int,
    name: str,
    least: int = COMPRESS_FROM,
    exclusive: AbstractContextManager[object] = _ALONE,
) -> bool:
    """Compress a file of the trail (segment), unless it is small. Return True if it was compressed.

    place: a descriptor of its directory. least: smaller files, in bytes, stay uncompressed. exclusive: a lock
    that the writer holds while it removes segments. This function holds the lock while the compressed file
    gets its name. Raises OSError, also if the compressed file does not unpack to the segment's bytes. After
    an error the uncompressed segment stays.
    """
    if is_compressed(name):
        return False
    try:
        fd = open_segment(name, dir_fd=place)
    except FileNotFoundError:
        return False  # rotation has removed the segment
    with open(fd, "rb", buffering=0) as plain:
        if os.fstat(fd).st_size < least:
            return False
        new = f"{NEW}{name}{ZST}"
        try:
            with synced_file(place, new) as file:
                digest = hashlib.sha256()
                for block in _blocks(plain.fileno()):
                    digest.update(block)
                    file.write(zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(block))
            with open(open_segment(new, dir_fd=place), "rb") as unpacked:
                if hashlib.file_digest(unpacked, "sha256").digest() != digest.digest():
                    raise OSError(f"the compressed {name} cannot be read back")
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=place)
            raise
    with exclusive:
        if name not in os.listdir(place):
            os.unlink(new, dir_fd=place)
            return False  # rotation has removed the segment meanwhile, so it must not appear again
        os.rename(new, name + ZST, src_dir_fd=place, dst_dir_fd=place)
    os.fsync(place)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)
    return True


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, _FRAME, offset):
        yield block
        offset += len(block)
