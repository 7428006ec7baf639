"""Functions that inflate zlib streams (RFC 1950, 1951) up to a limit, and write zlib streams of an exact
size.

A compressed part of a file must keep its size when its data changes. Stored blocks and empty blocks can fill
a stream to nearly any size.
"""

from __future__ import annotations

import zlib
from itertools import product
from typing import Final

from policyfs.redact.core.cleaners import Budget

MAX_INFLATED_BYTES: Final = 4 << 20
_STEP_BYTES: Final = 1 << 16
"""Maximum number of bytes inflated in one step. A failed step takes its whole size from the file's budget."""
_MAX_TRIED_BYTES: Final = 1 << 18
_STORED_HEADER: Final = b"\x78\x01"
_STORED_MAX: Final = 0xFFFF
_EMPTY_STORED: Final = b"\0\0\0\xff\xff"
# Size of a stream's end in bytes -> number of empty blocks in this end. The blocks have fixed codes (10 bits
# each, RFC 1951 3.2.6), and the last block has its BFINAL bit set. (In an end of 6 bytes, the last block is a
# stored block.)
_FINAL: Final = {2: 1, 3: 2, 4: 3, 5: 4}


def inflated(data: bytes, budget: Budget, limit: int = MAX_INFLATED_BYTES) -> tuple[bytes, bytes] | None:
    """Return the plain bytes of a zlib stream, and the bytes behind the stream.

    Return None if the stream is broken, or has more than *limit* plain bytes. Raises TooMuchError if the
    inflated data of the whole file is too much.
    """
    unpacker = zlib.decompressobj()
    plain = bytearray()
    while not unpacker.eof:
        step = min(_STEP_BYTES, limit + 1 - len(plain))
        try:
            part = unpacker.decompress(data, step)
        except zlib.error:
            budget.inflate(step)
            return None
        budget.inflate(len(part))
        plain += part
        data = unpacker.unconsumed_tail
        if len(plain) > limit or not (part or unpacker.eof):
            return None
    return bytes(plain), unpacker.unused_data


def deflated_to(plain: bytes, size: int, *, padded: bool = False) -> bytes | None:
    """Return a zlib stream of exactly size bytes; None if the data does not fit.

    Empty blocks fill the rest. Empty blocks are part of the format, so no reader finds bytes behind the
    stream. padded: True if readers stop at the end of the stream. Then zeros follow the stream if the rest is
    too small for empty blocks.
    """
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED):  # Z_FILTERED packs digits better
        packer = zlib.compressobj(9, strategy=strategy)
        packed = packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)
        missing = size - len(packed) - 4
        if missing >= 2:
            break
    else:
        return _padded(plain, size) if padded else _close_fit(plain, size)
    last = missing % 5 if missing % 5 > 1 else missing % 5 + 5
    fill = _EMPTY_STORED * ((missing - last) // 5)
    return packed + fill + _last_blocks(last) + zlib.adler32(plain).to_bytes(4)


def _padded(plain: bytes, size: int) -> bytes | None:
    packed = zlib.compress(plain, 9)
    return packed.ljust(size, b"\0") if len(packed) <= size else None


def _close_fit(plain: bytes, size: int) -> bytes | None:
    """Return a stream of exactly this size, made with one of many settings of zlib; None if none fits."""
    if len(plain) > _MAX_TRIED_BYTES:
        return None
    for level, memory, flush in product((9, 6, 4), (9, 8, 7, 6, 5), (zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH)):
        packer = zlib.compressobj(level, zlib.DEFLATED, 15, memory)
        packed = packer.compress(plain)
        if flush:
            packed += packer.flush(flush)
        packed += packer.flush()
        if len(packed) == size:
            return packed
    return None


def _last_blocks(size: int) -> bytes:
    """Return empty blocks that end a stream, in size bytes (2 to 6)."""
    if size == 6:
        return (0b010 | 0b001 << 10).to_bytes(2, "little") + _EMPTY_STORED[1:]
    blocks = 0
    for index in range(_FINAL[size]):
        final = index == _FINAL[size] - 1
        blocks |= (0b011 if final else 0b010) << (10 * index)
    return blocks.to_bytes(size, "little")


def _stored(data: bytes) -> bytes:
    """Return a zlib stream of uncompressed blocks: 6 bytes longer, and 5 for each block."""
    out = [_STORED_HEADER]
    blocks = [data[at : at + _STORED_MAX] for at in range(0, len(data), _STORED_MAX)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        size = len(block).to_bytes(2, "little")
        out += [bytes((last,)), size, bytes(b ^ 0xFF for b in size), block]
    out.append(zlib.adler32(data).to_bytes(4))
    return b"".join(out)


def blank(size: int, filler: bytes = b"\0") -> bytes:
    """Return a zlib stream of *size* bytes with nearly as many copies of *filler*; zeros below 11 bytes."""
    if size < 11:
        return bytes(size)
    count = size - 6 - 5
    while count + 6 + 5 * max(1, -(-count // _STORED_MAX)) > size:
        count -= 1
    return _stored(filler * count).ljust(size, b"\0")
