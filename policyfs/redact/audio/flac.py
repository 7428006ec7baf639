"""FLAC files (RFC 9639): metadata blocks, then frames of sound.

A removed block becomes padding. In a block of comments, the comments that stay move up, and a padding block
fills the room of the removed comments. So every block has its stated length. Tags of other formats at the
start and the end of the file are cleaned as in an MP3.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.appended import find_appended
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, shifted
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.free_text import bytes_tell_place, text_among_numbers
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.core.tag_names import told
from policyfs.redact.tags.ape_lyrics import clean_end, clean_front
from policyfs.redact.tags.vorbis import clean_comments, clean_picture

MARK: Final = b"fLaC"
STREAMINFO, PADDING, _APPLICATION, SEEKTABLE, COMMENTS, CUESHEET, PICTURE = range(7)
_HEAD_BYTES: Final = 4
_LAST: Final = 0x80
_POINT_BYTES: Final = 18
_MAX_SAMPLES: Final = 1 << 36
_PLACEHOLDER: Final = b"\xff" * 8
_END_SEARCH_BYTES: Final = 1 << 18
_LONGEST_AT: Final = _HEAD_BYTES + 7
"""Offset of the length of the longest frame in the first block (STREAMINFO) with its header."""
_LEAST_FRAME_BYTES: Final = 8
_HEADER_BYTES: Final = 16
"""Size of the longest header of a frame, with its checksum (RFC 9639, 9.1)."""
_SYNC: Final = re.compile(rb"\xff[\xf8\xf9]")
_CUT_TRIES: Final = 8
_TEXT: Final = re.compile(rb"[\x20-\x7e]{8,}")
_PADDED_TEXT: Final = re.compile(rb"[\x20-\x7e]*\0*")
_WORDS: Final = re.compile(rb"[A-Za-z ]{8}")
"""Eight letters or spaces in a row: coded sound seldom contains them, but text behind the sound does."""
_NAMES: Final = {
    _APPLICATION: "application",
    SEEKTABLE: "seek table",
    CUESHEET: "cue sheet",
    PICTURE: "picture",
}


def locate_flac(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a FLAC file. Raises NotThisKindError, TooMuchError."""
    edits = Edits(source, inner, "FLAC")
    at = clean_front(edits)
    if source.read(at, len(MARK)) != MARK:
        raise NotThisKindError("there is no FLAC stream in it")
    at += len(MARK)
    first, last, longest = True, False, 0
    while not last:
        inner.budget.part()
        head = source.read(at, _HEAD_BYTES)
        size = int.from_bytes(head[1:])
        end = at + _HEAD_BYTES + size
        if len(head) < _HEAD_BYTES or end > source.size or (first and head[0] & 0x7F != STREAMINFO):
            raise NotThisKindError("its blocks are cut off")
        last = bool(head[0] & _LAST)
        if first and size != 34:
            raise NotThisKindError("its first block is not the stream information")
        if first:
            longest = int.from_bytes(source.read(at + _LONGEST_AT, 3))
        else:
            _block(edits, at, head, end)
        first, at = False, end
    if source.read(at, 1) != b"\xff" or source.read(at + 1, 1)[:1] not in (b"\xf8", b"\xf9"):
        raise NotThisKindError("there is no sound in it")
    end = clean_end(edits, at)
    _sound(edits, at, end, longest)
    _between(edits, at, end)
    return edits.found


def _block(edits: Edits, at: int, head: bytes, end: int) -> None:
    kind, start = head[0] & 0x7F, at + _HEAD_BYTES
    size = end - start
    if kind == PADDING:
        edits.zero(start, end, "padding")
        return
    inner = edits.inner
    data = edits.source.read(start, size) if size <= MAX_BLOCK_BYTES else b""
    if kind == COMMENTS and data:
        _comments(edits, at, head, data)
        return
    if kind == SEEKTABLE and size <= MAX_BLOCK_BYTES and seeks_only(data, edits.source.size):
        return
    if kind == CUESHEET and data and sheet_is_sound(data):
        if not told(inner.hide, Tells.OTHER, text_among_numbers(data)):
            return
    elif kind == PICTURE and data:
        cleaned = clean_picture(data, inner)
        if cleaned is not None:
            edits.block(start, data, cleaned)
            return
    _pad(edits, at, head, end, Tells.OTHER if kind == CUESHEET else UNKNOWN)


