"""Cleaner of makers' time zone tags. It removes the city and leaves the zone.

Source: ExifTool's documentation of Canon's TimeInfo tags. Pentax' city tags are removed as a whole
(makernote_tags.py), because no number in these tags means "no city".
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Note

_CANON_BYTES: Final = 16
_MAX_ZONE_MINUTES: Final = 14 * 60
_MAX_SAVING_MINUTES: Final = 60


def clean_city(tag: int, value: bytes, order: str) -> Cleaned:
    """Remove the city from a maker's time zone numbers; return zeros for a value of another form.

    Canon's form is four numbers of four bytes: size, zone in minutes, city (0: none), daylight saving. order:
    "<" or ">".
    """
    new = _canon(value, order)
    if new == value:
        return Cleaned(value)
    return Cleaned(new, (Note(0, len(value), "MakerNote", f"city in 0x{tag:04x}", Tells.LOCATION),))


def _canon(value: bytes, order: str) -> bytes:
    if len(value) != _CANON_BYTES:
        return bytes(len(value))
    numbers = [
        int.from_bytes(value[at : at + 4], "little" if order == "<" else "big", signed=True)
        for at in range(0, _CANON_BYTES, 4)
    ]
    size, zone, _, saving = numbers
    if size != _CANON_BYTES or abs(zone) > _MAX_ZONE_MINUTES or not 0 <= saving <= _MAX_SAVING_MINUTES:
        return bytes(_CANON_BYTES)
    return value[:8] + bytes(4) + value[12:]
