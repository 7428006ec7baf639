"""Matroska files made byte by byte: elements where they should be, and where they should not."""

from __future__ import annotations

import zlib
from typing import Final

PLACE: Final = b"47.80453, 13.04229"
EBML, SEGMENT, INFO, TRACKS, CLUSTER, TAGS, SEEK_HEAD = (
    *(0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675),
    *(0x1254C367, 0x114D9B74),
)
ATTACHMENTS, CHAPTERS, CUES = 0x1941A469, 0x1043A770, 0x1C53BB6B
UNKNOWN_SIZE: Final = b"\x01" + b"\xff" * 7


def ident_bytes(ident: int) -> bytes:
    """An element's id."""
    return ident.to_bytes((ident.bit_length() + 7) // 8)


def el(ident: int, *parts: bytes, size: bytes | None = None) -> bytes:
    """An element of these parts; size: what is written instead of its true size."""
    data = b"".join(parts)
    if size is None:
        size = bytes([0x80 | len(data)]) if len(data) < 127 else (len(data) | 1 << 28).to_bytes(4)
    return ident_bytes(ident) + size + data


def number(ident: int, value: int) -> bytes:
    """A number."""
    return el(ident, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def header(doc_type: bytes = b"matroska") -> bytes:
    """The EBML header."""
    return el(EBML, number(0x4286, 1), number(0x42F7, 1), el(0x4282, doc_type), number(0x4287, 4))


def info(*more: bytes) -> bytes:
    """Segment information with what has to be in it."""
    apps = (el(0x4D80, b"muxer 1.0"), el(0x5741, b"writer 2.0"))
    return el(INFO, number(0x2AD7B1, 1000000), *apps, *more)


def track(at: int, kind: int, codec: bytes, *more: bytes) -> bytes:
    """A track."""
    return el(0xAE, number(0xD7, at), number(0x73C5, at), number(0x83, kind), el(0x86, codec), *more)


def font(*tables: bytes, at: int = 0, kind: bytes = b"OTTO") -> bytes:
    """A font of these tables; at: its offset in a collection."""
    start = at + 12 + 16 * len(tables)
    entries = b""
    for table in tables:
        entries += b"name" + bytes(4) + start.to_bytes(4) + len(table).to_bytes(4)
        start += len(table)
    return kind + len(tables).to_bytes(2) + bytes(6) + entries + b"".join(tables)


def block(at: int, data: bytes, flags: int = 0x80, size: bytes | None = None) -> bytes:
    """A simple block of a track; size: what is written instead of its true size."""
    return el(0xA3, bytes((0x80 | at, 0, 0, flags)), data, size=size)


def group(at: int, data: bytes, *more: bytes) -> bytes:
    """A block in a group."""
    return el(0xA0, el(0xA1, bytes((0x80 | at, 0, 0, 0)), data), *more)


def cluster(*parts: bytes, size: bytes | None = None) -> bytes:
    """A cluster."""
    return el(CLUSTER, number(0xE7, 0), *parts, size=size)


def checked_cluster(*parts: bytes) -> bytes:
    """A cluster with a checksum, as FFmpeg writes it."""
    inside = b"".join((number(0xE7, 0), *parts))
    return el(CLUSTER, el(0xBF, zlib.crc32(inside).to_bytes(4, "little")), inside)


def simple_tag(name: bytes, value: bytes, *more: bytes) -> bytes:
    """A tag."""
    return el(0x67C8, el(0x45A3, name), el(0x4487, value), *more)


def tags(*simple: bytes) -> bytes:
    """Tags about the whole."""
    return el(TAGS, el(0x7373, el(0x63C0), *simple))


VIDEO: Final = track(1, 1, b"V_VP8")
PICTURES: Final = b"picture data" * 20


def film(
    *parts: bytes, tracks: bytes = VIDEO, head: bytes = b"", size: bytes | None = None, tail: bytes = b""
) -> bytes:
    """A whole file: header, segment with information and tracks, parts, and what is behind."""
    inside = (head, info(), el(TRACKS, tracks), *parts)
    return header() + el(SEGMENT, *inside, size=size) + tail
