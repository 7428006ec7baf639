"""Messages in coded frames: cameras and encoders write names, dates and places there.

These are SEI messages of H.264, H.265 and H.266, metadata OBUs of AV1, and user data of MPEG-1, -2 and -4.

Such messages become blanks of the same length, so that no byte of a picture moves. All other bytes that are
no coded picture (settings, delimiters, bytes in no unit) are searched for metadata and places, and become
zeros if they hold any. frame_table.py searches the frames of a film for those that have such bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei, user_data
from policyfs.redact.bitstreams.decoder_config import CONFIGS, FULL_BOX, Framing, clean_config
from policyfs.redact.bitstreams.layers import Layers, types_of
from policyfs.redact.bitstreams.nal_units import (
    AV1,
    AVC,
    HEVC,
    MAX_PADDING_BYTES,
    MPEG,
    START_CODE,
    Codec,
    Types,
    Unit,
    is_byte_stream,
    split_units,
    start_code_units,
    units,
)
from policyfs.redact.bitstreams.obus import UNITS_PER_PART, clean_obus
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import (
    CHUNK_BYTES,
    ByteSource,
    difference,
    skip_zeros,
    uniform_difference,
    zeros,
)

SAMPLE_UNITS: Final = 4096
"""Maximum number of units of one frame. A picture of H.265 has at most 600 slices."""
TOO_MANY_UNITS: Final = f"a frame has more than {SAMPLE_UNITS:,} units"
PICTURE_STARTS: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"GIF8",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
"""First bytes of frames that are whole pictures (photos.py)."""
PICTURE_START_BYTES: Final = 8
_READ_BYTES: Final = 4096  # in which small slices are looked for at once
MAX_MESSAGE_BYTES: Final = 32 << 20
MAX_CONFIG_BYTES: Final = 1 << 16
_USER_DATA_PER_PART: Final = 2
"""Units of MPEG user data that cost as much as one part of a file. A frame has one to three."""
_PATCHES_PER_PART: Final = 32
"""Number of patches of a unit that cost as much work as one part of a file. Most units have one or two."""
DOLBY_VISION: Final = MappingProxyType({HEVC.name: frozenset({62}), AVC.name: frozenset({28})})
"""Codec -> types of units without a meaning in its standard, in which Dolby Vision stores the range."""
_AGGREGATES: Final = frozenset({48, 49})
"""Types of HEVC's units that hold numbers that may look like a start code."""
_HEADERS_OF_MPEG_4: Final = frozenset(range(1, 0x30))
"""Types of units that are headers in MPEG-4, and slices in MPEG-1 and MPEG-2."""
_SLICES_OF_MPEG_4: Final = frozenset({0xB6})
_PICTURE: Final = START_CODE + b"\0"
_VOP: Final = START_CODE + b"\xb6"
"""The starts of a picture of MPEG-1 and MPEG-2, and of one of MPEG-4."""
_TAG: Final = "user data"


class Frame(NamedTuple):
    """A coded frame: `size` bytes of the file from the offset `at` on.

    lead: bytes at the start of the frame that the container stores elsewhere (Matroska's header compression).
    """

    at: int
    size: int
    lead: bytes = b""


@dataclass(slots=True)
class UnitLimits:
    """The units (left) and bytes in messages (room) of one frame that may still be examined."""

    left: int = SAMPLE_UNITS
    room: int = MAX_MESSAGE_BYTES

    def message(self, unit: bytes) -> None:
        """Subtract the bytes of a unit with messages from ``room``. Raises TooMuchError if too few are left.

        A unit with emulation prevention bytes counts 16 times.
        """
        self.room -= len(unit) << (4 * (b"\0\0\3" in unit))
        if self.room < 0:
            raise TooMuchError("too much user data in frames")


@dataclass(slots=True)
class Restored:
    """One frame as a ByteSource: its lead, then its bytes in the file."""

    source: ByteSource
    frame: Frame

    @property
    def size(self) -> int:
        return len(self.frame.lead) + self.frame.size

    def read(self, offset: int, size: int, /) -> bytes:
        lead = self.frame.lead[offset : offset + size]
        start = max(0, offset - len(self.frame.lead))
        rest = min(size - len(lead), self.frame.size - start)
        return lead + self.source.read(self.frame.at + start, rest) if rest > 0 else lead


