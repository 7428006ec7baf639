"""Videos behind a picture: their start and end.

A motion photo is a JPEG with an MP4 behind it. Its XMP states the distance from the video's start to the end
of the file (GCamera:MicroVideoOffset, Container:Directory with Item:Length). But programs edit, cut and join
files, and leave a wrong distance. So the ``ftyp`` box decides. Sources: Motion Photo format 1.0 (Android
developers' pages); ISO/IEC 14496-12.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource
from policyfs.redact.isobmff.boxes import read_box
from policyfs.redact.jpeg._scan import find_boxes

FTYP_BYTES: Final = 12
"""Number of bytes at the start of a file of boxes that identify the file."""
_AT_TOP: Final = frozenset(
    (
        *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"moof", b"mfra", b"styp"),
        *(b"sidx", b"ssix", b"prft", b"pdin", b"udta", b"sefd", b"beam"),
    )
)
"""Types of boxes at the top of a file; a box of another type does not belong to the video."""
_KINDS: Final = {
    b"qt  ": "video/quicktime",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"avif": "image/avif",
}


_LIVE_MARK: Final = re.compile(rb"(?:v\d{1,2}_f\d{1,5}(?::\d{1,5})?[ \0]{1,20})?LIVE_\d{1,12}[ \0]{0,20}\Z")
_LIVE_MARK_BYTES: Final = 64


def live_mark_size(source: ByteSource) -> int:
    """Return the size of the mark that Huawei's cameras write at the end of a motion photo; 0 if the file has
    no such mark.

    The mark holds the video's length, and nothing else.
    """
    tail = source.read(max(0, source.size - _LIVE_MARK_BYTES), _LIVE_MARK_BYTES)
    found = _LIVE_MARK.search(tail)
    return len(tail) - found.start() if found is not None else 0


class Video(NamedTuple):
    """A file of boxes, [start, end) of the source, and its content kind."""

    start: int
    end: int
    kind: str


def find_video(source: ByteSource, start: int, end: int, budget: Budget) -> Video | None:
    """Find the first file of ISO base media boxes that starts in [start, end); None if there is none.

    Raises TooMuchError.
    """
    at = start
    while at < end:
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        found = find_boxes(chunk) if budget.search_chunk(chunk) else -1
        if found >= 0:
            kind = _KINDS.get(chunk[found + 8 : found + FTYP_BYTES], "video/mp4")
            return Video(at + found, _boxes_end(source, at + found, budget), kind)
        if len(chunk) < FTYP_BYTES or at + len(chunk) >= end:
            return None
        at += len(chunk) - FTYP_BYTES + 1  # a match may lie across two chunks
    return None


def _boxes_end(source: ByteSource, at: int, budget: Budget) -> int:
    start = at
    while at < source.size:
        budget.part()
        box = read_box(source, at, source.size, to_end=True)
        if box is None or box.kind not in _AT_TOP or (box.kind == b"ftyp" and at > start):
            break
        at = box.end
    return at
