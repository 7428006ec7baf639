"""PNGs put together chunk by chunk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes = b"", check: int | None = None) -> bytes:
    """One chunk; check: a checksum that is not the right one."""
    check = zlib.crc32(kind + data) if check is None else check
    return len(data).to_bytes(4) + kind + data + check.to_bytes(4)


def plain(*before: bytes, after: bytes = b"", behind: bytes = b"") -> bytes:
    """A PNG of 4 by 4 grey pixels. before: chunks before the picture; after: chunks between it and the end;
    behind: bytes that follow."""
    head = chunk(b"IHDR", (4).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0]))
    picture = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(range(n, n + 4)) for n in range(4))))
    return SIGNATURE + head + b"".join(before) + picture + after + chunk(b"IEND") + behind


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of every chunk; raises AssertionError if one is cut off or its checksum is wrong."""
    assert data.startswith(SIGNATURE)
    at = len(SIGNATURE)
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 8 + size : at + 12 + size]) == zlib.crc32(kind + body), kind
        yield kind, body
        at += 12 + size
        if kind == b"IEND":
            assert not data[at:].strip(b"\0")
            return
    raise AssertionError("no IEND")


def text(keyword: str, value: str) -> bytes:
    """A tEXt chunk."""
    return chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1"))


def packed_text(keyword: str, value: bytes) -> bytes:
    """A zTXt chunk."""
    return chunk(b"zTXt", keyword.encode("latin-1") + b"\0\0" + zlib.compress(value))


def international(keyword: str, value: bytes, *, packed: bool = False, extra: bytes = b"\0") -> bytes:
    """An iTXt chunk. extra: language, a zero byte, and the keyword in that language."""
    body = zlib.compress(value) if packed else value
    return chunk(b"iTXt", keyword.encode() + bytes([0, packed, 0]) + extra + b"\0" + body)


def profile(name: str, block: bytes) -> bytes:
    """A block as ImageMagick and exiftool write it: hexadecimal, 36 bytes to a line."""
    lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
    return f"\n{name}\n{len(block):8d}\n{lines}\n".encode()
