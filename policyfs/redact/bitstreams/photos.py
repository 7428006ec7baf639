"""Frames that are whole pictures (Motion JPEG, PNG, TIFF): each may have EXIF, XMP and comments of its own.

A time-lapse film is often a row of photos as the camera made them. Each frame is cleaned like a file of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from policyfs.redact.bitstreams.frames import PICTURE_STARTS, Frame, Restored
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, NotThisKindError, TooMuchError, shifted
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, MemorySource, apply, difference

MAX_PHOTO_BYTES: Final = 1 << 27
"""Maximum size in bytes of a frame that holds a picture."""
_HEADER_BYTES: Final = 1 << 20
"""Number of bytes in which the segments of a JPEG lead to its first scan."""
_JPEG: Final = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_OF_JPEG: Final = (b"Exif\0\0", b"ns.adobe.com/", b"Photoshop 3.0\0", b"GPSLatitude")
_METADATA: Final = (*_OF_JPEG, b"eXIf")
"""Marks of metadata. Those of JPEG count in any frame: decoders of JPEG search for the next marker."""
_LONGEST_MARK: Final = max(map(len, _METADATA))
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN: Final = 0xDA
_APP0: Final = 0xE0


def clean_photo(source: ByteSource, frame: Frame, inner: Inner) -> Found:
    """Clean a frame that is a picture. Raises TooMuchError; NotThisKindError if it is not understood, but has
    metadata.
    """
    whole = Restored(source, frame)
    data = whole.read(0, min(whole.size, MAX_PHOTO_BYTES))
    at = _place_of_picture(data, inner.budget)
    if whole.size > MAX_PHOTO_BYTES and (at is not None or _is_behind(whole, inner.budget)):
        raise TooMuchError("a picture in the frames of a track has too many bytes")
    before, data = data[: at or 0], data[at or 0 :]
    cleaned = None if at is None else inner.image(data)
    if at is None or cleaned is None:
        known = at == 0 and any(code >= _APP0 for code in _segment_codes(data, 0, inner.budget))
        if known or holds_metadata(whole, 0, whole.size):
            raise NotThisKindError("a picture among its frames is not understood")
        return Found()
    start = frame.at - len(frame.lead)
    found = _without_lead(before, start, inner)
    if before and cleaned.data != data:
        result = apply(before, (patch.shifted(-start) for patch in found.patches)) + cleaned.data
        # Of a picture with a broken scan only its metadata stays: no picture would be found there again.
        lost = _place_of_picture(result, inner.budget) != at
        if lost and holds_metadata(MemorySource(result), 0, len(result)):
            raise NotThisKindError("a picture among its frames is not understood")
    if cleaned.data != data:
        found.patches += difference(start + at, data, cleaned.data)
        found.notes += shifted(cleaned.notes or (Note(0, len(data), "frame", "metadata"),), start + at)
    if any(patch.offset < frame.at for patch in found.patches):
        raise NotThisKindError("metadata that is stored once for all frames of a track cannot be removed")
    return found


def _without_lead(data: bytes, at: int, inner: Inner) -> Found:
    """Return the change that zeros metadata before a picture, which decoders skip. Raises TooMuchError."""
    told = told_in_kept(data, inner.hide & Tells.LOCATION, inner.budget)
    if not told:
        return Found()
    note = Note(at, len(data), "frame", "bytes before the picture", told)
    return Found(list(difference(at, data, bytes(len(data)))), [note])


def _is_behind(whole: ByteSource, budget: Budget) -> bool:
    """Return True if a picture begins behind the first MAX_PHOTO_BYTES of a frame. Raises TooMuchError."""
    chunks = range(MAX_PHOTO_BYTES - _HEADER_BYTES, whole.size, MAX_PHOTO_BYTES - _HEADER_BYTES)
    return any(
        _place_of_picture(whole.read(at, min(MAX_PHOTO_BYTES, whole.size - at)), budget) is not None
        for at in chunks
    )


def holds_metadata(source: ByteSource, start: int, end: int) -> bool:
    """Return True if the frame [start, end) has marks of EXIF, XMP or IPTC."""
    marks = _METADATA if source.read(start, 8).startswith(PICTURE_STARTS) else _OF_JPEG
    for at in range(start, end, CHUNK_BYTES):
        chunk = source.read(at, min(CHUNK_BYTES + _LONGEST_MARK, end - at))
        if any(mark in chunk for mark in marks):
            return True
    return False


def _place_of_picture(frame: bytes, budget: Budget) -> int | None:
    """Return the offset of the picture in a frame, or None. A JPEG behind other bytes counts only if its
    segments lead to a scan: coded bytes may begin like one by chance.
    """
    if frame.startswith(PICTURE_STARTS):
        return 0
    for found in _JPEG.finditer(frame):
        codes = list(_segment_codes(frame, found.start(), budget))
        if codes[-1:] == [_SCAN] and not _FRAME_HEADERS.isdisjoint(codes):
            return found.start()
    return None


def _segment_codes(data: bytes, at: int, budget: Budget) -> Iterator[int]:
    """Yield the codes of a JPEG's segments, up to its first scan, or to other bytes. Raises TooMuchError."""
    code, at = 0, at + 2
    while code != _SCAN and data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        budget.part()
        code = data[at + 1]
        if code == 0xFF:
            at += 1
            continue
        if code < 0xC0 or 0xD0 <= code < _SCAN:
            return
        yield code
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
