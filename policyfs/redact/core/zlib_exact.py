"""zlib streams of exactly so many bytes (RFC 1950, RFC 1951).

What is compressed in a file and has to say something else must take as many bytes as before. Stored
blocks and empty blocks make any length from MIN_BYTES on.
"""

from __future__ import annotations

import zlib
from typing import Final

_HEADER: Final = b"\x78\x01"
_EMPTY: Final = b"\0\0\0\xff\xff"
_EMPTY_AFTER_FIXED: Final = b"\2\0\0\0\xff\xff"
"""A block of no bytes, and the same behind one of fixed codes that says nothing: 5 and 6 bytes."""
_STORED_MAX: Final = 0xFFFF


class InflateError(Exception):
    """The bytes are no zlib stream, or one that grows beyond what is allowed."""


def inflate(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """What a zlib stream says, and the bytes behind its end.

    Raises InflateError; also if there are more than limit bytes in it.
    """
    machine = zlib.decompressobj()
    try:
        out = machine.decompress(data, limit + 1)
    except zlib.error:
        raise InflateError from None
    if len(out) > limit or not machine.eof:
        raise InflateError
    return out, machine.unused_data


def deflate_to(data: bytes, size: int) -> bytes | None:
    """A zlib stream of exactly size bytes that says data; None if data do not fit.

    Empty blocks fill it up. Few lengths cannot be made so; then zeros stand behind the stream's end, where
    readers do not look.
    """
    packed = zlib.compress(data, 9)
    if len(packed) > size:
        return None
    machine = zlib.compressobj(9)
    body = machine.compress(data) + machine.flush(zlib.Z_FULL_FLUSH)
    end = b"\1\0\0\xff\xff" + zlib.adler32(data).to_bytes(4)
    missing = size - len(body) - len(end)
    for longer in range(5):
        shorter, rest = divmod(missing - 6 * longer, 5)
        if shorter >= 0 and not rest and len(packed) != size:
            return body + _EMPTY * shorter + _EMPTY_AFTER_FIXED * longer + end
    return packed.ljust(size, b"\0")


def stored(data: bytes) -> bytes:
    """A zlib stream that says data, uncompressed: 2 + 5 per 65535 bytes + 4 bytes more."""
    out = [_HEADER]
    blocks = [data[at : at + _STORED_MAX] for at in range(0, len(data), _STORED_MAX)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        size = len(block).to_bytes(2, "little")
        out += [bytes((last,)), size, bytes(b ^ 0xFF for b in size), block]
    out.append(zlib.adler32(data).to_bytes(4))
    return b"".join(out)


def blank(size: int, filler: bytes = b"\0") -> bytes:
    """A zlib stream of exactly size bytes that says about as many times filler (one byte).

    Under 11 bytes: zeros, which are no stream.
    """
    if size < 11:
        return bytes(size)
    count = size - 6 - 5
    while count + 6 + 5 * max(1, -(-count // _STORED_MAX)) > size:
        count -= 1
    return stored(filler * count).ljust(size, b"\0")
