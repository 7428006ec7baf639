"""GoPro's telemetry put together key by key."""

from __future__ import annotations

import struct
from typing import Final

from tests.support.samples.movies import CITY, Track, movie

POSITION: Final = struct.pack(">lllll", 478045300, 130422900, 512000, 1200, 90)
"""Latitude, longitude, metres, speeds, scaled as a camera does."""
SCALES: Final = struct.pack(">lllll", 10_000_000, 10_000_000, 1000, 1000, 100)
TURNS: Final = struct.pack(">hhhhhh", 11, -22, 33, 44, -55, 66)


def klv(key: bytes, kind: bytes, value: bytes, width: int | None = None) -> bytes:
    """One value, or (kind 0) others in it; padded to four bytes."""
    width = (1 if kind in (b"c", b"\0") else len(value)) if width is None else width
    count = len(value) // width if width else 0
    return key + kind + bytes([width]) + count.to_bytes(2) + value + bytes(-len(value) % 4)


def stream(*values: bytes) -> bytes:
    return klv(b"STRM", b"\0", b"".join(values))


def sample(*more: bytes) -> bytes:
    """A second of telemetry: movements, exposure, a face, a place, and what else is wanted."""
    parts = [
        klv(b"DVID", b"L", (1).to_bytes(4)),
        klv(b"DVNM", b"c", b"Hero6 Black"),
        stream(
            klv(b"STNM", b"c", b"Gyroscope"), klv(b"SCAL", b"s", b"\x0e\xff"), klv(b"GYRO", b"s", TURNS, 6)
        ),
        stream(klv(b"STNM", b"c", b"Exposure"), klv(b"SHUT", b"f", struct.pack(">ff", 0.01, 0.02), 4)),
        stream(klv(b"STNM", b"c", b"Faces"), klv(b"FACE", b"B", b"\x99\x88\x77\x66")),
        stream(
            klv(b"GPSF", b"L", (3).to_bytes(4)),
            klv(b"GPSU", b"U", b"210723112233.000"),
            klv(b"GPSP", b"S", b"\1\x2c"),
            klv(b"UNIT", b"c", b"degdegm  m/sm/s", 3),
            klv(b"SCAL", b"l", SCALES, 4),
            klv(b"GPS5", b"l", POSITION, 20),
        ),
        stream(klv(b"WHAT", b"c", CITY)),
        *more,
    ]
    return klv(b"DEVC", b"\0", b"".join(parts))


def film() -> bytes:
    """A movie with two seconds of telemetry beside its pictures."""
    return movie(Track(), Track(b"meta", b"gpmd", (sample(), sample()), number=2))
