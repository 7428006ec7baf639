"""WebP files (RFC 9649; WebP Container Specification): chunks of a RIFF.

Pictures stay. EXIF and XMP are cleaned in place. Every other chunk becomes a chunk of zeros, which decoders
skip. The flags of the header are changed to match the remaining chunks. Bytes behind the RIFF become zeros,
except filler (core/filler.py).
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.cleaners import Cleaned, Found, Inner, NotThisKindError, shifted
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import ByteSource, skip_zeros
from policyfs.redact.riff.chunks import HEAD_BYTES, JUNK, Chunk, Doubts, chunks, drop, pad

_HEADER_BYTES: Final = 12
_PICTURES: Final = (b"VP8 ", b"VP8L", b"ALPH")
_FRAME: Final = b"ANMF"
_FRAME_HEAD_BYTES: Final = 16
_RESOURCES: Final = b"PSAI"
"""Chunk of Photoshop's resources, of which no flag tells."""
_FLAGS: Final = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04, _RESOURCES: 0}
_KNOWN_FLAGS: Final = 0x3E
_EXIF_PREAMBLE: Final = b"Exif\0\0"
_LATER: Final = re.compile(
    rb"EXIF....(?:Exif\0\0)?(?:II\*|MM\0\*)|XMP ....\xef?\xbb?\xbf?(?:\s{0,4}<[?xr]|\s{5})"
    rb"|ICCP....[\0-\x7f]...(?:lcms|appl|ADBE|Lino)",
    re.DOTALL,
)
"""Starts of metadata, searched in picture data. None may end with a zero, as redaction writes."""
_LONGEST_MATCH: Final = 24


def locate_webp(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a WebP. Raises NotThisKindError, TooMuchError."""
    head = source.read(0, _HEADER_BYTES)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise NotThisKindError("it does not start like a WebP")
    return _Locator(Edits(source, inner, "WebP")).locate(int.from_bytes(head[4:8], "little") + 8)


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.inner = edits.inner
        self.pictures = 0
        self.doubts = Doubts()
        self.dropped: set[bytes] = set()
        self.kept: set[bytes] = set()

    def locate(self, end: int) -> Found:
        end = min(end, self.source.size)
        at, header = _HEADER_BYTES, None
        for chunk in chunks(self.source, self.inner, _HEADER_BYTES, end, doubts=self.doubts):
            if chunk.name == b"VP8X" and at == _HEADER_BYTES and chunk.size == 10:
                header = chunk
            else:
                self._chunk(chunk)
            at = chunk.next
        if not self.pictures:
            raise NotThisKindError("there is no picture in it")
        if header is not None:
            self._header(header)
        self._rest(at, end, "trailer")
        self.edits.trailer(end, self.source.size, broken=at < end)
        self.doubts.check(self.edits)
        return self.edits.found

    def _chunk(self, chunk: Chunk) -> None:
        name = chunk.name
        if name in _PICTURES:
            self._picture(chunk)
        elif name == _FRAME and chunk.size >= _FRAME_HEAD_BYTES:
            self._frame(chunk)
        elif name == b"ANIM" and chunk.size == 6:
            pad(self.edits, chunk)
        elif name in _FLAGS and chunk.size <= MAX_BLOCK_BYTES:
            data = self.source.read(chunk.start, chunk.size)
            cleaned = self._cleaned(name, data) if chunk.whole else None
            if cleaned is None:
                self.dropped.add(name)
                drop(self.edits, chunk, broken=name == b"EXIF")
            else:
                self.kept.add(name)
                self.edits.block(chunk.start, data, cleaned)
                pad(self.edits, chunk)
        else:
            drop(self.edits, chunk)

    def _picture(self, chunk: Chunk) -> None:
        """Keep compressed picture data, up to where a chunk of metadata seems to start in it."""
        self.pictures += chunk.name != b"ALPH"
        found = self.edits.search(_LATER, chunk.start, chunk.end, _LONGEST_MATCH)
        if found is not None:
            self.edits.zero(found, chunk.end, "hidden in the picture's length", broken=True)
        pad(self.edits, chunk)

    def _frame(self, chunk: Chunk) -> None:
        at = chunk.start + _FRAME_HEAD_BYTES
        for part in chunks(self.source, self.inner, at, chunk.end, doubts=self.doubts):
            if part.name in _PICTURES:
                self._picture(part)
            else:
                drop(self.edits, part)
            at = part.next
        self._rest(at, chunk.end, "behind a frame")
        pad(self.edits, chunk)

    def _rest(self, start: int, end: int, tag: str) -> None:
        r"""Turn bytes of no chunk into one padding chunk. (libwebp refuses zeros; ImageMagick 6 writes
        "XMP\0".)
        """
        length = end - start - HEAD_BYTES
        if length >= 0 and skip_zeros(self.source, start) < end:
            self.doubts.chunk(start)
            head = self.source.read(start, HEAD_BYTES)
            if self.edits.put(start, head, JUNK + length.to_bytes(4, "little")):
                self.edits.note(start, HEAD_BYTES, tag, broken=True)
            start += HEAD_BYTES
        self.edits.zero(start, end, tag, broken=True)

    def _cleaned(self, name: bytes, data: bytes) -> Cleaned | None:
        if name == b"XMP ":
            return self.inner.xmp(data)
        if name == _RESOURCES:
            return self.inner.irb(data)
        if name == b"ICCP":
            return Cleaned(data) if profile_stays(data, self.inner) else None
        skip = len(_EXIF_PREAMBLE) if data.startswith(_EXIF_PREAMBLE) else 0
        cleaned = self.inner.tiff(data[skip:])
        return cleaned and Cleaned(data[:skip] + cleaned.data, shifted(cleaned.notes, skip))

    def _header(self, chunk: Chunk) -> None:
        old = self.source.read(chunk.start, 4)
        flags = old[0] & _KNOWN_FLAGS
        for name in self.dropped - self.kept:
            flags &= ~_FLAGS[name]
        self.edits.put(chunk.start, old, bytes([flags, 0, 0, 0]))
