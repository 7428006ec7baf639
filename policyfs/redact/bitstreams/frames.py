"""Messages in coded frames: cameras and encoders write names, dates and places there.

These are SEI messages of H.264, H.265 and H.266, metadata OBUs of AV1, and user data of MPEG-1, -2 and -4.

Such messages become blanks of the same length, so that no byte of a picture moves. frame_table.py searches
the frames of a film for those that have messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei, user_data
from policyfs.redact.bitstreams.decoder_config import CONFIGS, FULL_BOX, Framing, clean_config
from policyfs.redact.bitstreams.nal_units import (
    AV1,
    AVC,
    HEVC,
    MAX_PADDING_BYTES,
    MPEG,
    START_CODE,
    VVC,
    Codec,
    Unit,
    is_byte_stream,
    split_units,
    start_code_units,
    units,
    user_data_units,
)
from policyfs.redact.bitstreams.obus import UNITS_PER_PART, clean_obus
from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource, difference, uniform_difference, zeros

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
MAX_MESSAGE_BYTES: Final = 32 << 20
MAX_CONFIG_BYTES: Final = 1 << 16
_USER_DATA_PER_PART: Final = 2
"""Number of units of MPEG user data that cost as much work as one part of a file. A frame has one to three
such units.
"""
_PATCHES_PER_PART: Final = 32
"""Number of patches of a unit that cost as much work as one part of a file. Most units have one or two."""
DOLBY_VISION: Final = MappingProxyType({HEVC.name: frozenset({62, 63}), AVC.name: frozenset({28, 30})})
"""A dictionary from the name of a codec to types of units. The standard of the codec gives these types no
meaning. Dolby Vision stores the dynamic range of the picture in such units.
"""
UNSPLIT: Final = MappingProxyType(
    {
        AVC.name: frozenset({*range(1, 6), 19, 20, 21, 30}),
        HEVC.name: frozenset({*range(10), *range(16, 22), 48, 49, 63}),
        VVC.name: frozenset({*range(4), *range(7, 11)}),
    }
)
"""A dictionary from the name of a codec to types of units that are not searched for start codes: they hold
most bytes of a film (slices, also of other layers), or hold numbers that may look like a start code (48, 49).
"""
_END_BYTES: Final = 16
"""Number of bytes at the end of a unit in which its last set bit is searched."""
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
    """Limits for the search of one frame: the number of units (left) and of bytes in messages (room) that may
    still be examined.
    """

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
    """One frame as a ByteSource: its lead, which the container stores elsewhere, and then its bytes in the
    file.
    """

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
    """Remove hidden data from the messages in the settings of a track's decoder, [start, end) of the file.

    The settings are units behind start codes, or the decoder configuration of MP4.
    """
    end = min(end, source.size)
    if start >= end:
        return Found()
    if not is_byte_stream(source.read(start, 4)):
        return _clean_config(source, start, end, codec, inner)
    return clean_frame(source, Frame(start, end - start), Framing(codec, 0), inner, UnitLimits())


def _clean_config(source: ByteSource, start: int, end: int, codec: Codec, inner: Inner) -> Found:
    """Remove hidden data from the messages in a decoder configuration [start, end). Bytes of any other form
    stay.
    """
    kind, found = CONFIGS.get(codec.name, b""), Found()
    old = source.read(start, min(end - start, MAX_CONFIG_BYTES)) if kind else b""
    head = FULL_BOX if kind == b"vvcC" else b""
    new = clean_config(kind, head + old, inner) if old else None
    if new is not None and new[len(head) :] != old:
        found.patches += difference(start, old, new[len(head) :])
        found.notes.append(Note(start, len(old), codec.name, _TAG, UNKNOWN))
    return found


def clean_frame(source: ByteSource, frame: Frame, coded: Framing, inner: Inner, limits: UnitLimits) -> Found:
    """Clean the messages of one frame.

    coded: codec and length size of the frame. If the length of each unit is stored before the unit, no slices
    are read. Raises TooMuchError, for example for too many units. Raises NotThisKindError, for example if
    bytes to change are in ``frame.lead``, which the container stores only once for all frames.
    """
    if not frame.lead:
        return _clean_units(source, frame.at, min(frame.at + frame.size, source.size), coded, inner, limits)
    whole, lead, found = Restored(source, frame), len(frame.lead), Found()
    found.add(_clean_units(whole, 0, whole.size, coded, inner, limits), frame.at - lead)
    if any(patch.offset < frame.at for patch in found.patches):
        raise NotThisKindError("user data that is stored once for all frames of a track cannot be removed")
    return found


def _clean_units(
    source: ByteSource, at: int, end: int, coded: Framing, inner: Inner, limits: UnitLimits
) -> Found:
    found, codec = Found(), coded.codec
    if codec is AV1:
        found, count = clean_obus(source, at, end, inner, limits.left)
        if count > limits.left:
            raise TooMuchError(TOO_MANY_UNITS)
        return found
    if codec is MPEG and source.read(at, PICTURE_START_BYTES).startswith(PICTURE_STARTS):
        return found  # a whole picture under the same name
    skipped = codec.kept | DOLBY_VISION.get(codec.name, frozenset())
    blanked = user_data.blanked if codec is MPEG else sei.blanked
    per_part = _USER_DATA_PER_PART if codec is MPEG else UNITS_PER_PART
    for unit in _units(source, at, end, coded, inner):
        limits.left -= 1
        if limits.left < 0:
            raise TooMuchError(TOO_MANY_UNITS)
        if limits.left % per_part == 0:
            inner.budget.part()
        length = unit.end - unit.start
        if not unit.head or not length or unit.end > end:
            break
        if len(unit.head) < codec.header:
            continue
        kind = codec.type(unit.head)
        if kind in skipped:
            continue
        if length <= sei.MAX_UNIT_BYTES:
            old = source.read(unit.start, length)
            limits.message(old)
            new = blanked(old, codec.header, inner) if kind in codec.sei else _filled(old, codec, inner)
            if new is not None:
                patches = list(uniform_difference(unit.start, old, new.data))
                inner.budget.part(1 + len(patches) // _PATCHES_PER_PART)
                found.patches += patches
                found.notes.append(Note(unit.start, length, codec.name, _TAG, new.tells))
        elif inner.hide & UNKNOWN:
            patches = list(zeros(source, unit.start + codec.header, unit.end))
            found.patches += patches
            found.notes += [Note(unit.start, length, codec.name, _TAG, UNKNOWN)] * bool(patches)
    return found


def _filled(unit: bytes, codec: Codec, inner: Inner) -> sei.Blanked | None:
    """Return a unit with filler in place of its payload.

    unit: a unit of filler, or of a type that the standard does not define. Return None if the payload is
    filler already, or if unknown data need not be hidden.
    """
    head, payload = unit[: codec.header], unit[codec.header :].rstrip(b"\0")
    inner.budget.part()
    inner.budget.search(len(unit))
    if not inner.hide & UNKNOWN or not payload.removesuffix(b"\x80").strip(b"\xff\0"):
        return None
    new = head + b"\xff" * (len(payload) - 1) + (b"\x80" if payload.endswith(b"\x80") else b"\xff")
    return sei.Blanked(new.ljust(len(unit), b"\0"), UNKNOWN)


def is_clear(source: ByteSource, frame: Frame, coded: Framing, budget: Budget) -> bool:
    """Return False if a frame of a protected track is encrypted as a whole, or its messages are encrypted.

    Encrypted bytes may look like a message by chance. A message in clear ends with a set bit and zeros.
    Raises TooMuchError.
    """
    if coded.codec in (AV1, MPEG) or is_byte_stream(source.read(frame.at, 4)):
        return True
    end = min(frame.at + frame.size, source.size)
    framing = Framing(coded.codec, coded.length_size or 4)
    return _is_chain(source, frame.at, end, framing, budget, ended=True)


def _is_chain(
    source: ByteSource, at: int, end: int, coded: Framing, budget: Budget, *, ended: bool = False
) -> bool:
    """Return True if units fill [at, end), each behind its length. Zeros may follow them.

    ended: True to return False if a unit of messages does not end as it should. Raises TooMuchError.
    """
    codec = coded.codec
    for count, unit in enumerate(units(source, at, codec, coded.length_size)):
        sound = len(unit.head) == codec.header <= unit.end - unit.start and unit.head[0] < 0x80
        if sound and ended and codec.type(unit.head) in codec.sei and unit.end <= end:
            last = source.read(max(unit.start, unit.end - _END_BYTES), min(_END_BYTES, unit.end - unit.start))
            sound = last.rstrip(b"\0").endswith(b"\x80")
        if not sound or unit.end > end:
            budget.part(count // UNITS_PER_PART)  # nobody counts the units of a frame that is not searched
            return count > 0 and end - at <= MAX_PADDING_BYTES and not any(source.read(at, end - at))
        at = unit.end
        if at == end or count > SAMPLE_UNITS:
            return True
    return False


def _units(source: ByteSource, at: int, end: int, coded: Framing, inner: Inner) -> Iterator[Unit]:
    """Yield the NAL units of the frame in [at, end).

    If the frame begins with a start code, its units are between start codes, even if *coded* states a length
    field: no length begins like a start code. Raises NotThisKindError if no length field is stated, and the
    frame seems to begin with a length, but is no chain of units: players look for start codes there.
    """
    if coded.codec is MPEG:
        return user_data_units(source, at, end, inner.budget)
    size, head = coded.length_size, source.read(at, 4)
    if not size and not is_byte_stream(head) and 0 < int.from_bytes(head) <= end - at - 4:
        size = 4
        if not _is_chain(source, at, end, Framing(coded.codec, size), inner.budget):
            raise NotThisKindError("a frame has lengths and start codes, or is cut off")
    if not size or head == b"\0" + START_CODE or (size < 4 and head[:3] == START_CODE):
        return start_code_units(source, at, end, coded.codec, inner.budget)
    return _framed_units(source, at, end, Framing(coded.codec, size), inner.budget)


def _framed_units(source: ByteSource, at: int, end: int, coded: Framing, budget: Budget) -> Iterator[Unit]:
    """Yield the units behind their lengths, and those behind start codes within them. Raises TooMuchError."""
    codec, unsplit = coded.codec, UNSPLIT[coded.codec.name]
    for unit in units(source, at, codec, coded.length_size):
        if unit.start > end:
            return
        if len(unit.head) == codec.header and any(unit.head) and codec.type(unit.head) in unsplit:
            yield unit
        else:
            yield from split_units(source, unit, end, codec, unsplit, budget)