def _pad(edits: Edits, at: int, head: bytes, end: int, tells: Tells) -> None:
    tag = _NAMES.get(head[0] & 0x7F, "block")
    edits.put(at, head[:1], bytes([head[0] & _LAST | PADDING]))
    before = len(edits.found.notes)
    edits.zero(at + _HEAD_BYTES, end, tag, tells)
    if len(edits.found.notes) == before:
        edits.note(at, _HEAD_BYTES, tag, tells)


def _comments(edits: Edits, at: int, head: bytes, data: bytes) -> None:
    start = at + _HEAD_BYTES
    comments = clean_comments(data, edits.inner)
    if comments is None:
        edits.put(at, head[:1], bytes([head[0] & _LAST | PADDING]))
        edits.zero(start, start + len(data), "comments", broken=True)
        if not data.strip(b"\0"):
            edits.note(at, _HEAD_BYTES, "comments", broken=True)
        return
    behind = data[comments.read :]
    if not comments.notes and not behind.strip(b"\0"):
        return
    edits.found.notes += shifted(comments.notes, start)
    if behind.strip(b"\0"):
        edits.note(start + comments.read, len(behind), "behind the comments", broken=True)
    missing = len(data) - len(comments.kept)
    if missing >= _HEAD_BYTES:
        # The block of comments now ends with its last comment, and a padding block follows. If the block of
        # comments was marked as the last block, the padding block gets this mark.
        new_head = bytes([COMMENTS]) + len(comments.kept).to_bytes(3)
        rest = missing - _HEAD_BYTES
        pad = bytes([head[0] & _LAST | PADDING]) + rest.to_bytes(3) + bytes(rest)
        edits.put(at, head + data, new_head + comments.kept + pad)
    else:
        edits.put(start, data, comments.kept.ljust(len(data), b"\0"))


def seeks_only(table: bytes, size: int) -> bool:
    """Return True if a seek table has the shape of RFC 9639, 8.5. size: of the file in bytes."""
    if len(table) % _POINT_BYTES:
        return False
    before = -1
    for at in range(0, len(table), _POINT_BYTES):
        point = table[at : at + _POINT_BYTES]
        if point.startswith(_PLACEHOLDER):
            if point[8:].strip(b"\0"):
                return False
            continue
        sample = int.from_bytes(point[:8])
        if not before <= sample < _MAX_SAMPLES or int.from_bytes(point[8:16]) > size:
            return False
        before = sample
    return True


def sheet_is_sound(data: bytes) -> bool:
    """Return True if a cue sheet has the shape of RFC 9639, 8.7, with zeros in reserved bytes, and texts in
    the places of texts: the catalogue number (128 bytes) and the ISRC of each track (12 bytes)."""
    if len(data) < 396 or data[137:395].strip(b"\0") or not _PADDED_TEXT.fullmatch(data, 0, 128):
        return False
    at = 396
    for _ in range(data[395]):
        if at + 36 > len(data) or data[at + 22 : at + 35].strip(b"\0"):
            return False
        if not _PADDED_TEXT.fullmatch(data, at + 9, at + 21):
            return False
        indexes = data[at + 35]
        if any(data[at + 36 + 12 * i + 9 : at + 48 + 12 * i].strip(b"\0") for i in range(indexes)):
            return False
        at += 36 + 12 * indexes
    return at == len(data)


