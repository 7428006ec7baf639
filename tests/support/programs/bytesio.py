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


def every_way(path: str | os.PathLike[str], spare: str | os.PathLike[str]) -> dict[str, str]:
    """SHA-256 of a file's bytes by each way that there is to read or copy them: way -> digest. spare: a name
    in a directory where this process may make a file; it is gone afterwards."""
    digests = {"read": digest_by_read(path, 10_007), "map": digest_by_map(path)}
    size = os.stat(path).st_size
    for way, move in (("sendfile", _sendfile), ("copy_file_range", _copy_range), ("splice", _splice)):
        source = os.open(path, os.O_RDONLY)
        target = os.open(spare, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            move(source, target, size)
            digests[way] = digest_by_read(spare)
        finally:
            os.close(source)
            os.close(target)
            os.unlink(spare)
    digests["O_DIRECT"] = _digest_direct(path)
    buffers = [bytearray(4099), bytearray(size)]
    with open(path, "rb") as file:
        got = os.preadv(file.fileno(), buffers, 0)
    digests["preadv"] = digest_of(b"".join(buffers)[:got])
    return digests


def _sendfile(source: int, target: int, size: int) -> None:
    while size > 0:
        moved = os.sendfile(target, source, None, size)
        assert moved > 0
        size -= moved


def _copy_range(source: int, target: int, size: int) -> None:
    while size > 0:
        moved = os.copy_file_range(source, target, size)
        assert moved > 0
        size -= moved


def _splice(source: int, target: int, size: int) -> None:
    out_of, into = os.pipe()
    try:
        while size > 0:
            moved = os.splice(source, into, min(size, 65536))
            assert moved > 0
            size -= moved
            while moved > 0:
                moved -= os.splice(out_of, target, moved)
    finally:
        os.close(out_of)
        os.close(into)


def _digest_direct(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as aligned:
            while got := os.readv(fd, [aligned]):
                digest.update(aligned[:got])
    finally:
        os.close(fd)
    return digest.hexdigest()
