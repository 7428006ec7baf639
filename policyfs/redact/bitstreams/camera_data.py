"""Data of camcorders (AVCHD) in messages of H.264: MDPM, a list of numbers about time, place and camera.

Source: lib/Image/ExifTool/H264.pm of ExifTool (names of the entries).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells

MARK: Final = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
"""First bytes of the message: a UUID and a name."""
_ENTRY_BYTES: Final = 5
_BLANK: Final = b" "
_TELLS: Final = MappingProxyType(
    {
        **dict.fromkeys((0x13, 0x14, 0x18, 0x19), Tells.TIME),
        **dict.fromkeys((0x70, 0x71, 0x7F, *range(0xA0, 0xAB), 0xE1, 0xEE), Tells.OTHER),
        **dict.fromkeys(range(0xB0, 0xD0), Tells.LOCATION | Tells.TIME),
        **dict.fromkeys((0xE0, 0xE4, 0xE5, 0xE6), Tells.DEVICE),
    }
)
"""Number of an entry -> categories of its four bytes: times, exposure, GPS, and the camera."""


class Entry(NamedTuple):
    """An entry: its categories, and its range in the message."""

    tells: Tells
    start: int
    end: int


def entries(payload: bytes) -> Iterator[Entry]:
    """Yield the entries of a message that begins with MARK. Bytes that are no entry count as one."""
    at = len(MARK) + 1
    for _ in range(payload[len(MARK)] if len(payload) > len(MARK) else 0):
        entry = payload[at : at + _ENTRY_BYTES]
        if len(entry) < _ENTRY_BYTES:
            break
        tells = NOTHING if not entry.strip(_BLANK) else _TELLS.get(entry[0], UNKNOWN)
        yield Entry(tells, at, at + _ENTRY_BYTES)
        at += _ENTRY_BYTES
    if payload[at:].strip(b"\0" + _BLANK):
        yield Entry(UNKNOWN, at, len(payload))
