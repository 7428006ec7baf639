"""JPEG 2000 files: JP2 and JPX boxes around codestreams, and bare codestreams (ITU-T T.800, T.801).

Metadata is in XML boxes, in UUID boxes (XMP, EXIF, IPTC, GeoTIFF and anything else), in labels and
associations, and in comments of the codestream. A codestream may be in one box or in fragments.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.colour_profiles import is_colour
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import ByteSource, SliceSource
from policyfs.redact.core.reader import Fields
from policyfs.redact.core.tag_names import told
from policyfs.redact.exif.containers import (
    EXIF_MARK,
    clean_tiff_block,
    clean_xmp_block,
)
from policyfs.redact.isobmff.box_file import BoxFile
from policyfs.redact.isobmff.boxes import UUID, Box, read_boxes
from policyfs.redact.isobmff.item_data import Gathered, Span
from policyfs.redact.jpeg2000.codestream import SOC, walk_codestream

SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
MAX_DEPTH: Final = 6
_NAME: Final = "JPEG 2000"

_XMP: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC: Final = frozenset(
    bytes.fromhex(name) for name in ("33c7a4d2b81d4723a0baf1a3e097ad38", "09a14e97c0b442e0bebf36df6f0ce36f")
)
_PHOTOSHOP: Final = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")
_ADOBE: Final = frozenset(
    bytes.fromhex(name)
    for name in (
        "3a0d02180ae94115b3764bca41ce0e71",
        "47c92cccd1a14581b90438bb5467713b",
        "bc45a774dd504ec6a9f6f3a137f47e90",
        "d7c8c5ef951f43b28757042500f538e8",
    )
)
"""Types of boxes with a flag or a small number, which Adobe's JPEG 2000 plug-in writes."""
_ADOBE_BYTES: Final = 4
_EXIF: Final = frozenset({b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e")})

_SUPER: Final = frozenset({b"jp2h", b"jpch", b"jplh", b"res ", b"cgrp", b"ftbl", b"comp", b"asoc"})
"""Types of boxes that contain boxes."""
_NUMBERS: Final = MappingProxyType(
    {
        **dict.fromkeys((b"resc", b"resd"), 10),
        b"ihdr": 14,
        **dict.fromkeys((b"creg", b"copt", b"opct", b"roid", b"rreq", b"drep"), 1024),
        **dict.fromkeys((b"cmap", b"nlst", b"inst"), 4096),
        **dict.fromkeys((b"bpcc", b"cdef", b"pclr"), 1 << 17),
    }
)
"""Box of numbers that show a picture -> its maximum size in bytes."""
_COLOUR_METHODS: Final = frozenset({1, 2, 3, 5})


def locate_jp2(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a JPEG 2000 file; return the changes that hide it.

    Raises NotThisKindError, TooMuchError.
    """
    if source.read(0, len(SIGNATURE)) == SIGNATURE:
        return _Jp2File(source, inner).locate()
    found = walk_codestream(source, inner) if source.read(0, len(SOC)) == SOC else None
    if found is None:
        raise NotThisKindError("it does not start like a JPEG 2000 picture")
    return found


class _Jp2File(BoxFile):
    name = _NAME
    start = len(SIGNATURE)
    ftyp_bytes = 512
    spare = b"skip"
    uuid_stays = True

    def __init__(self, source: ByteSource, inner: Inner) -> None:
        super().__init__(source, inner)
        self._pictures = 0
        self._depth = MAX_DEPTH

    def has_picture(self) -> bool:
        return self._pictures > 0

    def box(self, box: Box) -> bool:
        if box.kind == b"jp2c":
            return self._codestream(box)
        if box.kind in _SUPER and self._depth:
            self._depth -= 1
            self.walk(read_boxes(self.source, box.body, box.end, self.inner.budget), box.end)
            self._depth += 1
            return True
        if box.kind in _NUMBERS:
            return box.end - box.body <= _NUMBERS[box.kind] and not self._holds_more(box)
        return self.block(box, lambda data, inner: self._cleaned(box, data, inner))

    def _holds_more(self, box: Box) -> bool:
        asked = NOTHING if box.kind == b"pclr" else self.inner.hide & Tells.LOCATION
        return bool(told_in_range(self.source, box.body, box.end, asked, self.inner.budget, numbers=True))

    def _codestream(self, box: Box) -> bool:
        inside = walk_codestream(SliceSource(self.source, box.body, box.end - box.body), self.inner)
        if inside is not None:
            self._pictures += 1
            self.found.add(inside, box.body)
        return inside is not None

    def _cleaned(self, box: Box, data: bytes, inner: Inner) -> Cleaned | None:
        if box.kind == b"flst":
            return Cleaned(data) if self._fragments(data) else None
        if box.kind == b"colr":
            return Cleaned(data) if _is_colour(data, inner) else None
        size = len(data)
        inner.budget.search(size)
        if box.kind == b"xml ":
            return clean_xmp_block(data, inner)
        if box.kind == b"lbl ":
            tells = told(inner.hide, Tells.PEOPLE, data) if inner.budget.look(size) else UNKNOWN
            notes = (Note(0, len(data), _NAME, "label", tells),)
            return Cleaned(b" " * len(data), notes) if tells else Cleaned(data)
        if box.kind != UUID:
            return None
        if box.extended == _XMP:
            return clean_xmp_block(data, inner)
        if box.extended in _ADOBE:
            return Cleaned(data) if size <= _ADOBE_BYTES and len(data.lstrip(b"\0")) < 2 else None
        if box.extended in _IPTC:
            return inner.iim(data)
        if box.extended == _PHOTOSHOP:
            return inner.irb(data)
        if box.extended in _EXIF:
            skip = len(EXIF_MARK) if data.startswith(EXIF_MARK) else 0
            cleaned = clean_tiff_block(data[skip:], inner, "EXIF")
            return Cleaned(data[:skip] + cleaned.data, shifted(cleaned.notes, skip))
        return None

    def _fragments(self, data: bytes) -> bool:
        """Claim the pieces of a codestream (T.801 M.11.3.1); False if the list is malformed."""
        fields, spans = Fields(data), []
        try:
            for _ in range(fields.number(2)):
                self.inner.budget.part()
                offset, length, elsewhere = fields.number(8), fields.number(4), fields.number(2)
                if not elsewhere:
                    spans.append(Span(offset, offset + length))
        except ValueError:
            return False
        if fields.at != len(data):
            return False
        pieces = Gathered(self.source, spans)
        inside = walk_codestream(pieces, self.inner)
        if inside is not None:
            self._pictures += 1
            self.ground.claim(pieces, inside, media=True)
        return True


def _is_colour(data: bytes, inner: Inner) -> bool:
    """Return True for the data of ``colr`` (T.800 I.5.3.3): a method, and a number or an ICC profile."""
    if len(data) < 3 or data[0] not in _COLOUR_METHODS:
        return False
    if data[0] in (2, 3):
        return is_colour(b"prof" + data[3:], inner)
    return len(data) <= 64 and not told_in_kept(data, inner.hide & Tells.LOCATION, inner.budget)
