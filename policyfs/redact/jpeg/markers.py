"""Marker structure of a JPEG (ITU-T T.81 Annex B): its segments, and the bytes outside of them.

The walk reads one image by ranges, from SOI (start of image) to EOI (end of image). Readers read broken files
in different ways. For each kind of damage, the walk follows one of these ways. It reports junk: bytes that
must become zero so that all readers follow the same way. Junk is between segments (for example after a wrong
length), in tables of a wrong form, and behind the last segment if no marker follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.patches import ByteSource, Window, is_blank
from policyfs.redact.jpeg._scan import find_marker
from policyfs.redact.jpeg.motion_photo import FTYP_BYTES

FIRST_CHUNK_BYTES: Final = 64
CHUNK_BYTES: Final = 1 << 18
"""Maximum size of a read; a search begins with FIRST_CHUNK_BYTES: only in a scan, markers are far away."""
MAX_FILL_BYTES: Final = 4096
"""Maximum number of fill bytes (0xff) before a marker that stay unchanged."""

SOI: Final = 0xD8
EOI: Final = 0xD9
SOS: Final = 0xDA
COM: Final = 0xFE
APP0: Final = 0xE0
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_RESTARTS: Final = range(0xD0, 0xD8)
"""Markers in a scan that count from 0 to 7, again and again. Decoders go on at the next one after damage."""
_FIRST_IN_SCAN: Final = 0xC0
"""Smallest code that any marker behind the start of a scan has. Smaller codes there are damage."""
_DHT: Final = 0xC4
_DAC: Final = 0xCC
_DQT: Final = 0xDB
_DNL: Final = 0xDC
_DRI: Final = 0xDD
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}
"""Markers of frame headers (SOFn), which have the picture's sizes; one for each way of compression."""
_TABLES: Final = frozenset({_DHT, _DAC, _DQT, _DNL, _DRI})
_METADATA: Final = frozenset({*range(0xE0, 0xF0), COM})
WITH_LENGTH: Final = FRAMES | _TABLES | _METADATA | {SOS}
"""Markers of segments with a length. Any other that does not stand alone ends the picture."""


class Segment(NamedTuple):
    """A metadata segment (APPn, COM): marker code, offset and size of its payload in bytes."""

    code: int
    offset: int
    size: int


@dataclass(slots=True)
class Image:
    """One image of a file, [start, end).

    complete: True if an EOI ends the image. frames, scans: the number of its frame headers and of its scans.
    frame: the marker of the first frame header. scan_from: offset of the data of the first scan. whole: end
    of the last complete segment before any scan. junk: ranges that must become zeros. bad_lengths: offsets of
    length fields that are too small.
    """

    start: int
    end: int = 0
    complete: bool = False
    frames: int = 0
    frame: int = 0
    scans: int = 0
    scan_from: int = 0
    whole: int = 0
    segments: list[Segment] = field(default_factory=list)
    junk: list[tuple[int, int]] = field(default_factory=list)
    bad_lengths: list[int] = field(default_factory=list)

    @property
    def is_picture(self) -> bool:
        """True if the image has the parts that every decoder needs."""
        return self.frames > 0 and self.scans > 0

    def cut(self, end: int) -> None:
        """Remove those parts from the description of the image that end behind the offset *end*."""
        self.segments = [s for s in self.segments if s.offset + s.size <= end]
        self.junk = [(a, b) for a, b in self.junk if b <= end]
        self.bad_lengths = [offset for offset in self.bad_lengths if offset < end]


def is_soi(source: ByteSource, offset: int) -> bool:
    """Return True if an image could start at offset: an SOI marker, and the first byte of another marker."""
    return source.read(offset, 3) == b"\xff\xd8\xff"


def walk_image(source: ByteSource, start: int, budget: Budget, *, to_scan: bool = False) -> Image:
    """Walk the image whose SOI is at *start*. The image ends at its EOI, or where the bytes are no longer a
    JPEG.

    to_scan: read only its header, up to the first scan. Raises TooMuchError.
    """
    walker = _Walker(Window(source), budget, Image(start), to_scan)
    walker.walk()
    return walker.image


