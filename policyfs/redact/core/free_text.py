"""Search for places, times and devices in free text: comments, captions, descriptions, and values that should
not be text.

Text tells a place if it has coordinates, a code of a place, a link to a map or a keyword below "Places". Text
tells a time if it has a date with a time of day. Text tells a device if it has words that cameras and
programs write into captions and comments by themselves. Names of places, days and things in prose look like
any other words, so such names stay; docs/redaction.md states this limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.coordinates import holds_place, is_below_places

MAX_TEXT_BYTES: Final = 1 << 18
"""Maximum length of a searched text in characters. A longer one counts as telling anything."""
BYTES_PER_PART: Final = 32
"""Number of bytes of text that cost as much work as one part of a file (cleaners.Budget)."""

_RUNS: Final = re.compile(rb"[\x20-\x7e]{8,}|(?:[\x20-\x7e\xb0\xba]\0){8,}|(?:\0[\x20-\x7e\xb0\xba]){8,}")
"""Runs of text among numbers, in ASCII or UTF-16."""
_SIGNED_RUNS: Final = re.compile(
    rb"(?:[\x20-\x7e]|(?<=[0-9 ])\xc2?[\xb0\xba]|(?<=[0-9 ])(?:\xe2\x80[\xb2\xb3\x99\x9d]|\xc2?\xb4)){6,}"
)
"""Runs with signs for degrees, minutes and seconds behind numbers, in Latin-1 or UTF-8."""
_SURE_BYTES: Final = 16
_PAIR_BYTES: Final = 12
_MINUTES: Final = re.compile(rb"[\xb0\xba] ?[0-9.,]{2,12} ?(?:'|\xc2?\xb4|\xe2\x80[\xb2\x99])")
_TWO_SIGNS: Final = re.compile(rb"[\xb0\xba].{1,12}[\xb0\xba]")
"""Degrees in a run below _SURE_BYTES: with minutes, or two. Random bytes have 12 single ones per MB."""
_FEWEST_ZEROS: Final = 4
"""Minimum number of zero bytes in coordinates in UTF-16: each digit has one zero byte."""

_FEWEST_DIGITS: Final = 5
"""Minimum number of digits in coordinates."""
_DIGIT: Final = re.compile(r"\d")
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DAY: Final = r"[0-3]?\d(?:st|nd|rd|th)?"
_YEAR: Final = r"(?:19|20)\d\d"
_CLOCK: Final = r"[012]?\d:[0-5]\d"
_TO_CLOCK: Final = (
    r"(?:[T\s_]{1,3}|\s?[-,;@]\s{0,2}|,?\sat\s|\s?\([a-z]{2,9}\.?\)\s?|[\s,;]{1,3}tim(?:e)?\s?[:=]\s{0,2})"
)
"""Pattern of the characters between a date and the time of day behind the date."""
_CLOCK_BEHIND: Final = r"[012]?\d[:.h][0-5]\d"
"""Pattern of a time of day behind a date: 11:22, 11.22, 11h22."""
_MOMENT: Final = re.compile(
    # 2024:05:17 11:22:33, 2024-05-17T11:22, 20240517T112233
    r"(?:19|20)\d\d([-:/.])[01]\d\1[0-3]\d[T\s_]{1,3}[012]?\d[:.][0-5]\d"
    r"|(?:19|20)\d\d[01]\d[0-3]\d[T_ -]?[012]\d[0-5]\d[0-5]\d"
    # xr:d:DAF1Gj2HLHg:3,j:8205404413412361637,t:23122520 (Canva: day and hour)
    r"|\bxr:d:[\w-]{8,16}:\d{1,6},j:\d{1,24},t:\d{8}\b"
    # 2024-5-17, 11:22, 2024-05-17 at 11:22, 2024年5月17日 11:22
    rf"|{_YEAR}(?P<a>[-:/.])[01]?\d(?P=a)[0-3]?\d{_TO_CLOCK}{_CLOCK_BEHIND}"
    rf"|{_YEAR}\s?年\s?[01]?\d\s?月\s?[0-3]?\d\s?日[^\d\n]{{0,6}}[012]?\d[:時时点]"
    # 17.05.2024, 11:22, 5/17/24 11:22 AM
    rf"|(?<![\d.])[0-3]?\d(?P<b>[-./])[0-3]?\d(?P=b)(?:19|20)?\d\d{_TO_CLOCK}{_CLOCK_BEHIND}"
    # Fri, 17 May 2024 11:22:33, 17-May-2024 11:22
    rf"|\b{_DAY}[-./\s]{{1,2}}{_MONTH}[-./,\s]{{1,2}}(?:19|20)?\d\d{_TO_CLOCK}{_CLOCK_BEHIND}"
    # Fri May 17 11:22:33 2024, May 17th, 2024 at 11:22
    rf"|\b{_MONTH},?\s+{_DAY},?\s+(?:[12]\d{{3}},?\s+)?(?:at\s)?{_CLOCK}"
    # 11:22 17.05.2024, 11:22:33 PM on May 17, 2024
    rf"|\b{_CLOCK}(?::[0-5]\d)?(?:\s?[a-z.]{{2,5}})?[,;\s]{{1,3}}(?:on\s)?"
    rf"(?:{_YEAR}(?P<c>[-:/.])[01]?\d(?P=c)[0-3]?\d|[0-3]?\d(?P<d>[-./])[0-3]?\d(?P=d){_YEAR}"
    rf"|{_DAY}[-.\s]{{1,2}}{_MONTH}[-,\s]{{1,2}}{_YEAR}|{_MONTH}\s{_DAY},?\s{_YEAR})",
    re.IGNORECASE,
)
_MAKERS: Final = (
    "apple|canon|casio|dji|fuji(?:film)?|gopro|hasselblad|huawei|kodak|konica|leica|minolta|motorola|"
    "nikon|nokia|olympus|oneplus|oppo|panasonic|pentax|ricoh|samsung|sony|vivo|xiaomi|hp|hewlett[- ]packard"
)
_OF_A_DEVICE: Final = re.compile(
    rf"digital (?:still )?camera|\bsony dsc\b|^\W*(?:{_MAKERS})\s+(?=\S)[\w -]*(?:camera|scanner|phone|dsc)\b"
    r"|\b(?:serial|model|firmware|device|imei)\s?(?:no|nr|number|name|id|version)?\.?\s?[:=#]"
    r"|^\W*(?:(?:creator|software|encoder)\s?[:=]|(?:created|processed|written|generated)\s(?:with|using)\b)"
    r"|\b(?:oplus_\d+|lav[cf]\d+|libx26\d|gd-jpeg|jpeg library|lead technologies|adobe|photoshop|lightroom|"
    r"gimp|imagemagick|graphicsmagick|exiftool|exiv2|paint\.net|picasa|acdsee|irfanview|snapseed|instagram|"
    r"applemark|jpegmini|image alchemy|photosmart)\b"
    # names of files, which drones and action cams write as descriptions; the text of Canva
    r"|\bdcim[\\/]\d{3}|\bdji_\d|\bxr:d:\w{8}",
    re.IGNORECASE,
)
_DEVICE_HINTS: Final = (
    *("camera", "dsc", "scanner", "phone", "serial", "model", "firmware", "device", "imei", "creator"),
    *("software", "encoder", "created", "processed", "written", "generated", "lavc", "lavf", "libx26"),
    *("gd-jpeg", "jpeg library", "lead tech", "adobe", "photoshop", "lightroom", "gimp", "magick", "exif"),
    *("exiv2", "paint.net", "picasa", "acdsee", "oplus", "irfanview", "snapseed", "instagram"),
    *("applemark", "jpegmini", "alchemy", "photosmart", "dcim", "dji_", "xr:d:"),
)
"""Words for a quick search. Every text that _OF_A_DEVICE matches has at least one of these words."""


_TELLING: Final[tuple[tuple[Tells, Callable[[str], object]], ...]] = (
    (Tells.LOCATION, lambda text: holds_place(text) or is_below_places(text)),
    (Tells.TIME, _MOMENT.search),
    (Tells.DEVICE, _OF_A_DEVICE.search),
)
_IN_TEXT: Final = Tells.LOCATION | Tells.TIME | Tells.DEVICE


def decode(data: bytes) -> str:
    """Decode UTF-8 or Latin-1 without zero bytes: so ASCII in UTF-16 or UTF-32 becomes plain."""
    plain = data.replace(b"\0", b"")
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def readings(data: bytes) -> Iterator[str]:
    """Yield the possible texts of bytes in an unknown encoding.

    The first text is the result of decode(). This result is wrong for UTF-16 with letters other than ASCII:
    bytes of these letters come between the digits, and bytes of Cyrillic letters look like digits. So bytes
    that look like UTF-16 are decoded as UTF-16, too. A text in UTF-16 may start at the first or the second
    byte, because another field may be before the text.
    """
    text = decode(data)
    yield text
    plain = data.rstrip(b"\0")
    if b"\0" not in plain and text.isprintable():  # the quick way out for most texts
        return
    even, odd = plain[::2].count(0), plain[1::2].count(0)
    most, least = max(even, odd), min(even, odd)
    if 0 < _FEWEST_ZEROS * (even + odd) <= len(plain):
        yield decode(plain.replace(b"\0", b" "))  # several texts: "47.80453\0" "13.04229"
    only_ascii = 2 * most >= len(plain) - 1 and not least
    if most < _FEWEST_ZEROS and not text.isprintable():
        yield from _other_digits(plain)
    if most < _FEWEST_ZEROS or 8 * least > most or only_ascii:
        return
    orders = ("utf-16-be", "utf-16-le") if even > odd else ("utf-16-le", "utf-16-be")
    for start, order in enumerate(orders):
        yield (plain + b"\0")[start:].decode(order, "replace")


def _other_digits(data: bytes) -> Iterator[str]:
    """Yield bytes as UTF-16 with digits of other scripts, which have no zero byte."""
    for start in (0, 1):
        for order in ("utf-16-be", "utf-16-le"):
            text = data[start:].decode(order, "replace")
            if len(_DIGIT.findall(text)) >= _FEWEST_DIGITS:
                yield text


def tells_place(text: str) -> bool:
    """Return True if a text holds a place, or is too long to be searched."""
    return len(text) > MAX_TEXT_BYTES or holds_place(text)


def bytes_tell_place(data: bytes) -> bool:
    """Return True if text in an unknown encoding holds a place (coordinates, a code or a map link)."""
    return any(tells_place(text) for text in readings(data))


def text_among_numbers(data: bytes) -> bytes:
    """Return the runs of text in bytes that should be numbers, with a newline between two runs.

    The settings of a codec and a maker's blocks look like random bytes. A search of all bytes would find a
    digit, a degree sign and a digit by chance: in one of ten blocks of 4,000 bytes.
    """
    return b"\n".join((*_RUNS.findall(data), *signed_runs(data)))


def signed_runs(data: bytes) -> list[bytes]:
    """Return the runs of text with signs for degrees among other bytes, in Latin-1 or UTF-8."""
    if data.isascii():
        return []
    runs = (run for run in _SIGNED_RUNS.findall(data) if not run.isascii())
    return [run for run in runs if len(run) >= _SURE_BYTES or _is_sure(run)]


def _is_sure(run: bytes) -> bool:
    pair = len(run) >= _PAIR_BYTES and _TWO_SIGNS.search(run) is not None
    return pair or _MINUTES.search(run) is not None


def told_in_text(text: str, asked: Tells) -> Tells:
    """Return those of *asked* (place, time, device) that a text tells; all if it is too long."""
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
    """Search text of an unknown encoding for data of the categories *asked*; return the categories that are
    found.

    Only places, times and devices can be found. A block of metadata (XMP in a comment) may tell all of
    *asked*. The caller counts the bytes in the budget.
    """
    if asked and holds_metadata(data):
        return asked
    told = NOTHING
    for text in readings(data) if asked & _IN_TEXT else ():
        told |= told_in_text(text, asked)
    return told


def is_prose(data: bytes) -> bool:
    """Return True if bytes are text for people: printable, and not JSON, XML or another markup."""
    text = decode(data).strip()
    if text[:1] in ("<", "{", "["):
        return False
    odd = sum(1 for char in text if not (char.isprintable() or char in "\t\r\n"))
    return odd == 0
