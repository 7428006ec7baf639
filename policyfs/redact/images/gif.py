"""GIF files (GIF89a specification, 31 July 1990; XMP specification part 3, 1.1.2).

Pictures stay, with the extensions that are needed to show them (graphic control, loops, colour profile). A
comment stays or is removed like any other text. XMP is cleaned. Any other extension becomes an empty comment
of the same length. Bytes behind the trailer become zeros, except filler (core/filler.py).
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import ByteSource, skip_zeros
from policyfs.redact.core.tag_names import is_blank, told_by_named

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_PROFILE: Final = b"ICCRGBG1012"
_GAMMA: Final = re.compile(rb"\x0bImageMagick[\x07-\x0e]gamma=[0-9](?:\.[0-9]{1,6})?\0")
"""Pattern of the extension of ImageMagick: the gamma of the picture, in six digits (coders/gif.c)."""
_XMP: Final = b"XMP DataXMP"
_XMP_END: Final = bytes([1, *range(255, -1, -1), 0])
"""Bytes behind an XMP packet: a reader that takes any byte for a length arrives at their end."""
_LEAST_BYTES: Final = 3
"""Minimum size of an extension: its mark, its label, and the zero that ends it."""
_READ_BYTES: Final = 1 << 16


def locate_gif(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a GIF. Raises NotThisKindError, TooMuchError."""
    if source.read(0, 6) not in (b"GIF87a", b"GIF89a"):
        raise NotThisKindError("it does not start like a GIF")
    return _Locator(Edits(source, inner, "GIF")).locate()


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.inner = edits.inner
        self.base, self.window = 0, b""
        self.images = 0

    def locate(self) -> Found:
        at = self._colours(13, self._byte(10))
        ended = False
        while at < self.source.size and not ended:
            self.inner.budget.part()
            mark = self._byte(at)
            if mark == _IMAGE:
                at = self._image(at)
            elif mark == _EXTENSION:
                following = self._extension(at)
                if following is None:
                    break
                at = following
            elif mark == 0:
                following = skip_zeros(self.source, at)
                self.inner.budget.search(following - at)
                at = following
            else:
                ended = mark == _TRAILER
                at += ended
                break
        if not self.images:
            raise NotThisKindError("there is no picture in it")
        self.edits.trailer(at, self.source.size, broken=not ended)
        return self.edits.found

    def _byte(self, at: int) -> int:
        """Return the byte at an offset; 0 behind the file's end, because a 0 ends every row of sub-blocks."""
        index = at - self.base
        if not 0 <= index < len(self.window):
            self.base, self.window, index = at, self.source.read(at, _READ_BYTES), 0
        return self.window[index] if self.window else 0

    def _colours(self, at: int, flags: int) -> int:
        """Return the offset behind the colour table, if any. Raises NotThisKindError if it holds metadata."""
        size = 3 * (2 << (flags & 7)) if flags & 0x80 else 0
        if holds_metadata(self.source.read(at, size), numbers=True):
            raise NotThisKindError("a table of colours holds metadata")
        return at + size

    def _blocks(self, at: int) -> int:
        while (size := self._byte(at)) != 0:
            at += size + 1
        return min(at + 1, self.source.size)

    def _image(self, at: int) -> int:
        self.images += 1
        return self._blocks(self._colours(at + 10, self._byte(at + 9)) + 1)

    def _extension(self, at: int) -> int | None:
        self.inner.budget.part(4)
        label, first = self._byte(at + 1), self._byte(at + 2)
        if label == _APPLICATION and first == 11 and self.source.read(at + 3, 11) == _XMP:
            return self._xmp(at)
        end = self._blocks(at + 2)
        if end < at + _LEAST_BYTES or self._byte(end - 1) != 0 or end - at > MAX_BLOCK_BYTES:
            return None
        block = self.source.read(at, end - at)
        if label == _COMMENT:
            self._comment(at, block)
        elif label == _GRAPHIC_CONTROL and first == 4 and len(block) == 8:
            pass
        elif label == _APPLICATION and _GAMMA.fullmatch(block, 2):
            if self.inner.hide & (Tells.DEVICE | Tells.OTHER):
                self._neutral(at, block, "gamma", Tells.DEVICE | Tells.OTHER)
        elif label != _APPLICATION or first != 11 or not self._stays(block):
            self._neutral(at, block, "extension")
        return end

    def _stays(self, block: bytes) -> bool:
        name, data = block[3:14], block[14:]
        if name in _LOOPS:
            at, sizes = 0, {1: 3, 2: 5}
            while at + 1 < len(data) and data[at] and sizes.get(data[at + 1]) == data[at]:
                at += data[at] + 1
            return at == len(data) - 1
        return name == _PROFILE and profile_stays(_joined(data), self.inner)

    def _comment(self, at: int, block: bytes) -> None:
        text = _joined(block[2:])
        if not is_blank(text) and (
            tells := told_by_named(self.inner.hide, "comment", text, self.inner.budget)
        ):
            self._neutral(at, block, "comment", tells)

    def _xmp(self, at: int) -> int | None:
        """Clean an XMP packet; return the offset of the next block; None if it is cut off or too long.
        Decoders take its bytes for sub-blocks: if they do not arrive at the end of _XMP_END, the extension
        goes.
        """
        start = at + 14
        end = self._blocks(start)
        if self._byte(end - 1) != 0 or end - at > MAX_BLOCK_BYTES:
            return None
        block = self.source.read(at, end - at)
        packet = block[start - at : -len(_XMP_END)]
        cleaned = self.inner.xmp(packet) if block.endswith(_XMP_END) else None
        if cleaned is None or 0 in cleaned.data:
            self._neutral(at, block, "XMP", broken=True)
        else:
            self.edits.block(start, packet, cleaned)
        return end

    def _neutral(
        self, at: int, block: bytes, tag: str, tells: Tells = UNKNOWN, *, broken: bool = False
    ) -> None:
        if self.edits.put(at, block, blank_comment(len(block))):
            self.edits.note(at, len(block), tag, tells, broken=broken)


def blank_comment(size: int) -> bytes:
    """Return a comment extension of size bytes (3, or at least 5) that holds only blanks."""
    out = bytearray([_EXTENSION, _COMMENT])
    left = size - 3
    while left:
        part = left - 1 if left <= 256 else min(255, left - 3)
        out += bytes([part]) + b" " * part
        left -= part + 1
    return bytes(out) + b"\0"


def _joined(data: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(data) and data[at]:
        out += data[at + 1 : at + 1 + data[at]]
        at += data[at] + 1
    return bytes(out)
