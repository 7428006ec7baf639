"""JPEG XL files: a bare codestream, or boxes with a codestream, Exif and XMP (ISO/IEC 18181-2).

A codestream stays: it has no room for metadata, except the names of frames, and only a decoder could find
these names. Boxes that are compressed with Brotli cannot be examined, so they are removed.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.kinds import Part
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource
from policyfs.redact.exif.containers import clean_exif_block, clean_xmp_block
from policyfs.redact.isobmff.box_file import BoxFile
from policyfs.redact.isobmff.boxes import Box

CODESTREAM: Final = b"\xff\x0a"
SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_NAME: Final = "JPEG XL"
_KEPT: Final = MappingProxyType({b"jxll": 1, b"jxli": 1 << 20})
"""A dictionary from the type of a box of numbers to its maximum size in bytes. A larger box is removed."""
_FOREIGN: Final = re.compile(
    rb"Exif\0\0(?:II\*\0|MM\0\*)|<x:xmpmeta|<\?xpacket|<rdf:RDF|http://ns\.adobe\.com|ftyp(?:isom|mp4\d|qt  )"
    rb"|\xff\xd8\xff[\xe0\xe1]..(?:JFIF|Exif)\0|PK\x03\x04.\x00|SEFH|MotionPhoto_Data",
    re.DOTALL,
)
"""Starts of data that common programs append to pictures; too long to be in a codestream by chance."""
_OVERLAP: Final = 32
_FREED_PARTS: Final = 4
"""The cost of a box that becomes free space, in the file's budget, in parts. An honest file has few such
boxes.
"""

PARTS: Final[tuple[Part, ...]] = (
    Part("JPEG XL", "codestream (jxlc, jxlp, bare)", "the picture", NOTHING, "stays"),
    Part(
        "JPEG XL",
        "behind a bare codestream",
        "EXIF, XMP, a video or an archive",
        UNKNOWN,
        "zeros, if its first bytes show its kind",
    ),
    Part("JPEG XL", "Exif", "a TIFF structure with EXIF tags", UNKNOWN, "cleaned as in a JPEG"),
    Part("JPEG XL", "xml ", "XMP", UNKNOWN, "cleaned as in a JPEG; other XML becomes an empty packet"),
    Part("JPEG XL", "brob", "any box, compressed with Brotli", UNKNOWN, "free space that holds zeros"),
    Part(
        "JPEG XL",
        "jbrd",
        "the rest of the JPEG that this picture was made from: comments, any segment, bytes behind it",
        UNKNOWN,
        "free space; the picture is the same, but the JPEG cannot be rebuilt",
    ),
    Part(
        "JPEG XL",
        "jumb, jhgm, any other box, bytes between boxes",
        "anything",
        UNKNOWN,
        "free space that holds zeros",
    ),
)


def locate_jxl(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a JPEG XL file; return the changes that hide it.

    Raises NotThisKindError, TooMuchError.
    """
    head = source.read(0, len(SIGNATURE))
    if head == SIGNATURE:
        return _JxlFile(source, inner).locate()
    if head.startswith(CODESTREAM):
        return _bare(source, inner)
    raise NotThisKindError("it does not start like a JPEG XL file")


def _bare(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a bare codestream."""
    return _foreign(source, 0, source.size, inner)


def _foreign(source: ByteSource, start: int, end: int, inner: Inner) -> Found:
    """Locate appended data of known forms, and return the changes that zero it. Appended data of other forms
    looks like the codestream, and stays.
    """
    found, at = Found(), start
    while at < end:
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        foreign = _FOREIGN.search(chunk) if inner.budget.search_chunk(chunk) else None
        if foreign is not None:
            behind = _with_zeros(source, start, at + foreign.start())
            found.patches.append(Patch(behind, zeros=end - behind))
            found.notes.append(Note(behind, end - behind, _NAME, "behind the picture"))
            break
        at += len(chunk) if at + len(chunk) >= end else len(chunk) - _OVERLAP
    return found


def _with_zeros(source: ByteSource, start: int, behind: int) -> int:
    """Return the offset at which appended data starts for a reader of the redacted file.

    In that file the bytes from *behind* on are zeros. A pattern for such data may end in zeros. So the new
    zeros may complete a match that starts before *behind*.
    """
    while True:
        first = max(start, behind - _OVERLAP)
        foreign = _FOREIGN.search(source.read(first, behind - first) + bytes(_OVERLAP))
        if foreign is None:
            return behind
        behind = first + foreign.start()


class _JxlFile(BoxFile):
    """The search for the parts to hide in one JPEG XL file of boxes."""

    name = _NAME
    start = len(SIGNATURE)
    ftyp_bytes = 72
    media = frozenset()
    spare = b"skip"

    def __init__(self, source: ByteSource, inner: Inner) -> None:
        super().__init__(source, inner)
        self._pieces = 0
        self._whole = False

    def has_picture(self) -> bool:
        return self._pieces > 0

    def box(self, box: Box) -> bool:
        if box.kind in (b"jxlc", b"jxlp"):
            known = self._goes_on(box)
            if known:
                self.found.add(_foreign(self.source, box.body, box.end, self.inner))
            return known
        if box.kind == b"Exif":
            return self.block(box, lambda data, inner: clean_exif_block(data, inner, "EXIF"))
        if box.kind == b"xml ":
            return self.block(box, clean_xmp_block)
        asked = self.inner.hide & Tells.LOCATION
        small = box.end - box.body <= _KEPT.get(box.kind, -1)
        return small and not told_in_range(self.source, box.body, box.end, asked, self.inner.budget)

    def free(self, box: Box) -> None:
        self.inner.budget.part(_FREED_PARTS)
        super().free(box)

    def _goes_on(self, box: Box) -> bool:
        """Return True if a box holds the codestream or the next piece of it (18181-2 section 9.7 and 9.8)."""
        head = self.source.read(box.body, min(6, box.end - box.body))
        number, data = (0, head) if box.kind == b"jxlc" else (int.from_bytes(head[:4]), head[4:])
        known = number & 0x7FFFFFFF == self._pieces and (self._pieces or data.startswith(CODESTREAM))
        if not known or self._whole:
            return False
        self._pieces += 1
        self._whole = box.kind == b"jxlc" or number >> 31 == 1
        return True
