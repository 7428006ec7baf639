"""User data in frames of H.264, H.265 and H.266: what messages by known encoders and standards tell.

Sources: ITU-T H.264 annex D, H.265 annex D (SEI messages 4 and 5); MISB ST 0604; what encoders write.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells

T35: Final = 4
UNREGISTERED: Final = 5
UUID_BYTES: Final = 16
_MAX_NUMBERS_BYTES: Final = 8
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
"""How UUIDs of encoders in phones begin that mark each frame with a number of a few bytes."""
_CAPTIONS_AND_RANGE: Final = (b"\xb5\0\x31", b"\xb5\0\x3c", b"\xb5\0\x3b", b"\xb5\x58\x90", b"\x26\0\x04")
"""Country and provider: ATSC captions, HDR10+, Dolby, film grain, HDR Vivid."""


def registered_tells(payload: bytes) -> Tells:
    """What user data registered by ITU-T T.35 tells."""
    return NOTHING if payload.startswith(_CAPTIONS_AND_RANGE) else UNKNOWN


def unregistered_tells(payload: bytes) -> Tells | None:
    """What user data behind a UUID tells; None if nobody knows the UUID."""
    if payload[:4] in _SHORT and UUID_BYTES <= len(payload) <= UUID_BYTES + _MAX_NUMBERS_BYTES:
        return Tells.DEVICE | Tells.OTHER
    return _UUIDS.get(payload[:UUID_BYTES])