def clean_settings(source: ByteSource, start: int, end: int, codec: Codec, inner: Inner) -> Found:
    """Clean the messages in a decoder's settings [start, end): units behind start codes, or a configuration
    of MP4.
    """
    end = min(end, source.size)
    if start >= end:
        return Found()
    if not is_byte_stream(source.read(start, 4)):
        return _clean_config(source, start, end, codec, inner)
    coded = Framing(codec, 0, Layers.SETTINGS)
    return clean_frame(source, Frame(start, end - start), coded, inner, UnitLimits())


def _clean_config(source: ByteSource, start: int, end: int, codec: Codec, inner: Inner) -> Found:
    """Clean the messages in a decoder configuration. Bytes of any other form stay."""
    kind, found = CONFIGS.get(codec.name, b""), Found()
    old = source.read(start, min(end - start, MAX_CONFIG_BYTES)) if kind else b""
    head = FULL_BOX if kind == b"vvcC" else b""
    new = clean_config(kind, head + old, inner) if old else None
    if new is not None and new[len(head) :] != old:
        found.patches += difference(start, old, new[len(head) :])
        found.notes.append(Note(start, len(old), codec.name, _TAG, UNKNOWN))
    return found


def clean_frame(
    source: ByteSource, frame: Frame, coded: Framing, inner: Inner, limits: UnitLimits, *,
    encrypted: bool = False,
) -> Found:  # fmt: skip
    """Clean the messages of one frame.

    coded: codec and length size of the frame. encrypted: True if units may be encrypted. Encrypted bytes may
    look like a message by chance, so only messages in clear are cleaned. Raises TooMuchError, for example for
    too many units; NotThisKindError, for example if bytes to change are in ``frame.lead``, which the
    container stores only once for all frames.
    """
    if not frame.lead:
        end = min(frame.at + frame.size, source.size)
        return _clean_units(source, frame.at, end, coded, inner, limits, encrypted)
    whole, lead, found = Restored(source, frame), len(frame.lead), Found()
    found.add(_clean_units(whole, 0, whole.size, coded, inner, limits, encrypted), frame.at - lead)
    if any(patch.offset < frame.at for patch in found.patches):
        raise NotThisKindError("user data that is stored once for all frames of a track cannot be removed")
    return found


def _clean_units(
    source: ByteSource, at: int, end: int, coded: Framing, inner: Inner, limits: UnitLimits, encrypted: bool
) -> Found:
    codec = coded.codec
    if _starts_like_picture(source, at):
        return Found()
    if codec is AV1:
        found, count = clean_obus(source, at, end, inner, limits.left)
        if count > limits.left:
            raise TooMuchError(TOO_MANY_UNITS)
        return found
    if encrypted and not coded.length_size and not is_byte_stream(source.read(at, 4)):
        coded = coded._replace(length_size=4)
    types = types_of(codec, coded.layers) if codec is not MPEG else _types_of_mpeg(source, at, end)
    some, streamed = _units(source, at, end, coded, inner, unsearched(types, encrypted))
    search = _UnitSearch(source, types, inner, limits, encrypted and not streamed)
    search.broken = search.sealed and not _is_chain(source, at, end, coded, inner.budget)
    per_part = _USER_DATA_PER_PART if codec is MPEG else UNITS_PER_PART
    first = next(some, None)
    if streamed:
        search.search(at, end if first is None else first.start - len(START_CODE))
    for unit in chain(() if first is None else (first,), some):
        kind = types.of(unit.head) if len(unit.head) == codec.header else -1
        if kind in types.slices:
            continue
        limits.left -= 1
        if limits.left < 0:
            raise TooMuchError(TOO_MANY_UNITS)
        inner.budget.part(limits.left % per_part == 0)
        search.clean(unit, kind)
    return search.found


