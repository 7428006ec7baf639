"""What apps do with bytes: read whole, map, write through mappings. Run in children (call_as)."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
_PATTERN_BYTES: Final = MIB


def pattern(seed: int, size: int) -> bytes:
    """Pseudo-random bytes, the same for the same seed; every MiB of them is different."""
    block = random.Random(seed).randbytes(min(size, _PATTERN_BYTES))
    made = bytearray()
    for number in range(-(-size // _PATTERN_BYTES)):
        made += number.to_bytes(8, "little") + block[8:]
    return bytes(made[:size])


def digest_of(data: bytes | mmap.mmap) -> str:
    """SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_by_read(path: str | os.PathLike[str], step: int = MIB) -> str:
    """SHA-256 of a file's bytes as read(2) gives them, `step` bytes a call."""
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        while data := os.read(fd, step):
            digest.update(data)
    finally:
        os.close(fd)
    return digest.hexdigest()


def digest_by_map(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes as a shared read-only mapping shows them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return digest_of(mapped)


def write_whole(path: str | os.PathLike[str], data: bytes, step: int = MIB) -> None:
    """Create a file and write it, `step` bytes a call, as cp does."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        for offset in range(0, len(data), step):
            assert os.write(fd, view[offset : offset + step]) == len(view[offset : offset + step])
    finally:
        os.close(fd)


def store_by_map(path: str | os.PathLike[str], offset: int, data: bytes) -> None:
    """Change bytes of a file through a shared writable mapping."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[offset : offset + len(data)] = data
        mapped.flush()


def padded_video(path: Path, video: Path, size: int) -> Path:
    """A video of that size in bytes: an MP4 with a `free` box of noise behind its last box."""
    beginning = video.read_bytes()
    box = size - len(beginning)
    assert 8 < box < 1 << 32
    path.write_bytes(beginning + box.to_bytes(4, "big") + b"free" + pattern(5, box - 8))
    return path
