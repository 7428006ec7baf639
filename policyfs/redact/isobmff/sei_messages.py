"""Categories of SEI messages of H.264, H.265 and H.266: one allow list for pictures and movies.

Numbers for showing the picture stay, and a time code is a time. Messages that are not listed may
hold anything, messages within messages (scalable nesting) too. Sources: ITU-T H.264 annex D, H.265
annex D, H.274 (payload types); MISB ST 0604; the output of encoders.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.free_text import told_in

FILLER: Final = 3
T35: Final = 4
UNREGISTERED: Final = 5
UUID_BYTES: Final = 16
_MAX_COUNTER_BYTES: Final = 8
_MAX_NUMBERS_BYTES: Final = 255
"""Size of a message of numbers, at most; a longer one may be anything."""
_MAX_REGISTERED_BYTES: Final = 1024
"""Size of captions and dynamic range, at most: HDR10+ has some 900 bytes."""
_TELLS: Final = MappingProxyType(
    {
        **dict.fromkeys((0, 1, 6, 19, 45, 47, 128, 129, 130, 131, 132), NOTHING),
        **dict.fromkeys((137, 144, 147, 148, 150, 151, 152, 153, 154, 155, 156, 165, 168), NOTHING),
        **dict.fromkeys((176, 177, 178, 179, 180, 200), NOTHING),
        136: Tells.TIME,
    }
)
"""Payload type -> categories."""
_UUIDS: Final = MappingProxyType(
    {
        bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"): Tells.DEVICE | Tells.OTHER,  # x264
        bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"): Tells.DEVICE | Tells.OTHER,  # x265
        bytes.fromhex("47564adc5c4c433f94efc5113cd143a8"): Tells.DEVICE | Tells.OTHER,  # VideoToolbox
        b"MISPmicrosectime": Tells.TIME,
        b"MISPnanosectime\0": Tells.TIME,
    }
)
_SHORT: Final = frozenset({bytes.fromhex("0387f44e"), bytes.fromhex("b9edb930"), bytes.fromhex("e958f491")})
"""First bytes of the UUIDs of phones' encoders that mark each frame with a number of a few bytes."""
_CAPTIONS_AND_RANGE: Final = (b"\xb5\0\x31", b"\xb5\0\x3c", b"\xb5\0\x3b", b"\xb5\x58\x90", b"\x26\0\x04")
"""Country and provider: ATSC captions, HDR10+, Dolby, film grain, HDR Vivid."""


def message_tells(kind: int, payload: bytes, hide: Tells) -> Tells:
    """Return the categories of a message of a payload type. hide: the categories to find in its text."""
    if kind == FILLER:
        return UNKNOWN if payload.strip(b"\xff") else NOTHING
    if kind == T35:
        known = len(payload) <= _MAX_REGISTERED_BYTES and payload.startswith(_CAPTIONS_AND_RANGE)
        return NOTHING if known else UNKNOWN
    if kind == UNREGISTERED:
        tells = unregistered_tells(payload)
        return UNKNOWN if tells is None else tells | told_in(payload[UUID_BYTES:], hide)
    return _TELLS.get(kind, UNKNOWN) if len(payload) <= _MAX_NUMBERS_BYTES else UNKNOWN


def unregistered_tells(payload: bytes) -> Tells | None:
    """Return the categories of user data behind a UUID; None if the UUID is unknown."""
    if payload[:4] in _SHORT and UUID_BYTES <= len(payload) <= UUID_BYTES + _MAX_COUNTER_BYTES:
        return Tells.DEVICE | Tells.OTHER
    return _UUIDS.get(payload[:UUID_BYTES])
