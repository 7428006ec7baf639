"""Facts in free text: comments, captions, descriptions, and values that should not be text.

Text tells a place if a part of it reads as coordinates, an Open Location Code or a link to a map. It tells a
time if it has a date with a time of day. It tells a device if it has words that cameras and programs write
into captions and comments by themselves. Names of places, days and things in prose look like any other words,
so they stay; docs/redaction.md states this limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells

MAX_TEXT_BYTES: Final = 1 << 18
"""Size beyond which text is not examined but counts as telling everything."""
BYTES_PER_PART: Final = 32
"""Bytes of text that cost as much work as one part of a file (cleaners.Budget)."""

_FEWEST_ZEROS: Final = 4
"""Fewest zero bytes of a place in UTF-16: each of its digits has one."""

_UNIT: Final = r"(?:0{1,3}[.,]\d{3,}|0{0,2}1[.,]0{3,})(?!\d)"
"""A number up to 1, such as a mask's corner, a side of a rectangle, a chromaticity. A place has at most one
such number.
"""
_DECIMAL: Final = rf"[-+]?(?<![\d.])(?!{_UNIT}[^\d\n]{{1,16}}{_UNIT})\d{{1,3}}[.,]\d{{3,}}"
_OLC: Final = "[23456789CFGHJMPQRVWX]"
_VALUE: Final = r"[^\w\n]{0,8}[nsew]?[^\w\n]{0,3}\d"
_PATTERNS: Final = (
    # 47.80453, 13.04229 / +47.8045+013.0423/ (ISO 6709)
    rf"{_DECIMAL}[^\d\n]{{1,16}}\d{{1,3}}[.,]\d{{3,}}",
    # "latitude": 47.8 / GPS N47 / lon=13
    r"\b(?:gps\w{0,20}|lat(?:itude)?|lon(?:g|gitude)?|lng|geo|coord\w{0,20}|latlo?ng?)\b" + _VALUE,
    r"(?:latitude|longitude)\w{0,4}[^\w\n]{1,8}\d",
    # 47°48'16" / 47 deg 48'
    r"\d{1,3}(?:[.,]\d+)?\s?(?:°|º|deg\b|\u00c2\u00b0)\s?(?:\d{1,2}|[nsew]\b)",
    r"\d{1,3}\s\d{1,2}(?:[.,]\d+)?['\u2032]\s?(?:\d{1,2}(?:[.,]\d+)?[\"\u2033]?)?\s?[nsew]\b",
    # N47.804 / 47.804N
    r"\b[nsew]\s?\d{1,3}[.,]\d{2,}",
    # but not within a version (1.0.177471000n); a new value may begin behind a comma (IMG_1,48.85830N)
    r"(?<!\d)(?:(?<!\d\.)\d{1,3}\.|\d{1,3},)\d{3,}\s?[nsew]\b",
    # NMEA 0183 sentences
    r"\$(?:gp|gn|gl|ga|gb|gi|gq|bd|qz)(?:gga|rmc|gll|gns|gsa|vtg)\b",
    # links to a spot on a map
    r"\bgeo:[-+]?\d|maps\.google|google\.[a-z.]{2,6}/maps|goo\.gl/maps|maps\.app|maps\.apple",
    r"openstreetmap\.org|osm\.org|bing\.com/maps|what3words|w3w\.co",
    # Open Location Code
    rf"\b{_OLC}{{4,8}}\+{_OLC}{{2,4}}\b",
)
_COORDINATES: Final = re.compile("|".join(f"(?:{p})" for p in _PATTERNS), re.IGNORECASE)
_MINUTES: Final = r"[0-5]?\d(?:[.,]\d{1,6})?"
_PARTED: Final = rf"\d{{1,3}}[ :-]\s?{_MINUTES}(?:[ :-]\s?{_MINUTES})?"
_WITHOUT_SIGNS: Final = re.compile(
    # N47 48.272 E013 02.537
    rf"\b[ns]\s?{_PARTED}[\s,;/]{{1,3}}[ew]\s?\d{{1,3}}[ :-]\s?{_MINUTES}"
    # 47-48-16N 013-02-32E
    rf"|(?<![\d.,:-]){_PARTED}\s?[ns]\b[\s,;/]{{0,3}}{_PARTED}\s?[ew]\b"
    # 4748.272,N,01302.537,E / 474816N 0130232E
    r"|(?<!\d)\d{4}(?:\d\d)?(?:[.,]\d{1,6})?,?\s?[ns][\s,;/]{0,3}[01]\d{4}(?:\d\d)?(?:[.,]\d{1,6})?,?\s?[ew]\b"
    # N474816 E0130232
    r"|\b[ns]\s?\d{4}(?:\d\d)?(?:[.,]\d{1,6})?[\s,;/]{0,3}[ew]\s?[01]\d{4}",
    re.IGNORECASE,
)
"""Degrees and minutes of both coordinates, without the signs for degrees and minutes."""
_NORTH_OR_SOUTH: Final = re.compile(r"\d\W{0,2}[ns]\b|\b[ns]\W?\d", re.IGNORECASE)
"""Every text that _WITHOUT_SIGNS matches has this. It is searched first, which is quick."""
_LINKS: Final = re.compile(
    r"[?&](?:ll|sll|q|map|center|cp|at|pt|daddr)=[-+]?\d{1,3}\.\d{1,10}(?:,|%2c|~)[-+]?\d"
    r"|waze\.com/ul|\bamap\.com/|mapquest\.com/|(?:wego|share)\.here\.com/|yandex\.[a-z.]{2,6}/maps|mapy\.c(?:z|om)/"
    r"|\b2gis\.[a-z]{2,3}/|\bmaps?\.(?:baidu|naver|kakao|qq)\.com|comgooglemaps:|google\.navigation:",
    re.IGNORECASE,
)
"""Links to spots on further maps; searched only in texts with a colon."""
_MOMENT: Final = re.compile(
    # 2024:05:17 11:22:33, 2024-05-17T11:22, 20240517T112233, Fri May 17 11:22:33 2024
    r"(?:19|20)\d\d([-:/.])[01]\d\1[0-3]\d[T\s_]{1,3}[012]?\d[:.][0-5]\d"
    r"|(?:19|20)\d\d[01]\d[0-3]\d[T_ -]?[012]\d[0-5]\d[0-5]\d"
    r"|\b[0-3]?\d[-./][01]?\d[-./](?:19|20)\d\d,?\s{1,3}[012]?\d:[0-5]\d"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?,?\s+[0-3]?\d,?\s+"
    r"(?:[12]\d{3},?\s+)?[012]?\d:[0-5]\d",
    re.IGNORECASE,
)
_MAKERS: Final = (
    "apple|canon|casio|dji|fuji(?:film)?|gopro|hasselblad|huawei|kodak|konica|leica|minolta|motorola|"
    "nikon|nokia|olympus|oneplus|oppo|panasonic|pentax|ricoh|samsung|sony|vivo|xiaomi|hp|hewlett[- ]packard"
)
_OF_A_DEVICE: Final = re.compile(
    rf"digital (?:still )?camera|\bsony dsc\b|^\W*(?:{_MAKERS})\s+[\w -]*(?:camera|scanner|phone|dsc)\b"
    r"|\b(?:serial|model|firmware|device|imei)\s?(?:no|nr|number|name|id|version)?\.?\s?[:=#]"
    r"|^\W*(?:(?:creator|software|encoder)\s?[:=]|(?:created|processed|written|generated)\s(?:with|using)\b)"
    r"|\b(?:oplus_\d+|lav[cf]\d+|libx26\d|gd-jpeg|jpeg library|lead technologies|adobe|photoshop|lightroom|"
    r"gimp|imagemagick|graphicsmagick|exiftool|exiv2|paint\.net|picasa|acdsee|irfanview|snapseed|instagram)\b",
    re.IGNORECASE,
)
_DEVICE_HINTS: Final = (
    *("camera", "dsc", "scanner", "phone", "serial", "model", "firmware", "device", "imei", "creator"),
    *("software", "encoder", "created", "processed", "written", "generated", "lavc", "lavf", "libx26"),
    *("gd-jpeg", "jpeg library", "lead tech", "adobe", "photoshop", "lightroom", "gimp", "magick", "exif"),
    *("exiv2", "paint.net", "picasa", "acdsee", "oplus", "irfanview", "snapseed", "instagram"),
)
"""Every text that _OF_A_DEVICE matches has at least one of these words. The search for them is quick, and
comes first.
"""


def _holds_place(text: str) -> bool:
    """True if a text holds coordinates, an Open Location Code or a link to a map."""
    if _COORDINATES.search(text) or (":" in text and _LINKS.search(text)):
        return True
    return _NORTH_OR_SOUTH.search(text) is not None and _WITHOUT_SIGNS.search(text) is not None


_TELLING: Final[tuple[tuple[Tells, Callable[[str], object]], ...]] = (
    (Tells.LOCATION, _holds_place),
    (Tells.TIME, _MOMENT.search),
    (Tells.DEVICE, _OF_A_DEVICE.search),
)
_IN_TEXT: Final = Tells.LOCATION | Tells.TIME | Tells.DEVICE


def decode(data: bytes) -> str:
    """Decode text from UTF-8 or Latin-1, without its zero bytes.

    So ASCII text in UTF-16 or UTF-32 becomes plain ASCII, in which the patterns find places.
    """
    plain = data.replace(b"\0", b"")
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def readings(data: bytes) -> Iterator[str]:
    """Yield the texts that bytes in an unknown encoding may be.

    First that of decode. If there are letters other than ASCII in UTF-16, their bytes are between the digits
    there (those of Cyrillic letters are digits themselves), so the bytes are decoded as UTF-16, too. The text
    may start at either byte: another field may be before it.
    """
    yield decode(data)
    plain = data.rstrip(b"\0")
    even, odd = plain[::2].count(0), plain[1::2].count(0)
    most, least = max(even, odd), min(even, odd)
    only_ascii = 2 * most >= len(plain) - 1 and not least
    if most < _FEWEST_ZEROS or 8 * least > most or only_ascii:
        return
    orders = ("utf-16-be", "utf-16-le") if even > odd else ("utf-16-le", "utf-16-be")
    for start, order in enumerate(orders):
        yield (plain + b"\0")[start:].decode(order, "replace")


def tells_place(text: str) -> bool:
    """True if a text reads as if it held coordinates, or is too long to be searched."""
    return len(text) > MAX_TEXT_BYTES or _holds_place(text)


def bytes_tell_place(data: bytes) -> bool:
    """Apply tells_place to text in an unknown encoding."""
    return any(tells_place(text) for text in readings(data))


def told_in_text(text: str, asked: Tells) -> Tells:
    """Return the asked categories that a text contains; all of them if it is too long to be searched."""
    if len(text) > MAX_TEXT_BYTES:
        return asked & UNKNOWN
    told = NOTHING
    if asked & Tells.DEVICE:
        lower = text.lower()
        if not any(hint in lower for hint in _DEVICE_HINTS):
            asked &= ~Tells.DEVICE
    for part, search in _TELLING:
        if part & asked and search(text):
            told |= part
    return told


def told_in(data: bytes, asked: Tells) -> Tells:
    """Apply told_in_text to text in an unknown encoding. The caller counts the bytes in the budget."""
    told = NOTHING
    for text in readings(data) if asked & _IN_TEXT else ():
        told |= told_in_text(text, asked)
    return told


def is_prose(data: bytes) -> bool:
    """True if bytes are text for people: printable, and not JSON, XML or another markup."""
    text = decode(data).strip()
    if text[:1] in ("<", "{", "["):
        return False
    odd = sum(1 for char in text if not (char.isprintable() or char in "\t\r\n"))
    return odd == 0