def _sound(edits: Edits, start: int, end: int, longest: int) -> None:
    """Raise NotThisKindError unless the sound ends at `end`: with a frame of a valid checksum, zeros behind
    it, or a frame that the end of the file cuts off. longest: of all frames, 0 if unknown.
    """
    source = edits.source
    low = max(start, end - _END_SEARCH_BYTES)
    data = source.read(low, end - low)
    edits.inner.budget.search(len(data))
    solid = data.rstrip(b"\0")
    for cut in dict.fromkeys((len(data), *(min(len(solid) + n, len(data)) for n in range(3)))):
        if _ends_with_frame(data[:cut]):
            return
    if end == source.size and _ends_with_cut_frame(data, low == start, longest or _END_SEARCH_BYTES):
        return
    raise NotThisKindError("it does not end with a frame of sound")


def _between(edits: Edits, start: int, end: int) -> None:
    """Zero data among frames, which decoders skip. Raises NotThisKindError if no frame follows it."""
    at = start
    while (found := find_appended(edits.source, at, end, edits.inner.budget)) is not None:
        at = _next_frame(edits, found + 1, end)
        edits.zero(found, at, "between frames")


def _next_frame(edits: Edits, start: int, end: int) -> int:
    """Return the offset of the next frame's header. Raises NotThisKindError without one, TooMuchError."""
    for at in range(start, end, _END_SEARCH_BYTES):
        data = edits.source.read(at, min(_END_SEARCH_BYTES + _HEADER_BYTES, end - at))
        edits.inner.budget.search(len(data))
        for match in _SYNC.finditer(data, 0, _END_SEARCH_BYTES):
            if _is_header(data, match.start()):
                return at + match.start()
    raise NotThisKindError("other data is within its last frame of sound")


def _ends_with_frame(data: bytes) -> bool:
    """Return True if the data ends with a whole frame, by the checksums of its header and its end."""
    at, tries = len(data), 0
    while tries < 8 and (at := data.rfind(b"\xff", 0, at)) >= 0:
        if data[at + 1 : at + 2] in (b"\xf8", b"\xf9") and _is_header(data, at):
            tries += 1
            if _crc16(data[at:]) == 0:
                return True
    return False


def _ends_with_cut_frame(data: bytes, from_start: bool, longest: int) -> bool:
    """Return True if the end of the file cuts off a frame, which is the only one or follows a whole one, and
    holds neither text nor a whole frame with other data behind.
    """
    at, tries = len(data), 0
    while tries < _CUT_TRIES and (at := data.rfind(b"\xff", 0, at)) >= 0 and len(data) - at <= longest:
        if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9") or not _is_header(data, at):
            continue
        tries += 1
        if (from_start and at == 0) or _ends_with_frame(data[:at]):
            tail = data[at:]
            said = _WORDS.search(tail) or any(map(bytes_tell_place, _TEXT.findall(tail)))
            return not said and not _holds_frame(tail)
    return False


def _holds_frame(data: bytes) -> bool:
    """Return True if *data* may begin with a whole frame: some of its first bytes end with their checksum."""
    value = 0
    for at, byte in enumerate(data):
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
        if value == 0 and at > _LEAST_FRAME_BYTES:
            return True
    return False


def _is_header(data: bytes, at: int) -> bool:
    """Return True if a frame header with a valid checksum is at an offset (RFC 9639, 9.1)."""
    head = data[at : at + _HEADER_BYTES]
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return False
    lead = head[4]
    width = 1 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length()
    size = 4 + width + {6: 1, 7: 2}.get(head[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    return (lead < 0x80 or 2 <= width <= 7) and size < len(head) and _crc8(head[:size]) == head[size]


def _table(polynomial: int, bits: int) -> list[int]:
    out = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) & 1 else 0)
        out.append(value & ((1 << bits) - 1))
    return out


_CRC8: Final = _table(0x107, 8)
_CRC16: Final = _table(0x18005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
    return value
