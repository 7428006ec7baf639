"""Cleaners of metadata blocks in containers of pictures: Exif with an offset before it, and XMP.

Exif items of HEIF (ISO/IEC 23008-12 Annex A.2.1) and Exif boxes of JPEG XL (ISO/IEC 18181-2) start with 4
bytes: the offset of the TIFF header, counted from the end of these bytes. The offset is 0, or 6 if the "Exif"
mark of JPEG comes before the header, or 10 if JPEG's whole segment starts there (Xiaomi's phones). Some
writers leave the offset out, or write a wrong offset. Then readers search for the header, and this module
does the same.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.bounded_inflate import deflated_to, inflated
from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, shifted

MAX_BLOCK_BYTES: Final = 1 << 22
"""Maximum size of an item or a box with metadata, and of inflated XMP. A larger one becomes zeros."""
EXIF_MARK: Final = b"Exif\0\0"
XMP_MARK: Final = b"http://ns.adobe.com/xap/1.0/\0"
_MARKS: Final = (b"II*\0", b"MM\0*")
_SEGMENT: Final = re.compile(rb"(?:\xff\xe1..)?Exif\0\0\Z", re.DOTALL)
"""The start of an APP1 segment of JPEG (marker and length may be left out), directly before the header."""
_SEARCH_BYTES: Final = 256
_EMPTY_PACKET_BYTES: Final = 256
_TIFF_PARTS: Final = 8
_XMP_COSTS: Final = 4
_PACKET_BYTES: Final = 16
"""Costs (cleaners.Budget): of a TIFF in parts, of a byte of XMP in searched bytes; bytes of XMP that cost one
of text.
"""
_EMPTY_TIFF: Final = bytes.fromhex("4d4d002a00000008000101120003000000010001000000000000")
"""TIFF structure without information: big-endian, with one directory and one tag (Orientation 1)."""


def empty_tiff(size: int) -> bytes:
    """Return a TIFF structure of *size* bytes without information (zeros if *size* is too small)."""
    return bytes(size) if size < len(_EMPTY_TIFF) else _EMPTY_TIFF.ljust(size, b"\0")


def clean_tiff_block(data: bytes, inner: Inner, container: str) -> Cleaned:
    """Clean a TIFF; an empty one replaces what is not understood. container: for the records."""
    inner.budget.part(_TIFF_PARTS)
    inner.budget.search(len(data))
    cleaned = inner.tiff(data)
    if cleaned is not None and any(cleaned.data):
        return cleaned
    empty = empty_tiff(len(data))
    if empty == data:
        return Cleaned(data)
    notes = cleaned.notes if cleaned is not None else ()
    return Cleaned(empty, notes or (Note(0, len(data), container, "Exif", UNKNOWN, broken=True),))


def clean_exif_block(data: bytes, inner: Inner) -> Cleaned:
    """Clean an Exif item or box, and correct the bytes before its header."""
    at = _header_at(data)
    cleaned = clean_tiff_block(data[at:], inner, "EXIF") if at is not None else None
    if at is None or cleaned is None or not any(cleaned.data):  # no header, or no room for an empty structure
        blank = bytes(len(data))
        if blank == data:
            return Cleaned(data)
        return Cleaned(blank, (Note(0, len(data), "EXIF", "Exif", UNKNOWN, broken=True),))
    segment = _SEGMENT.search(data, 0, at)
    if at < 4 or (segment is not None and segment.start() == 0):
        head = segment[0] if segment is not None else bytes(at)
    else:
        segment = _SEGMENT.search(data, 4, at)
        head = (at - 4).to_bytes(4) + (b"" if segment is None else segment[0]).rjust(at - 4, b"\0")
    return Cleaned(head + cleaned.data, shifted(cleaned.notes, at))


def _header_at(data: bytes) -> int | None:
    """Return the offset of the TIFF header: the stored one, or the first that a search finds; or None."""
    said = 4 + int.from_bytes(data[:4])
    if data[said : said + 4] in _MARKS:
        return said
    found = [at for mark in _MARKS if (at := data.find(mark, 0, _SEARCH_BYTES)) >= 0]
    return min(found, default=None)


def clean_xmp_block(data: bytes, inner: Inner, encoding: bytes = b"") -> Cleaned:
    """Clean an XMP packet, which may be deflated (``deflate`` of ISO/IEC 14496-12: a zlib stream).

    encoding: b"" or b"deflate". If the deflated form of the cleaned packet does not fit, an empty packet
    replaces it. Zeros replace the packet in three cases: even the empty packet does not fit, the data is too
    long for the budget, or the data cannot be inflated (or has another encoding).
    """
    if not inner.budget.look(len(data) // _PACKET_BYTES):
        return _gone(data, "too long")
    inner.budget.search(_XMP_COSTS * len(data))
    if not encoding and data.startswith(XMP_MARK):  # some writers copy the whole payload of JPEG's APP1
        cleaned = inner.xmp(data[len(XMP_MARK) :])
        return Cleaned(XMP_MARK + cleaned.data, shifted(cleaned.notes, len(XMP_MARK)))
    if not encoding:
        return inner.xmp(data)
    plain = inflated(data, inner.budget, MAX_BLOCK_BYTES) if encoding == b"deflate" else None
    if plain is not None:
        inner.budget.search(len(plain[0]))
        cleaned = inner.xmp(plain[0])
        whole = data[: len(data) - len(plain[1])]
        if cleaned.data == plain[0]:
            return Cleaned(whole.ljust(len(data), b"\0"))
        notes = tuple(n._replace(offset=0, length=len(data)) for n in cleaned.notes)
        empty = inner.xmp(bytes(_EMPTY_PACKET_BYTES)).data
        for plain_xmp in (cleaned.data, _closed_up(cleaned), empty):
            packed = deflated_to(plain_xmp, len(data))
            if packed is not None:
                return Cleaned(packed, notes)
    return _gone(data, "packed")


def _gone(data: bytes, tag: str) -> Cleaned:
    blank = bytes(len(data))
    return Cleaned(blank, (Note(0, len(data), "XMP", tag, UNKNOWN, broken=True),) if blank != data else ())


def _closed_up(cleaned: Cleaned) -> bytes:
    """Return a packet without the blanks of removed parts. (In a deflated packet, other parts may move.)"""
    out = bytearray(cleaned.data)
    for note in sorted(cleaned.notes, key=lambda note: note.offset, reverse=True):
        if not out[note.offset : note.offset + note.length].strip(b" "):
            del out[note.offset : note.offset + note.length]
    return bytes(out)
