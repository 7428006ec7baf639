"""MPEG audio and ADTS AAC: frames of sound, with tags before, between and behind the frames.

Sources: ISO 11172-3 and 13818-3 (frame headers), 14496-3 annex 1.A (ADTS), the description of the LAME tag.
The locator walks from frame header to frame header. Between frames, it cleans tags and zeroes other bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, SliceSource
from policyfs.redact.tags.ape_lyrics import clean_end, clean_front, clean_here

MAX_FRAMES: Final = 3_000_000
"""Maximum number of frames in a file (about twenty hours of sound)."""
_KBITS: Final = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES: Final = (44100, 48000, 32000)
_LONGEST_FRAME: Final = 8192
_HEADER_BYTES: Final = 6
_TAGS: Final = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")
_WINDOW_BYTES: Final = 1 << 13
"""Size of the first read of frames or a gap; each further one is four times as large."""
_SYNC: Final = re.compile(rb"\xff(?:\xff++|(?=[\xe0-\xfe][^\xff]))")
"""A whole row of bytes 0xff, or a byte that may be the start of a frame's header."""
_SYNC_BYTES: Final = 256
"""Cost of bytes that begin like a frame's header but start no frame, in searched bytes (cleaners.Budget)."""
_ENCODER: Final = re.compile(rb"(?:LAME|Lavf|Lavc|L3\.9|GOGO)[\x20-\x7e]{1,5}")
_XING_SEARCH_BYTES: Final = 64
_LAME_BYTES: Final = 36


