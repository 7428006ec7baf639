"""zlib streams of an exact length (RFC 1950, RFC 1951).

New data for a compressed part of a file must take as many bytes as before. Stored blocks and empty
blocks make nearly any length.
"""

from __future__ import annotations

import zlib
from typing import Final

_HEADER: Final = b"\x78\x01"
_EMPTY: Final = b"\0\0\0\xff\xff"
_EMPTY_AFTER_FIXED: Final = b"\2\0\0\0\xff\xff"
"""A block of no bytes, and one behind an empty block of fixed codes: 5 and 6 bytes."""
_STORED_MAX: Final = 0xFFFF


class InflateError(Exception):
    """The bytes are no zlib stream, or one that inflates beyond the limit."""


def inflate(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Inflate a zlib stream; return its data, and the bytes behind its end.

    Raises InflateError, also if the data is more than limit bytes.
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
    """Return a zlib stream of exactly size bytes for data; None if the data does not fit.

    Empty blocks fill it up. Few lengths cannot be made so; then zeros are behind the stream's end,
    where readers do not look.
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
    """Return a zlib stream for data, uncompressed: 2 + 5 per 65535 bytes + 4 bytes more."""
    out = [_HEADER]
    blocks = [data[at : at + _STORED_MAX] for at in range(0, len(data), _STORED_MAX)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        size = len(block).to_bytes(2, "little")
        out += [bytes((last,)), size, bytes(b ^ 0xFF for b in size), block]
    out.append(zlib.adler32(data).to_bytes(4))
    return b"".join(out)


def blank(size: int, filler: bytes = b"\0") -> bytes:
    """Return a zlib stream of exactly size bytes that inflates to about as many bytes of filler.

    filler: one byte. Under 11 bytes: zeros, which are no stream.
    """
    if size < 11:
        return bytes(size)
    count = size - 6 - 5
    while count + 6 + 5 * max(1, -(-count // _STORED_MAX)) > size:
        count -= 1
    return stored(filler * count).ljust(size, b"\0")
