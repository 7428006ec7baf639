"""SEI messages of H.264 and H.265 in movies: cameras and encoders sign, date and place frames with them.

Messages may hold anything: positions of drones, dates of camcorders, the options of an encoder. The
categories of each are in sei_messages.py. The payload of a removed one becomes blanks inside the
same length, so that no byte of the picture moves. Sources: ITU-T H.264 and H.265 annex D, ISO/IEC
14496-15; MISB ST 0604.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, TooMuchError
from policyfs.redact.core.patches import ByteSource, difference
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.sei_messages import UNREGISTERED, UUID_BYTES, message_tells, unregistered_tells

BLANK: Final = 0x20
MAX_SCANNED: Final = 30_000
"""Samples looked into, at most, once user data was found in those that were tried."""
_MAX_SEI_BYTES: Final = 1 << 16
TRIED_UNITS: Final = 64
MAX_MESSAGE_BYTES: Final = 32 << 20
MAX_UNITS: Final = 100_000
"""Units (slices, parameters, messages) of fragments looked into, at most, likewise."""
SAMPLE_UNITS: Final = 256
_H264, _H265 = "H.264", "H.265"


class Codec(NamedTuple):
    """Codec and unit format of a track's samples. length: bytes of a unit's length."""

    name: str
    length: int


def codec_of(kind: bytes, payload: bytes) -> Codec | None:
    """Return the codec by the parameters of a track (``avcC``, ``hvcC``)."""
    if kind == b"avcC" and len(payload) > 4:
        return Codec(_H264, (payload[4] & 3) + 1)
    if kind == b"hvcC" and len(payload) > 21:
        return Codec(_H265, (payload[21] & 3) + 1)
    return None


def clean_parameters(block: Block, box: Box) -> None:
    """Clean SEI messages in an ``hvcC`` box; those of an ``avcC`` are in the samples."""
    if box.size > _MAX_SEI_BYTES:
        block.free(box, "stsd", broken=True)
        return
    if box.kind != b"hvcC" or box.end < box.body + 23:
        return
    at = box.body + 23
    for _ in range(block.data[box.body + 22]):
        if at + 3 > box.end:
            return
        kind, count = block.data[at] & 0x3F, block.number(at + 1, 2)
        at += 3
        for _ in range(count):
            size = block.number(at, 2)
            if not size or at + 2 + size > box.end:
                return
            if kind in (39, 40):
                unit = clean_unit(block.data[at + 2 : at + 2 + size], _H265, block.inner)
                if unit is not None and block.put(at + 2, unit.data):
                    block.note(at + 2, at + 2 + size, "hvcC", "SEI", unit.tells)
            at += 2 + size


@dataclass(frozen=True, slots=True)
class Unit:
    """An SEI unit with its user data blanked, and the categories of that data."""

    data: bytes
    tells: Tells


def clean_unit(unit: bytes, codec: str, inner: Inner) -> Unit | None:
    """Clean one SEI unit (from its header on). None if nothing in it is removed."""
    header = 1 if codec == _H264 else 2
    plain, places = _unescaped(unit, header)
    out, told = bytearray(unit), NOTHING
    at = 0
    while at + 2 <= len(plain) and plain[at:] != b"\x80":
        kind, at = _number(plain, at)
        size, at = _number(plain, at)
        end = min(at + size, len(plain))
        inner.budget.part()
        payload = plain[at:end]
        inner.budget.search(len(payload))
        tells = message_tells(kind, payload, inner.hide)
        if tells & inner.hide:
            told |= tells
            known = kind == UNREGISTERED and unregistered_tells(payload) is not None
            _blank(out, places[at + (UUID_BYTES if known else 0) : end])
        at = end
    _escape_again(out, unit, header)
    data = bytes(out)
    return Unit(data, told) if data != unit else None


def _number(plain: bytes, at: int) -> tuple[int, int]:
    """Read a number in 255s and a rest (H.264 section 7.3.2.3.1); return it and the offset behind it."""
    start = at
    while at < len(plain) - 1 and plain[at] == 0xFF:
        at += 1
    return 255 * (at - start) + plain[min(at, len(plain) - 1)], at + 1


def _unescaped(unit: bytes, header: int) -> tuple[bytes, Sequence[int]]:
    """Return the payload without emulation prevention bytes, and each byte's offset in the unit."""
    if b"\0\0\3" not in unit:
        return unit[header:], range(header, len(unit))
    plain, places, zeros = bytearray(), [], 0
    for at in range(header, len(unit)):
        byte = unit[at]
        if zeros >= 2 and byte == 3:
            zeros = 0
            continue
        zeros = zeros + 1 if byte == 0 else 0
        plain.append(byte)
        places.append(at)
    return bytes(plain), places


def _blank(out: bytearray, places: Iterable[int]) -> None:
    for at in places:
        out[at] = BLANK


def _escape_again(out: bytearray, unit: bytes, header: int) -> None:
    """Keep emulation prevention bytes valid: two zeros before each, a small number behind it."""
    at = unit.find(b"\0\0\3", header)
    while at >= 0:
        out[at : at + 2] = b"\0\0"
        if at + 3 < len(unit) and out[at + 3] == BLANK:
            out[at + 3] = 1
        at = unit.find(b"\0\0\3", at + 2)


@dataclass(slots=True)
class Counter:
    """Units, and bytes of messages, that may still be looked into."""

    left: int
    room: int = MAX_MESSAGE_BYTES

    def message(self, unit: bytes) -> None:
        """Count a message. Raises TooMuchError.

        A message with emulation prevention bytes costs more.
        """
        self.room -= len(unit) << (4 * (b"\0\0\3" in unit))
        if self.room < 0:
            raise TooMuchError("too much user data in frames")


def clean_sample(
    source: ByteSource, at: int, size: int, codec: Codec, inner: Inner, units: Counter | None = None
) -> Found:
    """Clean the SEI units of one sample, or of several that follow each other.

    Reads their bytes and the lengths of the other units.
    """
    found = Found()
    units = Counter(SAMPLE_UNITS) if units is None else units
    end = min(at + size, source.size)
    while units.left > 0:
        units.left -= 1
        head = source.read(at, codec.length + 1)
        length = int.from_bytes(head[: codec.length])
        start = at + codec.length
        if len(head) <= codec.length or not length or start + length > end:
            break
        kind = head[-1] & 0x1F if codec.name == _H264 else head[-1] >> 1 & 0x3F
        if kind in ((6,) if codec.name == _H264 else (39, 40)) and length <= _MAX_SEI_BYTES:
            unit = source.read(start, length)
            units.message(unit)
            cleaned = clean_unit(unit, codec.name, inner)
            if cleaned is not None:
                found.patches += difference(start, unit, cleaned.data)
                found.notes.append(Note(start, length, codec.name, "SEI user data", cleaned.tells))
        at = start + length
    return found


def too_many(count: int) -> None:
    """Raise TooMuchError if more samples would be looked into than allowed."""
    if count > MAX_SCANNED:
        raise TooMuchError("user data in too many frames")
