"""Search of coded pictures and sound for data that somebody put into or behind them.

A format may leave the end of its coded data unstated (a codestream of JPEG XL, frames of FLAC). Then other
data may be in or behind the coded data, and a decoder skips it. Such data is found by the first bytes that
readers look for, and by text with a place. Coded data looks random: by chance, neither occurs in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.filler import is_uniform
from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource

_STARTS: Final = (
    *(b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"8BIM\x04\x04", b"jumb\0\0\0"),
    *(b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"SEFH", b"ID3", b"ftyp", b"RIFF", b"\xff\xd8\xff"),
)
_START: Final = re.compile(
    rb"Exif\0\0(?:II\*\0|MM\0\*)|II\*\0\x08|MM\0\*\0|8BIM\x04\x04|jumb\0|\x89PNG"
    rb"|PK\x03\x04.\x00|SEFH.\0\0\0.\0\0\0|ID3[\2-\4]\0[\0\x10\x20\x40\x80][\0-\x7f]{4}"
    rb"|ftyp[\x20-\x7e]{4}[\0\x20]|RIFF....(?:WEBP|WAVE|AVI )"
    rb"|\xff\xd8\xff[\xe0\xe1]\0.(?:JFIF|Exif)\0|\xff\xd8\xff[\xe1\xfe]..[\x09\x0a\x0d\x20-\x7e]{8}",
    re.DOTALL,
)
"""Starts of files and blocks, and more of their bytes: coded data contains the shorter ones by chance."""
_WORDS: Final = re.compile(
    rb"<x:xmpmeta|<\?xpacket|<rdf:RDF|http://ns\.adobe|GPSL(?:at|ong)itude|APETAGEX|LYRICSBEGIN|%PDF-1\."
    rb"|MotionPhoto_Data"
)
OVERLAP_BYTES: Final = 512
"""Maximum size of a start or text that lies across two chunks."""
_WORD_BYTES: Final = 8
_TEXT_BYTES: Final = 16
"""Minimum sizes of a text that is searched for _WORDS, and for a place."""
_WORK_BYTES: Final = 64
"""Cost of a start or text that is no metadata, in searched bytes (cleaners.Budget)."""
_ZEROS: Final = 32
_PRINTABLE: Final = bytes(0x20 <= byte < 0x7F for byte in range(256))
_ROW: Final = b"\1" * _WORD_BYTES


def find_appended(source: ByteSource, start: int, end: int, budget: Budget) -> int | None:
    """Return the offset of the first data in [start, end) that is no coded data, or None. With zeros from
    there on, a second search finds nothing. Raises TooMuchError.
    """
    at, end = start, min(end, source.size)
    while at < end:
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        found = _first(chunk, budget) if budget.search_chunk(chunk) else None
        if found is not None:
            return _before_zeros(source, start, at + found, budget)
        at += len(chunk) if at + len(chunk) >= end else len(chunk) - OVERLAP_BYTES
    return None


def _before_zeros(source: ByteSource, start: int, at: int, budget: Budget) -> int:
    """Return the offset before which zeros from *at* on complete no start: a start may end with zeros."""
    while True:
        first = max(start, at - OVERLAP_BYTES)
        found = _first(source.read(first, at - first) + bytes(_ZEROS), budget)
        if found is None:
            return at
        at = first + found


def _first(data: bytes, budget: Budget) -> int | None:
    return min((*_starts(data, budget), *_texts(data, budget)), default=None)


def _starts(data: bytes, budget: Budget) -> Iterator[int]:
    for start in _STARTS:
        at = data.find(start)
        while at >= 0 and _START.match(data, at) is None:
            budget.search(_WORK_BYTES)
            at = data.find(start, at + 1)
        if at >= 0:
            yield at


def _texts(data: bytes, budget: Budget) -> Iterator[int]:
    rows = data.translate(_PRINTABLE)
    at = rows.find(_ROW)
    while at >= 0:
        behind = rows.find(b"\0", at)
        behind = len(data) if behind < 0 else behind
        if _tells_place(data[at:behind], budget):
            yield at
        if (word := _WORDS.search(data, at, behind)) is not None:
            yield word.start()
            return
        budget.search(_WORK_BYTES)
        at = rows.find(_ROW, behind)


def _tells_place(text: bytes, budget: Budget) -> bool:
    if len(text) < _TEXT_BYTES or is_uniform(text):
        return False
    return not budget.look(len(text)) or bytes_tell_place(text)
