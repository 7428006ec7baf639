"""Search of the values of known parts, before they stay: a part that should hold numbers may hold metadata.

Each container keeps parts that cannot carry data of a category by their standard: sizes, matrices, palettes,
settings of codecs. A writer may still put anything into them, and readers that search the bytes of a file
(ExifTool, Exiv2, strings) find it. So all containers search the values of kept parts with the functions of
this module. Pixels, coded pictures and coded sound are not searched: by chance, they contain every short
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.free_text import signed_runs, told_in
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, mask

_RUN: Final = b"\1" * 8
_LONG_RUN: Final = b"\1" * 12
"""Marks of runs of text among bytes. Random bytes have many short runs, also with a degree sign."""
_ASCII: Final = bytes(0x20 <= byte < 0x7F for byte in range(256))
_ZEROS: Final = bytes(not byte for byte in range(256))
_HINT: Final = re.compile(rb"\d[.,:/'-]\d|lat|lon|lng|gps|geo|map|deg|utm|mgrs|qth|http", re.IGNORECASE)
"""Pattern for a quick search in a run of text in an array of numbers. (Palettes have runs like 000111222.)"""
_BETWEEN: Final = b"\n\n\n"
_OVERLAP_BYTES: Final = 1 << 12
_MAX_TEXT_BYTES: Final = 1 << 16
_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n\0"
_ODD_PARTS: Final = 20
"""In a text, at most one of so many bytes is not printable."""


def told_in_kept(data: bytes, asked: Tells, budget: Budget, *, numbers: bool = False) -> Tells:
    """Return the categories of the data in the value of a part that may stay.

    The result is categories.UNKNOWN for a block of metadata, and if the budget for texts is used up. asked:
    the categories to look for in texts among the bytes; blocks are looked for in any case. numbers: True for
    an array of numbers of several bytes. Only longer texts are searched in such an array. Raises
    TooMuchError.
    """
    if not data.strip(b"\0"):
        return NOTHING
    budget.search(len(data))
    if holds_metadata(data, numbers=numbers):
        return UNKNOWN
    if not asked or (numbers and len(data) < len(_LONG_RUN)):
        return NOTHING
    if numbers:
        text = _BETWEEN.join(run for run in _runs(data, _LONG_RUN) if _HINT.search(run))
    else:
        text = data if _is_text(data) else _BETWEEN.join(_runs(data, _RUN))
    if not text:
        return NOTHING
    return told_in(text, asked) if budget.look(len(text)) else UNKNOWN


def told_in_range(
    source: ByteSource, start: int, end: int, asked: Tells, budget: Budget, *, numbers: bool = False
) -> Tells:
    """Return told_in_kept() of [start, end), read in pieces that overlap. Raises TooMuchError."""
    told = NOTHING
    for at in range(start, end, CHUNK_BYTES):
        piece = source.read(at, min(CHUNK_BYTES + _OVERLAP_BYTES, end - at))
        told |= told_in_kept(piece, asked, budget, numbers=numbers)
    return told


def _runs(data: bytes, least: bytes) -> Iterator[bytes]:
    """Yield the runs of text among bytes, at least as long as the mark; of the shorter mark, also degree
    signs.
    """
    yield from _marked(data, data.translate(_ASCII), least)
    if len(least) < len(_LONG_RUN):
        yield from signed_runs(data)
    for first in (0, 1) if b"\0" in data else ():
        letters, zeros = data[first::2], data[1 - first :: 2]
        size = min(len(letters), len(zeros))
        both = mask(letters[:size].translate(_ASCII), zeros[:size].translate(_ZEROS))
        yield from _marked(letters, both, least)


def _marked(data: bytes, marks: bytes, least: bytes) -> Iterator[bytes]:
    at = 0
    while (at := marks.find(least, at)) >= 0:
        end = marks.find(b"\0", at)
        end = len(marks) if end < 0 else end
        yield data[at:end]
        at = end


def _is_text(data: bytes) -> bool:
    """Return True if nearly all bytes are printable ASCII, or all of them are text in UTF-8."""
    if len(data) > _MAX_TEXT_BYTES:
        return False
    if _ODD_PARTS * len(data.translate(None, _PRINTABLE)) <= len(data.strip(b"\0")):
        return True
    try:
        text = data.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in text)