@dataclass(slots=True)
class _Walker:
    source: ByteSource
    budget: Budget
    image: Image
    to_scan: bool

    def walk(self) -> None:
        image, size = self.image, self.source.size
        at, in_scan = image.start + 2, False
        while True:
            if not image.scans:
                image.whole = at
            marker = self._find(at, in_scan=in_scan)
            if marker is None:
                if not in_scan:
                    image.junk.append((at, size))
                image.end = size
                return
            self.budget.part()
            code = self.source.read(marker + 1, 1)[0]
            if in_scan and code < _FIRST_IN_SCAN and (restart := self._restart(marker)):
                at = restart
                continue
            after = self._behind(code, marker)
            if after is None:
                image.end = marker if in_scan else at  # the JPEG ends here, or the next one starts
                return
            if not in_scan and marker > at:
                self._gap(at, marker)
            if code == EOI:
                image.end, image.complete = after, True
                return
            if code in _STANDALONE:
                at, in_scan = after, False
                continue
            at, in_scan = after, code == SOS
            if at >= size or (in_scan and self.to_scan):
                image.end = at
                return

    def _find(self, start: int, *, in_scan: bool) -> int | None:
        """Return the offset of the next marker behind *start*, or None. A search from a scan stops at the
        start of a file of boxes: it must not run into a video. Compressed data never looks like one.
        """
        at, size = start, FIRST_CHUNK_BYTES
        while True:
            chunk = self.source.read(at, size)
            found = find_marker(chunk, in_scan, self.image.scans > 0)
            if found >= 0:
                self.budget.search(found + 2)
                return at + found
            self.budget.search(2 * len(chunk) if is_blank(chunk) else len(chunk))
            if len(chunk) < size:
                return None
            del chunk  # so that the next one takes its memory
            at += size - FTYP_BYTES + 1  # a match may begin in one chunk and end in the next
            size = min(2 * size, CHUNK_BYTES)

    def _restart(self, at: int) -> int:
        """Return the offset of the restart marker at which decoders go on behind damage; 0: none. Its
        successor or the EOI must follow without more damage: random bytes have single ones, too.
        """
        first, expected = 0, tuple(_RESTARTS)
        marker: int | None = at
        while marker is not None:
            start = self.source.read(marker, 2)
            if start[0] != 0xFF:
                return 0  # a file of boxes
            code = start[1]
            if code < _FIRST_IN_SCAN:
                first, expected = 0, tuple(_RESTARTS)
            elif code not in expected:
                return 0
            elif first:
                return first
            else:
                first, expected = marker, (EOI, _RESTARTS[(code + 1) % 8])
            marker = self._find(marker + 2, in_scan=False)
        return 0

    def _behind(self, code: int, marker: int) -> int | None:
        """Return the offset behind a marker and its segment; None if decoders cannot go on here."""
        if code == EOI or code in _STANDALONE:
            return marker + 2
        return self._segment(code, marker) if code in WITH_LENGTH else None

    def _gap(self, start: int, end: int) -> None:
        """Record the junk before a marker, behind the fill bytes that the standard allows."""
        head = self.source.read(start, min(end - start, MAX_FILL_BYTES))
        junk = start + len(head) - len(head.lstrip(b"\xff"))
        if junk < end:
            self.image.junk.append((junk, end))

    def _segment(self, code: int, marker: int) -> int | None:
        """Record a marker's segment; return the offset behind it; None if decoders cannot go on here."""
        size = self.source.size
        if marker + 4 > size:
            return None
        length = int.from_bytes(self.source.read(marker + 2, 2))
        offset = marker + 4
        needed = code in FRAMES or code == SOS
        if length < 2:
            if needed:
                return None
            self.image.bad_lengths.append(marker + 2)
            if code in _METADATA:  # counts as an empty segment
                self.image.segments.append(Segment(code, offset, 0))
            return offset
        end = offset + length - 2
        if end > size:
            return None  # the segment is cut off: bytes of other parts must not become its end
        if code in _METADATA:
            self.image.segments.append(Segment(code, offset, length - 2))
        elif not self._is_table(code, self.source.read(offset, length - 2)):
            if needed:
                return None
            self.image.junk.append((offset, end))
        if code in FRAMES:
            self.image.frames += 1
            self.image.frame = self.image.frame or code
        if not self.image.scans and code != SOS:
            self.image.whole = end
        if code == SOS:
            self.image.scans += 1
            self.image.scan_from = self.image.scan_from or end
        return end

    def _is_table(self, code: int, payload: bytes) -> bool:
        return well_formed(code, payload) and not holds_metadata(payload, numbers=True)


def well_formed(code: int, payload: bytes) -> bool:
    """Return True if a segment that decoding needs has the shape of T.81 B.2, to the last byte."""
    size = len(payload)
    if code in FRAMES:
        return size >= 6 and size == 6 + 3 * payload[5]
    if code == SOS:
        return size >= 1 and size == 4 + 2 * payload[0]
    if code in (_DRI, _DNL):
        return size == 2
    if code == _DAC:
        return size % 2 == 0 and all(row & 0x0F <= 3 and row >> 4 <= 1 for row in payload[::2])
    at = 0
    while at < size:
        number = payload[at]
        if number & 0x0F > 3 or number >> 4 > 1:
            return False
        if code == _DQT:
            at += 129 if number >> 4 else 65
        else:
            symbols = sum(payload[at + 1 : at + 17])
            if symbols > 256:
                return False
            at += 17 + symbols
    return at == size
