"""What phones put behind a JPEG: a short video, Samsung's trailer of named blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

VIDEO: Final = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x14mdatnoise, no film"[:20]
"""The boxes of an MP4 with nothing to play."""


def blocks(parts: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """A trailer of blocks: type, name, data."""
    body, where = b"", []
    for number, name, data in parts:
        block = b"\0\0" + number.to_bytes(2, "little") + len(name).to_bytes(4, "little") + name + data
        where.append((number, len(body), len(block)))
        body += block
    directory = b"SEFH" + (107).to_bytes(4, "little") + len(parts).to_bytes(4, "little")
    for number, start, size in where:
        directory += b"\0\0" + number.to_bytes(2, "little")
        directory += (len(body) - start).to_bytes(4, "little") + size.to_bytes(4, "little")
    return body + directory + len(directory).to_bytes(4, "little") + b"SEFT"
