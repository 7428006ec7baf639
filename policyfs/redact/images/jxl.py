"""JPEG XL files: a bare codestream, or boxes with a codestream, Exif and XMP (ISO/IEC 18181-2).

A codestream stays: it has no room for metadata, except the names of frames, and only a decoder could find
these names. Boxes that are compressed with Brotli cannot be examined, so they are removed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.appended import find_appended
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.exif.containers import clean_exif_block, clean_xmp_block
from policyfs.redact.isobmff.box_file import BoxFile
from policyfs.redact.isobmff.boxes import Box

CODESTREAM: Final = b"\xff\x0a"
SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_NAME: Final = "JPEG XL"
_KEPT: Final = MappingProxyType({b"jxll": 1, b"jxli": 1 << 20})
"""A dictionary from the type of a box of numbers to its maximum size in bytes. A larger box is removed."""
_FREED_PARTS: Final = 4
"""Cost of a box that becomes free space, in parts. An honest file has few such boxes."""


def locate_jxl(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a JPEG XL file; return the changes that hide it.

    Raises NotThisKindError, TooMuchError.
    """
    head = source.read(0, len(SIGNATURE))
    if head == SIGNATURE:
        return _JxlFile(source, inner).locate()
    if head.startswith(CODESTREAM):
        return _foreign(source, 0, source.size, inner)
    raise NotThisKindError("it does not start like a JPEG XL file")


def _foreign(source: ByteSource, start: int, end: int, inner: Inner) -> Found:
    """Locate appended data of known forms; any other looks like the codestream, and stays."""
    found, behind = Found(), find_appended(source, start, end, inner.budget)
    if behind is not None:
        found.patches.append(Patch(behind, zeros=end - behind))
        found.notes.append(Note(behind, end - behind, _NAME, "behind the picture"))
    return found


class _JxlFile(BoxFile):
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
            return self.block(box, clean_exif_block)
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
