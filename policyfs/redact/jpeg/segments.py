"""Cleaner of the metadata segments (APPn, COM) of a JPEG.

A known segment is cleaned, or stays because its form is harmless. Any other segment becomes zeros: a maker's
private segment may hold anything, even a place. Sources: T.81; JFIF 1.02; Exif 2.32; Adobe XMP part 3; CIPA
DC-007 (MPF); ICC.1 Annex B.4; ISO 21496-1; Adobe technical note 5116.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, shifted
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.free_text import BYTES_PER_PART, is_prose, told_in
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.exif import tags
from policyfs.redact.exif.exif import MAX_ENTRIES, clean_tiff
from policyfs.redact.exif.ifd import read_entries, read_header
from policyfs.redact.jpeg.markers import APP0, COM, Segment

EXIF_HEADER: Final = b"Exif\0\0"
XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"
XMP_MORE_HEADER: Final = b"http://ns.adobe.com/xmp/extension/\0"
PHOTOSHOP_HEADER: Final = b"Photoshop 3.0\0"
MPF_HEADER: Final = b"MPF\0"
ICC_HEADER: Final = b"ICC_PROFILE\0"
GAIN_MAP_HEADER: Final = b"urn:iso:std:iso:ts:21496:-1\0"
DUCKY_HEADER: Final = b"Ducky"

APP1: Final = APP0 + 1
APP2: Final = APP0 + 2
APP12: Final = APP0 + 12
APP13: Final = APP0 + 13
APP14: Final = APP0 + 14

_EXIF_START: Final = re.compile(rb".{0,4}Exif\0.", re.IGNORECASE | re.DOTALL)
"""Bytes that lax readers (ExifTool) accept as the start of EXIF."""
_TIFF_START: Final = re.compile(rb"II\*\0|MM\0\*")
_GAIN_MAP_BYTES: Final = frozenset({4, 34, 37, 58, 61, 74, 77, 138, 141})
"""Sizes of a gain map's data: only versions, or numbers of 1 or 3 colours (in drafts 3 bytes less)."""
_JFIF_BYTES: Final = 14
_ADOBE_BYTES: Final = 12
_ADOBE_TAIL: Final = b"\x03\0\x10\x03\x02\x03\x06" + bytes(12)
"""Bytes that Photoshop 6 and later write behind the fields of APP14. Other numbers instead of zeros go."""
_QUALITY_BYTES: Final = 8
_COLOUR_HEADER: Final = b"Adobe_CM"
_COLOUR_BYTES: Final = 11
LOOKED_INTO: Final = frozenset({COM, APP0, APP1, APP2, APP12, APP13, APP14})
"""Markers of segments that may keep bytes. All other segments become zeros."""
NAMES: Final = {COM: "COM"} | {APP0 + n: f"APP{n}" for n in range(16)}


@dataclass(slots=True)
class Loaded:
    """A segment with its old and its new payload."""

    code: int
    old: bytes
    new: bytes
    notes: list[Note] = field(default_factory=list)

    def set(self, cleaned: Cleaned | None, skip: int = 0) -> None:
        """Replace the payload from *skip* on by a cleaned block; None: remove the whole payload."""
        if cleaned is None:
            self.drop(broken=True)
            return
        self.new = self.old[:skip] + cleaned.data
        self.notes += shifted(cleaned.notes, skip)

    def drop(self, tag: str = "unknown", tells: Tells = UNKNOWN, *, broken: bool = False) -> None:
        """Remove the whole payload. broken: True if the payload was not understood."""
        self.new = bytes(len(self.old))
        if self.new != self.old:
            self.notes.append(Note(0, len(self.old), NAMES[self.code], tag, tells, broken))


def clean_segments(segments: Sequence[Segment], payloads: Sequence[bytes], inner: Inner) -> list[Loaded]:
    """Clean all metadata segments of one image; return them in order."""
    loaded = [Loaded(s.code, old, old) for s, old in zip(segments, payloads, strict=True)]
    for segment in loaded:
        if not _is_shared(segment):
            _clean_one(segment, inner)
    _clean_exif(loaded, inner)
    _clean_photoshop(loaded, inner)
    _clean_profile([s for s in loaded if s.code == APP2 and s.old.startswith(ICC_HEADER)], inner)
    return loaded


def _is_shared(segment: Loaded) -> bool:
    headers = {APP13: PHOTOSHOP_HEADER, APP2: ICC_HEADER}
    header = headers.get(segment.code)
    return _exif_skip(segment) > 0 or (header is not None and segment.old.startswith(header))


