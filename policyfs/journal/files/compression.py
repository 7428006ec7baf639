"""Compression of closed files of the trail (segments) with zstd, to a tenth of their size.

A compressed segment is a series of zstd frames, which any zstd program can read. Each frame has 1 MiB of
uncompressed bytes. Before the uncompressed file is removed, the compressed file is on the disk and was read
back. Small segments are not compressed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

import zstandard

from policyfs.journal.files.segments import NEW, ZST, is_compressed, open_segment

COMPRESS_FROM: Final = 1 << 20
"""The least size, in bytes, at which a closed file of the trail (segment) is compressed."""

_FRAME: Final = 1 << 20
_LEVEL: Final = 1
"""Level 1 makes smaller files here than levels 3 to 12, because half of each compressed line is its digest.

The speed of level 1 is 700 MB/s."""
_ALONE: Final = nullcontext()
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


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
            with open(os.open(new, _FLAGS, 0o600, dir_fd=place), "wb") as file:
                digest = hashlib.sha256()
                for block in _blocks(plain.fileno()):
                    digest.update(block)
                    file.write(zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(block))
                file.flush()
                os.fsync(file.fileno())
            if _digest_of(place, new) != digest.digest():
                raise OSError(f"the compressed {name} cannot be read back")
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=place)
            raise
    with exclusive:
        if not _is_there(place, name):
            os.unlink(new, dir_fd=place)
            return False  # rotation has removed the segment meanwhile, so it must not appear again
        os.rename(new, name + ZST, src_dir_fd=place, dst_dir_fd=place)
    os.fsync(place)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)
    return True


def _is_there(place: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _digest_of(place: int, name: str) -> bytes:
    fd = open_segment(name, dir_fd=place)
    try:
        digest = hashlib.sha256()
        for block in _blocks(fd):
            digest.update(block)
        return digest.digest()
    finally:
        os.close(fd)


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, _FRAME, offset):
        yield block
        offset += len(block)