@dataclass(slots=True)
class _UnitSearch:
    """The search of a frame's units. sealed: they may be encrypted; broken: the frame as a whole may be."""

    source: ByteSource
    types: Types
    inner: Inner
    limits: UnitLimits
    sealed: bool
    broken: bool = False
    found: Found = field(default_factory=Found)

    @property
    def codec(self) -> Codec:
        return self.types.codec

    def clean(self, unit: Unit, kind: int) -> None:
        """Clean a unit. kind: its type; -1 for bytes in no unit. Raises TooMuchError."""
        start, codec = unit.start + len(unit.head), self.codec
        if kind in codec.sei:
            self._messages(unit)
        elif self.broken:
            return
        elif kind < 0 or kind in self.types.parameters | DOLBY_VISION.get(codec.name, frozenset()):
            self.search(start, unit.end)
        elif unit.end - unit.start <= sei.MAX_UNIT_BYTES:
            old = self._read(unit)
            self._change(unit, old, _filled(old, codec, self.inner))
        else:
            self._clear(start, unit.end, UNKNOWN)

    def _messages(self, unit: Unit) -> None:
        """Clean messages. Of encrypted ones, those are in clear that end with a set bit, or hold text."""
        if unit.end - unit.start > sei.MAX_UNIT_BYTES:
            self._clear(unit.start + self.codec.header, unit.end, NOTHING if self.sealed else UNKNOWN)
            return
        old, inner = self._read(unit), self.inner
        ended = not self.sealed or old.rstrip(b"\0").endswith(b"\x80")
        if ended or told_in_kept(old, inner.hide & Tells.LOCATION, inner.budget, numbers=True):
            blanked = user_data.blanked if self.codec is MPEG else sei.blanked
            self._change(unit, old, blanked(old, self.codec.header, inner))

    def _read(self, unit: Unit) -> bytes:
        old = self.source.read(unit.start, unit.end - unit.start)
        self.limits.message(old)
        return old

    def _change(self, unit: Unit, old: bytes, new: sei.Blanked | None) -> None:
        if new is not None:
            patches = list(uniform_difference(unit.start, old, new.data))
            self.inner.budget.part(1 + len(patches) // _PATCHES_PER_PART)
            self.found.patches += patches
            self.found.notes.append(Note(unit.start, len(old), self.codec.name, _TAG, new.tells))

    def search(self, start: int, end: int) -> None:
        """Zero bytes of no coded picture if they hold metadata or tell a place. Raises TooMuchError."""
        asked = self.inner.hide & Tells.LOCATION
        told = told_in_range(self.source, start, end, asked, self.inner.budget, numbers=True)
        self._clear(start, end, told)

    def _clear(self, start: int, end: int, tells: Tells) -> None:
        patches = list(zeros(self.source, start, end)) if tells & self.inner.hide else []
        self.found.patches += patches
        self.found.notes += [Note(start, end - start, self.codec.name, _TAG, tells)] * bool(patches)


def _types_of_mpeg(source: ByteSource, at: int, end: int) -> Types:
    """Return the types of units in a frame of MPEG. Where no picture of MPEG-1 or MPEG-2 is, the lowest types
    are headers of MPEG-4, and most others have no meaning.
    """
    types = types_of(MPEG, Layers.NONE)
    if _holds(source, at, end, _PICTURE) and not _holds(source, at, end, _VOP):
        return types
    return types._replace(slices=_SLICES_OF_MPEG_4, parameters=types.parameters | _HEADERS_OF_MPEG_4)


def _holds(source: ByteSource, at: int, end: int, code: bytes) -> bool:
    """Return True if the bytes [at, end) hold a start code and a type."""
    chunks = (source.read(n, min(CHUNK_BYTES + len(code), end - n)) for n in range(at, end, CHUNK_BYTES))
    return any(code in chunk for chunk in chunks)


def is_picture(source: ByteSource, frame: Frame) -> bool:
    """Return True if a frame of any codec begins like a whole picture (photos.py)."""
    return _starts_like_picture(Restored(source, frame), 0)


def _starts_like_picture(source: ByteSource, at: int) -> bool:
    return source.read(at, PICTURE_START_BYTES).startswith(PICTURE_STARTS)


def _filled(unit: bytes, codec: Codec, inner: Inner) -> sei.Blanked | None:
    """Return a unit of filler or of an undefined type with filler as its payload; None if it may stay."""
    head, payload = unit[: codec.header], unit[codec.header :].rstrip(b"\0")
    inner.budget.part()
    inner.budget.search(len(unit))
    if not inner.hide & UNKNOWN or not payload.removesuffix(b"\x80").strip(b"\xff\0"):
        return None
    new = head + b"\xff" * (len(payload) - 1) + (b"\x80" if payload.endswith(b"\x80") else b"\xff")
    return sei.Blanked(new.ljust(len(unit), b"\0"), UNKNOWN)


def _is_chain(source: ByteSource, at: int, end: int, coded: Framing, budget: Budget) -> bool:
    """Return True if units fill [at, end), each behind its length, up to zeros. Raises TooMuchError."""
    codec = coded.codec
    for count, unit in enumerate(units(source, at, codec, coded.length_size)):
        sound = len(unit.head) == codec.header <= unit.end - unit.start and unit.head[0] < 0x80
        if not sound or unit.end > end:
            budget.part(count // UNITS_PER_PART)  # nobody counts the units of a frame that is not searched
            return count > 0 and end - at <= MAX_PADDING_BYTES and not any(source.read(at, end - at))
        at = unit.end
        if at == end or count > SAMPLE_UNITS:
            return True
    return False


def unsearched(types: Types, encrypted: bool) -> frozenset[int]:
    """Return the types of units behind lengths within which a start code begins none: if encrypted, and of
    units of units; elsewhere FFmpeg begins one (libavcodec/h2645_parse.c).
    """
    return types.slices if encrypted else types.slices & _AGGREGATES if types.codec is HEVC else frozenset()


def _units(
    source: ByteSource, at: int, end: int, coded: Framing, inner: Inner, unsplit: frozenset[int]
) -> tuple[Iterator[Unit], bool]:
    """Return the units of a frame, some small slices left out, and True if they are behind start codes: those
    at its start count, whatever *coded* states. Raises NotThisKindError if no length is stated, but the frame
    begins with one and is no chain of units: players look for start codes there.
    """
    size, head = coded.length_size, source.read(at, 4)
    if coded.codec is MPEG:
        return start_code_units(source, at, end, MPEG, inner.budget), True
    if not size and not is_byte_stream(head) and 0 < int.from_bytes(head) <= end - at - 4:
        size, unsplit = 4, frozenset()  # players do not know the lengths
        if not _is_chain(source, at, end, Framing(coded.codec, size), inner.budget):
            raise NotThisKindError("a frame has lengths and start codes, or is cut off")
    if not size or head == b"\0" + START_CODE or (size < 4 and head[:3] == START_CODE):
        return start_code_units(source, at, end, coded.codec, inner.budget), True
    coded = coded._replace(length_size=size)
    return _framed_units(source, at, end, coded, unsplit, inner.budget), False


def _size_of_slices(data: bytes, coded: Framing, types: Types) -> int:
    at, size, header = 0, coded.length_size, coded.codec.header
    heads = set[bytes]()  # those of slices: a frame has thousands of units, and few headers
    while True:
        start = at + size
        stop = start + int.from_bytes(data[at:start])
        if not start + header <= stop <= len(data) or data.find(START_CODE, start, stop) >= 0:
            return at
        if (head := data[start : start + header]) not in heads:
            if types.of(head) not in types.slices:
                return at
            heads.add(head)
        at = stop


def _framed_units(
    source: ByteSource, at: int, end: int, coded: Framing, unsplit: frozenset[int], budget: Budget
) -> Iterator[Unit]:
    """Yield the units behind their lengths, and those behind start codes within them, some small slices left
    out. From a length on that is too large, the bytes are no unit (an empty head), except messages. Raises
    TooMuchError.
    """
    codec, size, header = coded.codec, coded.length_size, coded.codec.header
    types = types_of(codec, coded.layers)
    while True:  # a frame can have a million units
        at += _size_of_slices(source.read(at, max(0, min(_READ_BYTES, end - at))), coded, types)
        if at + size >= end:
            return
        head, start = source.read(at, size + header), at + size
        at = start + int.from_bytes(head[:size])
        if start == at:
            blank = min(end, skip_zeros(source, start)) - start
            budget.search(blank)
            at += blank // size * size
            continue
        stop = min(at, end)
        unit, length = Unit(start, stop, head[size : size + end - start]), stop - start
        if length <= len(START_CODE) or (
            length <= CHUNK_BYTES and START_CODE not in source.read(start, length)
        ):
            parts: Iterable[Unit] = (unit,)
        else:
            parts = split_units(source, unit, end, codec, unsplit, budget)
        if at <= end:
            yield from parts
            continue
        message = len(unit.head) == header and codec.type(unit.head) in codec.sei
        for part in parts:
            no_unit = part == unit and not message
            yield Unit(start - size, end, b"") if no_unit else part