def _clean_one(segment: Loaded, inner: Inner) -> None:
    old, code = segment.old, segment.code
    if code == COM:
        inner.budget.part(len(old) // BYTES_PER_PART)
        read = is_prose(old) and inner.budget.look(len(old))
        tells = Tells.PEOPLE | told_in(old, inner.hide) if read else UNKNOWN
        if tells & inner.hide:
            segment.drop("text", tells)
    elif code == APP0:
        segment.set(_clean_jfif(old, inner))
    elif code == APP1 and old.startswith(XMP_HEADER):
        segment.set(inner.xmp(old[len(XMP_HEADER) :]), len(XMP_HEADER))
    elif code == APP1 and old.startswith(XMP_MORE_HEADER):
        segment.drop("extended XMP")  # named by its digest, which would confirm a guess of a removed place
    elif code == APP2 and old.startswith(MPF_HEADER):
        segment.set(clean_tiff(old[len(MPF_HEADER) :], inner, tags.MPF_TABLE), len(MPF_HEADER))
    elif code == APP2 and old.startswith(GAIN_MAP_HEADER):
        numbers = old[len(GAIN_MAP_HEADER) :]
        if len(numbers) not in _GAIN_MAP_BYTES or told_in_kept(numbers, inner.hide, inner.budget):
            segment.drop("gain map")
    elif code == APP12 and old.startswith(DUCKY_HEADER):
        segment.set(_clean_ducky(old, inner))
    elif code == APP14 and old.startswith(b"Adobe") and len(old) >= _ADOBE_BYTES:
        if old[_ADOBE_BYTES:] != _ADOBE_TAIL:
            segment.set(_cut(old, _ADOBE_BYTES, "APP14"))  # decoders read the colour transform here
    elif code == APP13 and old.startswith(_COLOUR_HEADER) and len(old) <= _COLOUR_BYTES:
        pass  # a type number, in thumbnails by Photoshop and Lightroom
    else:
        segment.drop()


def _clean_jfif(old: bytes, inner: Inner) -> Cleaned | None:
    if old.startswith(b"JFIF\0") and len(old) >= _JFIF_BYTES:
        if inner.hide & Tells.OTHER and old[12] * old[13]:
            notes = (Note(12, len(old) - 12, "APP0", "thumbnail", Tells.OTHER),)
            return Cleaned(old[:12].ljust(len(old), b"\0"), notes)
        end = min(len(old), _JFIF_BYTES + 3 * old[12] * old[13])
        return _cut(old, 12 if holds_metadata(old[:end], numbers=True) else end, "APP0")
    if old.startswith(b"JFXX\0\x10"):
        if inner.hide & Tells.OTHER:
            return Cleaned(bytes(len(old)), (Note(0, len(old), "APP0", "thumbnail", Tells.OTHER),))
        cleaned = inner.jpeg(old[6:])
        return cleaned and Cleaned(old[:6] + cleaned.data, shifted(cleaned.notes, 6))
    if old.startswith(b"AVI1"):
        return _cut(old, 14, "APP0")
    return None


def _cut(old: bytes, end: int, name: str) -> Cleaned:
    """Keep the bytes up to *end*; record the removal of others than zeros."""
    new = old[:end].ljust(len(old), b"\0")
    notes = (Note(end, len(old) - end, name, "behind its fields"),) if new != old else ()
    return Cleaned(new, notes)


def _clean_ducky(old: bytes, inner: Inner) -> Cleaned | None:
    kept, notes = DUCKY_HEADER, []
    at = len(DUCKY_HEADER)
    while (tag := int.from_bytes(old[at : at + 2])) in (1, 2, 3):
        inner.budget.part()
        end = at + 4 + int.from_bytes(old[at + 2 : at + 4])
        if end > len(old) or (tag == 1 and end - at != _QUALITY_BYTES):
            return None
        if tag > 1 and inner.text(old[at + 4 : end]):
            notes.append(Note(at, end - at, "APP12", "Ducky text", Tells.PEOPLE | Tells.LOCATION))
        else:
            kept += old[at:end]
        at = end
    return None if tag else Cleaned(kept.ljust(len(old), b"\0"), tuple(notes))


# --- blocks that span segments ---


def _spread(parts: Sequence[Loaded], cleaned: Cleaned, skip: int) -> None:
    """Put a cleaned block back into its segments, behind the first *skip* bytes of each."""
    starts = [0, *accumulate(len(segment.old) - skip for segment in parts)]
    for segment, at, end in zip(parts, starts, starts[1:], strict=False):
        segment.new = segment.old[:skip] + cleaned.data[at:end]
    for note in cleaned.notes:
        index = bisect_right(starts, note.offset) - 1
        if index < len(parts):
            length = min(note.length, starts[index + 1] - note.offset)
            offset = note.offset - starts[index] + skip
            parts[index].notes.append(note._replace(offset=offset, length=length))


def _clean_exif(loaded: Sequence[Loaded], inner: Inner) -> None:
    """Clean EXIF, also with a header for lax readers alone, and in several segments, as ExifTool writes it: a
    segment without a byte order goes on with the one before it.
    """
    blocks: list[list[Loaded]] = []
    adjoining = False
    for segment in loaded:
        skip = _exif_skip(segment)
        if skip:
            starts = _TIFF_START.match(segment.old, skip) is not None
            if adjoining and not starts and _exif_skip(blocks[-1][0]) == skip:
                blocks[-1].append(segment)
            else:
                blocks.append([segment])
        adjoining = skip > 0
    for parts in blocks:
        _clean_exif_block(parts, inner)


def _exif_skip(segment: Loaded) -> int:
    """Return the number of bytes before the EXIF of a segment; 0 if the segment has no EXIF."""
    found = _EXIF_START.match(segment.old) if segment.code == APP1 else None
    return found.end() if found else 0


def _clean_exif_block(parts: Sequence[Loaded], inner: Inner) -> None:
    skip = _exif_skip(parts[0])
    cleaned = inner.tiff(b"".join(part.old[skip:] for part in parts))
    cuts = accumulate(len(part.old) - skip for part in parts[:-1])
    # If a cleaned part starts with a byte order, readers no longer join it to the part before it.
    if cleaned is None or any(_TIFF_START.match(cleaned.data, at) for at in cuts):
        for part in parts:
            part.drop("unreadable", broken=True)
        return
    _spread(parts, cleaned, skip)
    for part in parts:
        part.new = bytes(skip - len(EXIF_HEADER)) + part.new[skip - len(EXIF_HEADER) :]


def _carries(segment: Loaded) -> bool:
    return segment.code == APP13 and segment.old.startswith(PHOTOSHOP_HEADER)


def _clean_photoshop(loaded: Sequence[Loaded], inner: Inner) -> None:
    """Clean image resources. The resources of neighbouring segments are one block."""
    skip = len(PHOTOSHOP_HEADER)
    for is_photoshop, group in groupby(loaded, _carries):
        parts = list(group)
        if not is_photoshop:
            continue
        cleaned = inner.irb(b"".join(part.old[skip:] for part in parts))
        if cleaned is None:
            for part in parts:
                part.drop()
        else:
            _spread(parts, cleaned, skip)


def _clean_profile(parts: Sequence[Loaded], inner: Inner) -> None:
    head = len(ICC_HEADER) + 2
    numbered = {part.old[len(ICC_HEADER)]: part for part in parts if len(part.old) > head}
    total = len(parts)
    ordered = [numbered[n] for n in range(1, total + 1) if n in numbered]
    profile = b"".join(part.old[head:] for part in ordered)
    size = int.from_bytes(profile[:4])
    counted = len(ordered) == total and all(part.old[head - 1] == total for part in ordered)
    if total and counted and profile_stays(profile[:size], inner):
        _spread(ordered, _cut(profile, size, "APP2"), head)
        return
    for part in parts:
        part.drop("ICC profile", broken=True)


def mpf_offsets(segments: Sequence[Segment], loaded: Sequence[Loaded]) -> Iterator[int]:
    """Yield the file offsets of images from multi-picture directories, which must be cleaned already."""
    for segment, content in zip(segments, loaded, strict=True):
        block = MemorySource(content.new[len(MPF_HEADER) :])
        header = read_header(block)
        if segment.code != APP2 or not content.new.startswith(MPF_HEADER) or header is None:
            continue
        for entry in read_entries(block, header.first, header.frame, MAX_ENTRIES):
            if entry.tag != tags.MPF_ENTRIES or entry.type != 7:
                continue
            for at in range(entry.start, min(entry.end, block.size) - 15, 16):
                if offset := header.frame.number(block.read(at + 8, 4)):
                    yield segment.offset + len(MPF_HEADER) + offset