def _mpeg_sizes() -> list[int]:
    """Return the length of a frame for each second and third byte of a header; 0 for no frame."""
    sizes = [0] * 65536
    for second in range(0xE0, 0x100):
        version, layer = {3: 1, 2: 2, 0: 3}.get(second >> 3 & 3, 0), 4 - (second >> 1 & 3)
        if not version or layer == 4:
            continue
        kbits = _KBITS[min(version, 2), layer if version == 1 else min(layer, 2)]
        for third in range(256):
            index, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
            if 1 <= index <= 14 and rate < 3:
                bits, hertz = kbits[index - 1] * 1000, _RATES[rate] >> (version - 1)
                if layer == 1:
                    size = (12 * bits // hertz + padding) * 4
                else:
                    size = (72 if layer == 3 and version > 1 else 144) * bits // hertz + padding
                sizes[second << 8 | third] = size
    return sizes


_MPEG: Final = _mpeg_sizes()

Sized = Callable[[bytes, int], int]
"""Function that returns the length of a frame at an index of some bytes; 0 if no frame is there."""


def mpeg_frame(data: bytes, at: int) -> int:
    """Return the length in bytes of the MPEG audio frame at an index; 0 for none, and in free format."""
    if at + 3 > len(data) or data[at] != 0xFF:
        return 0
    return _MPEG[data[at + 1] << 8 | data[at + 2]]


def adts_frame(data: bytes, at: int) -> int:
    """Return the length in bytes of the ADTS frame at an index; 0 if there is none."""
    if at + 6 > len(data) or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0 or data[at + 2] >> 2 & 15 > 12:
        return 0
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return size if size >= 7 else 0


_BARE: Final[Mapping[str, Sized]] = MappingProxyType({"audio/mpeg": mpeg_frame, "audio/aac": adts_frame})
_FEW_FRAMES: Final = 4


def kind_behind_junk(head: bytes) -> str | None:
    """Return the kind of bare sound that begins in the first half of a head, and goes on frame by frame to
    its end or to a tag; else None.
    """
    for kind, sized in _BARE.items():
        seen: set[int] = set()
        for first in _headers(head):
            if first > len(head) // 2:
                break
            at, count = first, 0
            while at not in seen and _alike(head, first, at) and (size := sized(head, at)):
                seen.add(at)
                at, count = at + size, count + 1
            if count >= _FEW_FRAMES and (at > len(head) - _HEADER_BYTES or head.startswith(_TAGS, at)):
                return kind
    return None


def locate_mp3(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an MP3, or in FLAC behind ID3. Raises NotThisKindError, TooMuchError."""
    edits = Edits(source, inner, "MP3")
    start = clean_front(edits)
    if source.read(start, 4) == b"fLaC":  # libmagic takes this FLAC for an MP3 because of its ID3 tag
        found = inner.file("audio/flac", SliceSource(source, start, source.size - start))
        if found is None:
            raise NotThisKindError("there is no sound in it")
        edits.found.add(found, start)
        return edits.found
    return _locate(edits, start)


def locate_adts(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a bare AAC stream. Raises NotThisKindError, TooMuchError."""
    edits = Edits(source, inner, "AAC")
    return _locate(edits, clean_front(edits))


def _locate(edits: Edits, start: int) -> Found:
    end = clean_end(edits, start)
    for sized in (mpeg_frame, adts_frame):
        first = _next_frame(edits, start, min(end, start + CHUNK_BYTES), end, sized)
        if first is not None:
            break
    else:
        raise NotThisKindError("there is no sound in it")
    edits.zero(start, first, "before the sound")
    if edits.inner.hide & Tells.DEVICE:
        _encoder(edits, first, sized)
    _Sound(edits, end, sized).walk(first)
    return edits.found


def _next_frame(edits: Edits, start: int, limit: int, end: int, sized: Sized) -> int | None:
    """Return the offset of the next frame in [start, limit) with a frame or the file's end behind it. A tag
    behind it proves nothing: after redaction it would not be found again.
    """
    window, limit = _WINDOW_BYTES, min(limit, end)
    while start < limit:
        stop = min(start + window, limit)
        data = edits.source.read(start, min(stop + 2 * _LONGEST_FRAME, end) - start)
        edits.inner.budget.search(stop - start)
        for at in _headers(data):
            if start + at >= stop:
                break
            size = sized(data, at)
            last = size and start + at + size == edits.source.size
            if last or (size and _alike(data, at, at + size) and sized(data, at + size)):
                return start + at
            edits.inner.budget.search(_SYNC_BYTES)
        start, window = stop, min(4 * window, CHUNK_BYTES)
    return None


def _headers(data: bytes) -> Iterator[int]:
    """Yield the indices where a frame's header may start: of a row of bytes 0xff, only the last two."""
    for match in _SYNC.finditer(data):
        end = match.end()
        yield max(match.start(), end - 2)
        if end - match.start() > 1 and data[end : end + 1] >= b"\xe0":
            yield end - 1


def _alike(data: bytes, one: int, two: int) -> bool:
    """Return True if two headers have the same version and layer. (The bit of a checksum may differ.)"""
    ends = len(data) < one + 3 or len(data) < two + 2
    return not ends and data[one] == data[two] and data[one + 1] | 1 == data[two + 1] | 1


class _Sound:
    """The walk over the frames of one file, up to the end of the sound."""

    def __init__(self, edits: Edits, end: int, sized: Sized) -> None:
        self.edits = edits
        self.end = end
        self.sized = sized
        self.frames = 0

    def walk(self, at: int) -> None:
        """Walk to the end of the sound; clean tags, and zero other bytes between frames."""
        while at < self.end:
            at = self._run(at)
            if at >= self.end:
                return
            self.edits.inner.budget.part()
            size = clean_here(self.edits, at, self.end)
            if size:
                at += size
                continue
            following = self._resume(at)
            self.edits.zero(at, following, "between frames")
            at = following

    def _run(self, at: int) -> int:
        window = _WINDOW_BYTES
        while at < self.end:
            data = self.edits.source.read(at, min(window, self.end - at))
            window = min(4 * window, CHUNK_BYTES)
            index, limit, sized, count = 0, len(data) - 8, self.sized, 0
            while index <= limit:
                size = sized(data, index)
                if not size:
                    break
                index += size
                count += 1
            self.frames += count
            if self.frames > MAX_FRAMES:
                raise TooMuchError("too many frames of sound")
            at += index
            if index <= limit:
                return at
            if at + 8 > self.end:
                return self.end if at < self.end and self._starts(at) else at
        return at

    def _starts(self, at: int) -> bool:
        """Return True if the rest of the sound is zeros, or may start a frame's header: at the end of the
        file, or before the zeros that a tag becomes."""
        rest = self.edits.source.read(at, self.end - at)
        cut = self.end == self.edits.source.size and rest[:1] == b"\xff"
        return cut or bool(self.sized(rest + bytes(8), 0)) or not rest.strip(b"\0")

    def _resume(self, at: int) -> int:
        found = _next_frame(self.edits, at, self.end, self.end, self.sized)
        return self.end if found is None else found


def _encoder(edits: Edits, first: int, sized: Sized) -> None:
    """Remove the encoder's version from a Xing or Info frame. Its name stays: decoders need it."""
    head = edits.source.read(first, _LONGEST_FRAME)
    frame = head[: sized(head, 0)]
    tag = max(frame[:_XING_SEARCH_BYTES].find(b"Xing"), frame[:_XING_SEARCH_BYTES].find(b"Info"))
    if tag < 0:
        return
    flags = int.from_bytes(frame[tag + 4 : tag + 8])
    at = tag + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    name = frame[at : at + 9]
    if len(name) < 9 or not name.strip(b"\0 ") or name[4:] == b"     ":
        return
    new = bytearray(frame)
    new[at : at + 9] = name[:4] + b"     "
    if _ENCODER.match(name) and at + _LAME_BYTES <= len(frame) and frame[at + 34 : at + 36] != b"\0\0":
        new[at + 34 : at + 36] = crc16(bytes(new[: at + 34])).to_bytes(2)
    edits.put(first, frame, bytes(new))
    edits.note(first + at, 9, "encoder", Tells.DEVICE)


def crc16(data: bytes) -> int:
    """Return the checksum of a LAME tag: CRC-16/ARC of all bytes before it in its frame."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value
