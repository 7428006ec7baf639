"""Check of fonts that are attached to a Matroska file.

A font (OpenType, TrueType, a collection of these, or WOFF) stays as it is if it holds nothing else. Its first
four bytes are no proof: any text may start with a font's signature ("true north"). So OpenType and TrueType
fonts must have a valid table directory, and only zeros outside of tables. A WOFF font must state the size of
the file, and must have no metadata and no private data; its tables, which are compressed, are not examined.
Sources: OpenType 1.9, WOFF 1.0 and 2.0.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.kept_values import told_in_kept

_TYPES: Final = re.compile(
    rb"font/(?:[ot]tf|sfnt|collection|woff2?)|application/(?:octet-stream|vnd\.ms-opentype|font-(?:sfnt|woff2?)"
    rb"|(?:x-)?(?:font|truetype-font|opentype-font)(?:-(?:[ot]tf|ttc|opentype|truetype|woff2?|sfnt))?)",
    re.IGNORECASE,
)
_SFNT: Final = frozenset({b"\0\1\0\0", b"OTTO", b"true"})
_COLLECTION: Final = b"ttcf"
_WOFF: Final = {b"wOFF": 24, b"wOF2": 28}
"""Signatures of WOFF, and the offset of the five numbers about its metadata and private data."""
_TAG: Final = re.compile(rb"[\x20-\x7e]{4}")
_VERSION: Final = re.compile(
    rb"(?<![A-Za-z])(?:Version|PS|hotconv|makeotf\S{0,9}|ttfautohint)[ (v]{0,3}\d{1,3}\.\d{1,3}(?!\d)",
    re.IGNORECASE,
)
_MAX_TABLES: Final = 64
_MAX_FONTS: Final = 64


def is_font_type(mime: bytes) -> bool:
    """Return True if a media type is one under which programs attach fonts."""
    return _TYPES.fullmatch(mime.rstrip(b"\0")) is not None


def is_font(data: bytes) -> bool:
    """Return True if the data is a font, or a collection of fonts, and nothing else.

    For WOFF only the header is checked.
    """
    kind = data[:4]
    if kind in _WOFF:
        about = _WOFF[kind]
        tables = 0 < _number(data, 12, 2) <= _MAX_TABLES
        return (
            len(data) > 48 and _number(data, 8) == len(data) and tables and not any(data[about : about + 20])
        )
    if kind != _COLLECTION:
        return _covers(data, _tables(data, 0))
    count = _number(data, 8)
    at = 12 + 4 * count
    if not 0 < count <= _MAX_FONTS:
        return False
    parts = [(0, at)]
    if data[4:6] == b"\0\2":  # a signature: its tag, length and offset
        parts += [(at, at + 12), (_number(data, at + 8), _number(data, at + 8) + _number(data, at + 4))]
    fonts = [_tables(data, _number(data, 12 + 4 * i)) for i in range(count)]
    return all(fonts) and _covers(data, parts + [part for font in fonts for part in font])


def font_stays(data: bytes, inner: Inner) -> bool:
    """Return True if the data is a font without a block of metadata, and without a place in its texts if
    LOCATION is hidden. Raises TooMuchError.

    Versions of fonts ("2.040;PS 002.040") look like coordinates, and stay.
    """
    if not is_font(data):
        return False
    asked = inner.hide & Tells.LOCATION
    if not told_in_kept(data, asked, inner.budget, numbers=True):
        return True
    if holds_metadata(data, numbers=True):
        return False
    rest = _VERSION.sub(b"", data.translate(None, b"\0"))
    return not told_in_kept(rest, asked, inner.budget, numbers=True)


def _tables(data: bytes, at: int) -> list[tuple[int, int]]:
    count = _number(data, at + 4, 2)
    first = at + 12 + 16 * count
    if data[at : at + 4] not in _SFNT or not 0 < count <= _MAX_TABLES:
        return []
    parts = [(at, first)]
    for entry in range(at + 12, first, 16):
        start = _number(data, entry + 8)
        if _TAG.fullmatch(data[entry : entry + 4]) is None:
            return []
        parts.append((start, start + _number(data, entry + 12)))
    return parts


def _covers(data: bytes, parts: list[tuple[int, int]]) -> bool:
    """Return True if all parts are in the data, and all other bytes of the data are zeros."""
    at = 0
    for start, end in sorted(parts):
        if end > len(data) or data[at:start].strip(b"\0"):
            return False
        at = max(at, end)
    return bool(parts) and not data[at:].strip(b"\0")


def _number(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size])
