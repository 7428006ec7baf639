"""JPEG 2000 and JPEG XL files put together byte by byte: builders for tests of redaction.

The codestreams in them have the shape of such, and no picture.
"""

from __future__ import annotations

from typing import Final

from tests.support.samples.movies import box as make_box

JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
JXL_SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
EOC: Final = b"\xff\xd9"


def marker(code: int, payload: bytes) -> bytes:
    """A marker segment."""
    return b"\xff" + bytes((code,)) + (len(payload) + 2).to_bytes(2) + payload


def comment(text: bytes, *, latin: bool = True) -> bytes:
    """A COM marker segment."""
    return marker(0x64, int(latin).to_bytes(2) + text)


def tile(data: bytes, *, header: bytes = b"", number: int = 0, to_end: bool = False) -> bytes:
    """A tile-part."""
    body = header + b"\xff\x93" + data
    size = 0 if to_end else 12 + len(body)
    return b"\xff\x90\0\x0a" + number.to_bytes(2) + size.to_bytes(4) + b"\0\1" + body


def codestream(*tiles: bytes, header: bytes = b"", end: bytes = EOC) -> bytes:
    """A whole codestream."""
    parts = tiles or (tile(b"\1\2\3\4" * 8),)
    return b"\xff\x4f" + marker(0x51, bytes(41)) + header + b"".join(parts) + end


def jp2(*boxes: bytes, stream: bytes | None = None) -> bytes:
    """A JP2 file: boxes between its header and its codestream."""
    head = make_box(b"jp2h", make_box(b"ihdr", bytes(14)) + make_box(b"colr", b"\1\0\0\0\0\0\x10"))
    picture = make_box(b"jp2c", codestream() if stream is None else stream)
    return JP2_SIGNATURE + make_box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + head + b"".join(boxes) + picture


def jxl(*boxes: bytes) -> bytes:
    """A JPEG XL file of boxes, with a codestream behind them."""
    head = JXL_SIGNATURE + make_box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return head + b"".join(boxes) + make_box(b"jxlc", b"\xff\x0a" + bytes(range(1, 60)))
