"""PNG and APNG files (W3C PNG third edition, with the extensions of Apple, libpng and ImageMagick).

The file is a row of chunks. Chunks that the picture needs stay if they have the shape that the standard
prescribes. Texts (png_text.py), EXIF and times are examined. Every other chunk becomes a private chunk of
zeros with a valid checksum, which decoders skip. Compressed picture data is read only if its chunk is cut
off. Bytes behind the last chunk become zeros, except filler (core/filler.py). They may be the rest of an
older, larger picture, an archive or a video.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.bounded_inflate import inflated
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, NotThisKindError
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, skip_zeros
from policyfs.redact.core.tag_names import told
from policyfs.redact.images.png_text import clean_text

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
NEUTRAL: Final = b"zeRo"
"""Chunk type that every decoder skips. The case of its letters means: ancillary, private, safe to copy."""

FIXED: Final = MappingProxyType(
    {
        b"IHDR": (13, 13, 1),
        b"PLTE": (3, 768, 3),
        b"IEND": (0, 0, 1),
        b"CgBI": (4, 4, 1),
        b"acTL": (8, 8, 1),
        b"fcTL": (26, 26, 1),
        b"tRNS": (1, 256, 1),
        b"cHRM": (32, 32, 1),
        b"gAMA": (4, 4, 1),
        b"sBIT": (1, 4, 1),
        b"sRGB": (1, 1, 1),
        b"cICP": (4, 4, 1),
        b"mDCV": (24, 24, 1),
        b"cLLI": (8, 8, 1),
        b"mDCv": (24, 24, 1),
        b"cLLi": (8, 8, 1),
        b"bKGD": (1, 6, 1),
        b"hIST": (2, 512, 2),
        b"pHYs": (9, 9, 1),
        b"sTER": (1, 1, 1),
        b"orNT": (1, 1, 1),
        b"iDOT": (28, 28, 1),
        b"gIFg": (4, 4, 1),
    }
)
"""Chunk that helps to show the picture -> minimum, maximum and step of its length in bytes."""

_COLOURS: Final = frozenset({b"PLTE", b"tRNS", b"hIST", b"bKGD"})
TOLD: Final = MappingProxyType(
    {
        b"tIME": (7, Tells.TIME),
        b"oFFs": (9, Tells.OTHER),
        b"vpAg": (9, Tells.OTHER),
        b"caNv": (16, Tells.OTHER),
    }
)
"""Chunk of numbers -> its length in bytes and the categories of its data."""

_TEXTS: Final = (b"tEXt", b"zTXt", b"iTXt")
_EXIF: Final = (b"eXIf", b"exIf", b"EXIF")
_TYPE: Final = re.compile(rb"[A-Za-z]{4}")
_LATER: Final = re.compile(rb"[\0-\x7f]...(?:tEXt|zTXt|iTXt|eXIf|zxIf|caBX|tIME|IEND|iCCP)", re.DOTALL)
_HEAD_BYTES: Final = 8
_CHECK_BYTES: Final = 4
_READ_BYTES: Final = 1 << 12
_WORK: Final = 4
"""The cost of a chunk in the file's budget, in parts, for its examination and its replacement."""
_EXIF_PREAMBLE: Final = b"Exif\0\0"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: offset of its length field, type, offset and length of its data (bytes).

    whole: True if the chunk ends, with its checksum, within the file.
    """

    at: int
    type: bytes
    size: int
    whole: bool

    @property
    def start(self) -> int:
        """The offset of the chunk's data."""
        return self.at + _HEAD_BYTES

    @property
    def end(self) -> int:
        """The offset behind the chunk's checksum."""
        return self.start + self.size + _CHECK_BYTES


