"""WAV files (RIFF), RF64 and BW64 (EBU Tech 3285, 3306; ITU-R BS.2088).

The sound and the chunks needed to play it stay. Texts in lists, XMP and ID3 are cleaned. The fixed fields of
a broadcast extension become zeros if they hold data to hide. Every other chunk becomes padding.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.core.tag_names import told
from policyfs.redact.riff.chunks import (
    LIKELY_NAME,
    METADATA_NAME,
    Chunk,
    Doubts,
    chunks,
    drop,
    holds_more,
    pad,
    printable,
)
from policyfs.redact.riff.info_list import clean_shared
from policyfs.redact.riff.sound import FILES, clean_sound
from policyfs.redact.tags.sound_streams import PLAIN, TAG_START

_MARKS: Final = (b"RIFF", b"RF64", b"BW64")
_HEADER_BYTES: Final = 12
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_D, _T, _P = Tells.DEVICE, Tells.TIME, Tells.PEOPLE
PLAIN_CHUNKS: Final = MappingProxyType(
    {
        b"fmt ": (40, 0, 0, 0),
        b"fact": (12, 0, 0, 0),
        b"ds64": (28, 24, 12, 65_536),
        b"cue ": (4, 0, 24, 65_536),
        b"plst": (4, 0, 12, 65_536),
        b"smpl": (36, 28, 24, 1024),
        b"inst": (7, 0, 0, 0),
    }
)
"""Chunk of numbers that play the sound -> size of its fixed part, offset of the number of entries in it, size
of an entry, maximum number of entries. Bytes behind become zeros.
"""
BEXT: Final = (
    (0, 256, _P, "Description"),
    (256, 288, _D | _P, "Originator"),
    (288, 320, _D | _T | _P, "OriginatorReference"),
    (320, 338, _T, "OriginationDate"),
    (338, 346, _T, "TimeReference"),
    (348, 380, _D | _T, "UMID"),
    (380, 412, _D | _T | Tells.LOCATION, "UMID's source pack"),
)
"""Fields of a broadcast extension. Half of a UMID is time, place and author (SMPTE ST 330)."""
_EXTENSIBLE: Final = 0xFFFE
_SIMPLE: Final = (0x0001, 0x0003, 0x0006, 0x0007, _EXTENSIBLE)
"""Formats with samples that need no settings: PCM, floats, A-law, mu-law, and the extensible format."""
_PACKED_BYTES: Final = 4096
_FORMAT_BYTES: Final = 16
_SUBFORMAT_END: Final = 26
_SAMPLER_BYTES: Final = 8
_MAX_FIELD_BYTES: Final = 1 << 20
_BEXT_BYTES: Final = 602
_LATER: Final = re.compile(
    rb"LIST....(?:INF[O0]|adtl|exif)|(?:bext|iXML|axml|_PMX|id3 |ID3 |cart|JUNK)...[\0-\x08]|JUNK....\0{4}"
    rb"|(?:IDIT|ISMP|guan|XMP[_ ]|[Ii][Dd]32|DISP|LGWV|aXML|olym|EXIF|exif|C2PA|CSET)...\0",
    re.DOTALL,
)
"""Start of a chunk behind sound of unknown length; also of removed ones (JUNK), for the next redaction."""
_STARTS: Final = re.compile(TAG_START.pattern + b"|" + _LATER.pattern, re.DOTALL)


def locate_wav(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a WAV. Raises NotThisKindError, TooMuchError."""
    head = source.read(0, _HEADER_BYTES)
    if head[:4] not in _MARKS or head[8:] != b"WAVE":
        raise NotThisKindError("it does not start like a WAV")
    return _Locator(Edits(source, inner, "WAV")).locate()


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.hide = edits.inner.hide
        self.sounds: list[tuple[int, int]] = []
        self.codes: set[int] = set()
        self.long_size = 0
        self.doubts = Doubts()

    def locate(self) -> Found:
        """Locate everything to hide in all chunks. The size of the RIFF does not count: it may be zero."""
        at = _HEADER_BYTES
        while at < self.source.size:
            found = chunks(self.source, self.edits.inner, at, self.source.size, doubts=self.doubts)
            chunk = next(found, None)
            if chunk is None:
                break
            at = self._chunk(chunk)
        if not self.sounds:
            raise NotThisKindError("there is no sound in it")
        for code in sorted(self.codes - PLAIN)[:1]:
            for sound in self.sounds:
                clean_sound(self.edits, FILES.get(code, ""), *sound, starts=_STARTS)
        self.edits.trailer(at, self.source.size)
        self.doubts.check(self.edits)
        return self.edits.found

    def _chunk(self, chunk: Chunk) -> int:
        if chunk.name == b"data":
            return self._data(chunk)
        if chunk.name == b"ds64" and chunk.size >= 24:
            self.long_size = int.from_bytes(self.source.read(chunk.start + 8, 8), "little")
        if not chunk.whole:
            drop(self.edits, chunk, broken=True)
        elif chunk.name in PLAIN_CHUNKS:
            self._numbers(chunk)
        elif chunk.name == b"PEAK" and self._are_peaks(chunk):
            self._field(chunk, 4, 8, Tells.TIME, "timestamp")
        elif chunk.name == b"bext" and chunk.size >= _BEXT_BYTES:
            self._bext(chunk)
        elif not clean_shared(self.edits, chunk):
            drop(self.edits, chunk)
        return chunk.next

    def _are_peaks(self, chunk: Chunk) -> bool:
        """Return True if a ``PEAK`` chunk holds numbers only: a head, and the peak of each channel."""
        whole = chunk.size % 8 == 0 and 8 <= chunk.size <= 8 + 8 * 256
        return whole and not holds_more(self.edits, chunk.start, chunk.end)

    def _numbers(self, chunk: Chunk) -> None:
        fixed, at, entry, most = PLAIN_CHUNKS[chunk.name]
        if chunk.name == b"fmt ":
            fixed = self._format(chunk)
        if entry and chunk.size >= fixed:
            count = int.from_bytes(self.source.read(chunk.start + at, 4), "little")
            fixed += entry * min(count, most)
        fixed = min(fixed, chunk.size)
        settings = chunk.start + (_FORMAT_BYTES if chunk.name == b"fmt " else 0)
        if holds_more(self.edits, settings, chunk.start + fixed):
            fixed = settings - chunk.start
        if chunk.name == b"fmt ":
            self._field(chunk, _FORMAT_BYTES, fixed, NOTHING, "settings of the codec")
        elif chunk.name == b"smpl":
            self._field(chunk, 0, min(_SAMPLER_BYTES, fixed), Tells.DEVICE, "Manufacturer, Product")
        self.edits.zero(chunk.start + fixed, chunk.next, f"behind {printable(chunk.name)}")

    def _format(self, chunk: Chunk) -> int:
        head = self.source.read(chunk.start, min(chunk.size, _SUBFORMAT_END))
        code = int.from_bytes(head[:2], "little")
        extended = code == _EXTENSIBLE and len(head) == _SUBFORMAT_END
        self.codes.add(int.from_bytes(head[-2:], "little") if extended else code)
        return PLAIN_CHUNKS[chunk.name][0] if code in _SIMPLE else _PACKED_BYTES  # a codec's own settings

    def _data(self, chunk: Chunk) -> int:
        behind, end = self._behind(chunk)
        self.sounds.append((chunk.start, end))
        return behind

    def _behind(self, chunk: Chunk) -> tuple[int, int]:
        """Return the offsets of the chunk behind the sound, and of its end. Sound of an unknown size goes on
        to what _LATER matches; Doubts.check() covers readers that believe a size of zero.
        """
        stated = int.from_bytes(self.source.read(chunk.at + 4, 4), "little")
        if stated == _UNKNOWN_SIZE and chunk.start < chunk.start + self.long_size <= self.source.size:
            end = chunk.start + self.long_size
            return min(end + (end & 1), self.source.size), end
        following = self.source.read(chunk.next, 4)
        open_ended = stated == 0 and following and LIKELY_NAME.fullmatch(following) is None
        if not open_ended and chunk.whole:
            pad(self.edits, chunk)
            return chunk.next, chunk.end
        if open_ended:
            self.doubts.places.append((chunk.start, METADATA_NAME))
        found = self.edits.search(_LATER, chunk.start, self.source.size, 16)
        end = self.source.size if found is None else found
        return end, end

    def _bext(self, chunk: Chunk) -> None:
        for start, end, tells, tag in BEXT:
            self._field(chunk, start, end, tells, tag)
        self.edits.zero(chunk.start + 422, chunk.start + _BEXT_BYTES, "reserved")
        self._field(chunk, _BEXT_BYTES, chunk.size, Tells.DEVICE, "CodingHistory")
        pad(self.edits, chunk)

    def _field(self, chunk: Chunk, start: int, end: int, tells: Tells, tag: str) -> None:
        text = self.source.read(chunk.start + start, min(end - start, _MAX_FIELD_BYTES + 1))
        if len(text) > _MAX_FIELD_BYTES:
            found = self.hide
        else:
            found = told(self.hide, tells, text, self.edits.inner.budget) if text.strip(b"\0 ") else NOTHING
        if found:
            self.edits.zero(chunk.start + start, chunk.start + end, tag, found)