def locate_png(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a PNG or APNG.

    Raises NotThisKindError if there is no picture (MNG and JNG have other signatures), TooMuchError.
    """
    if source.read(0, len(SIGNATURE)) != SIGNATURE:
        raise NotThisKindError("it does not start like a PNG")
    return _Locator(Edits(source, inner, "PNG")).locate()


def walk(source: ByteSource, inner: Inner) -> Iterator[Chunk]:
    """Yield the chunks up to IEND, or up to bytes that are not a chunk. The last chunk may be cut off."""
    at, window, base = len(SIGNATURE), b"", 0
    while at + _HEAD_BYTES <= source.size:
        if not base <= at <= base + len(window) - _HEAD_BYTES:
            base, window = at, source.read(at, _READ_BYTES)
        head = window[at - base : at - base + _HEAD_BYTES]
        size = int.from_bytes(head[:4])
        if _TYPE.fullmatch(head[4:]) is None or size > 0x7FFFFFFF:
            return
        inner.budget.part()
        chunk = Chunk(at, head[4:], size, at + size + 12 <= source.size)
        yield chunk
        if chunk.type == b"IEND" or not chunk.whole:
            return
        at = chunk.end


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.inner = edits.inner
        self.hide = edits.inner.hide
        self.seen: set[bytes] = set()

    def locate(self) -> Found:
        at = len(SIGNATURE)
        for chunk in walk(self.source, self.inner):
            if chunk.at == len(SIGNATURE) and not (chunk.type in (b"IHDR", b"CgBI") and _has_shape(chunk)):
                raise NotThisKindError("it has no header")
            at = chunk.end
            if not chunk.whole:
                at = self._cut_off(chunk)
                break
            self._chunk(chunk)
        if not {b"IHDR", b"IDAT"} <= self.seen:
            raise NotThisKindError("there is no picture in it")
        behind = skip_zeros(self.source, min(at, self.source.size))
        if behind < self.source.size:
            self.edits.trailer(behind, self.source.size, broken=b"IEND" not in self.seen)
        return self.edits.found

    def _cut_off(self, chunk: Chunk) -> int:
        """Return the offset up to which a cut-off chunk stays: picture data, up to the first other chunk."""
        if not self._is_picture(chunk):
            return chunk.at
        self.seen.add(chunk.type)
        found = self.edits.search(_LATER, chunk.start, self.source.size, 8)
        return self.source.size if found is None else found

    def _is_picture(self, chunk: Chunk) -> bool:
        return chunk.type == b"IDAT" or (chunk.type == b"fdAT" and b"acTL" in self.seen)

    def _chunk(self, chunk: Chunk) -> None:
        kind = chunk.type
        if kind == NEUTRAL:
            self._neutral(chunk)
        elif self._is_picture(chunk):
            self.seen.add(kind)
        elif kind in FIXED:
            once = kind not in (b"fcTL", b"PLTE") and kind in self.seen
            if once or not _has_shape(chunk) or self._holds_more(chunk):
                self._neutral(chunk)
            elif kind == b"iDOT" and self.hide & Tells.DEVICE:
                self._neutral(chunk, Tells.DEVICE)
            else:  # only kept chunks count as seen: a reader of the result sees no others
                self.seen.add(kind)
        elif kind in TOLD:
            size, tells = TOLD[kind]
            if chunk.size != size:
                self._neutral(chunk)
            elif tells & self.hide or self._holds_more(chunk):
                self._neutral(chunk, tells)
        elif chunk.size > MAX_BLOCK_BYTES:
            self._neutral(chunk)
        else:
            self._metadata(chunk)

    def _holds_more(self, chunk: Chunk) -> bool:
        """Return True if a chunk of numbers holds metadata or a hidden place. (Dark colours look like
        digits.) Raises NotThisKindError for a header or a palette.
        """
        data, asked = self.source.read(chunk.start, chunk.size), self.hide & Tells.LOCATION
        asked = NOTHING if chunk.type in _COLOURS else asked
        held = bool(told_in_kept(data, asked, self.inner.budget, numbers=True))
        if held and chunk.type in (b"IHDR", b"PLTE"):
            raise NotThisKindError("its header or its palette holds metadata")
        return held

    def _metadata(self, chunk: Chunk) -> None:
        self.inner.budget.part(_WORK)
        data = self.source.read(chunk.start, chunk.size)
        if chunk.type in _TEXTS:
            tells, cleaned = clean_text(chunk.type, data, self.inner)
            if cleaned is None:
                self._neutral(chunk, tells)
            else:
                self._replace(chunk, data, cleaned)
        elif chunk.type in _EXIF:
            self._exif(chunk, data)
        elif not self._stays(chunk.type, data):
            self._neutral(chunk)

    def _exif(self, chunk: Chunk, data: bytes) -> None:
        skip = len(_EXIF_PREAMBLE) if data.startswith(_EXIF_PREAMBLE) else 0
        cleaned = self.inner.tiff(data[skip:])
        if cleaned is None:
            self._neutral(chunk, broken=True)
            return
        notes = tuple(note._replace(offset=note.offset + skip) for note in cleaned.notes)
        self._replace(chunk, data, Cleaned(data[:skip] + cleaned.data, notes))

    def _stays(self, kind: bytes, data: bytes) -> bool:
        name, _, rest = data.partition(b"\0")
        if not 1 <= len(name) <= 79 or told(self.hide, Tells(0), name):
            return False
        if kind == b"sPLT":
            whole = rest[:1] in (b"\x08", b"\x10") and (len(rest) - 1) % (6 if rest[0] == 8 else 10) == 0
            return whole and not told_in_kept(rest, self.hide & Tells.LOCATION, self.inner.budget)
        if kind != b"iCCP" or rest[:1] != b"\0":
            return False
        profile = inflated(rest[1:], self.inner.budget)
        return profile is not None and not profile[1] and profile_stays(profile[0], self.inner)

    def _replace(self, chunk: Chunk, data: bytes, cleaned: Cleaned) -> None:
        if cleaned.data == data:
            return
        self.edits.block(chunk.start, data, cleaned)
        old = self.source.read(chunk.end - _CHECK_BYTES, _CHECK_BYTES)
        self.edits.put(chunk.end - _CHECK_BYTES, old, zlib.crc32(chunk.type + cleaned.data).to_bytes(4))

    def _neutral(self, chunk: Chunk, tells: Tells = UNKNOWN, *, broken: bool = False) -> None:
        self.inner.budget.part(_WORK)
        check = zlib.crc32(NEUTRAL)
        for at in range(0, chunk.size, CHUNK_BYTES):
            check = zlib.crc32(bytes(min(CHUNK_BYTES, chunk.size - at)), check)
        before = len(self.edits.found.patches)
        self.edits.put(chunk.at + 4, chunk.type, NEUTRAL)
        self.edits.zero(
            chunk.start, chunk.start + chunk.size, chunk.type.decode("ascii"), tells, broken=broken
        )
        old = self.source.read(chunk.end - _CHECK_BYTES, _CHECK_BYTES)
        self.edits.put(chunk.end - _CHECK_BYTES, old, check.to_bytes(4))
        notes = self.edits.found.notes
        if len(self.edits.found.patches) > before and not (notes and notes[-1].offset == chunk.start):
            self.edits.note(chunk.at, chunk.size + 12, chunk.type.decode("ascii"), tells, broken=broken)


def _has_shape(chunk: Chunk) -> bool:
    least, most, step = FIXED[chunk.type]
    return least <= chunk.size <= most and chunk.size % step == 0
