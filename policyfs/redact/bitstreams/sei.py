"""SEI messages of H.264, H.265 and H.266: one walk and one allow list for pictures, movies and settings.

Messages may hold anything: positions of drones, dates of camcorders, the options of an encoder. Numbers that
are needed to show the picture stay. A time code counts as a time. A message that is not listed is unknown. A
message that holds other messages (scalable nesting) is unknown, too. A unit keeps its size: removed payloads
become blanks, or the whole unit becomes filler. Sources: ITU-T H.264 annex D, H.265 annex D, H.274 (payload
types), ISO/IEC 14496-15; MISB ST 0604; the output of encoders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.kept_values import told_in_kept

MAX_UNIT_BYTES: Final = 1 << 16
"""Maximum size of an SEI unit that is parsed."""
FILLER: Final = 3
_T35: Final = 4
UNREGISTERED: Final = 5
_UUID_BYTES: Final = 16
_TRAILING: Final = b"\x80"
_ESCAPED: Final = b"\0\0\3"
_BLANK: Final = 0x20
_MAX_COUNTER_BYTES: Final = 8
_MAX_NUMBERS_BYTES: Final = 255
"""Maximum size of an SEI message that should be numbers. A longer message may hold anything."""
_MAX_REGISTERED_BYTES: Final = 1024
"""Maximum size of a message with captions or dynamic range. HDR10+ has about 900 bytes."""
MESSAGE_TELLS: Final = MappingProxyType(
    {
        **dict.fromkeys((0, 1, 6, 19, 45, 47, 128, 129, 130, 131, 132), NOTHING),
        **dict.fromkeys((137, 144, 147, 148, 150, 151, 152, 153, 154, 155, 156, 165, 168), NOTHING),
        **dict.fromkeys((176, 177, 178, 179, 180, 200), NOTHING),
        136: Tells.TIME,
    }
)
"""A dictionary from the payload type of an SEI message to the categories of its data."""
_UUIDS: Final = MappingProxyType(
    {
        bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"): Tells.DEVICE | Tells.OTHER,  # x264
        bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"): Tells.DEVICE | Tells.OTHER,  # x265
        bytes.fromhex("47564adc5c4c433f94efc5113cd143a8"): Tells.DEVICE | Tells.OTHER,  # VideoToolbox
        b"MISPmicrosectime": Tells.TIME,
        b"MISPnanosectime\0": Tells.TIME,
    }
)
MARK_TELLS: Final = Tells.DEVICE | Tells.OTHER
_SHORT_BYTES: Final = 4
_SHORT: Final = frozenset({bytes.fromhex("0387f44e"), bytes.fromhex("b9edb930"), bytes.fromhex("e958f491")})
"""First bytes of UUIDs. Encoders of phones mark each frame with such a UUID and a number of a few bytes."""
_RANGE: Final = (b"\xb5\0\x3c", b"\xb5\0\x3b", b"\xb5\x58\x90", b"\x26\0\x04")
"""Codes of country and provider: HDR10+, Dolby, film grain, HDR Vivid."""
_ATSC: Final = b"\xb5\0\x31"
_CAPTIONS: Final = b"GA94\3"
_CAPTION_BYTES: Final = 3
_CAPTIONS_AROUND_BYTES: Final = len(_ATSC) + len(_CAPTIONS) + 4
"""Bytes around captions: the head, their number, a spare byte, a mark, and one at an OBU's end."""
_ATSC_FORMAT: Final = re.compile(rb"\xb5\0\x31(?:DTG1.{1,3}|GA94\x06.{1,9})", re.DOTALL)
"""The part of the picture that is in use: its format or its bars (ATSC A/53)."""
_MAX_KNOWN_TEXTS: Final = 1 << 10


class Message(NamedTuple):
    """An SEI message.

    tells: the message's categories. places: if the message must be removed, offsets in the unit of the bytes
    that become blanks. These bytes are the message's payload without a known UUID. whole: True if the whole
    message is in the unit.
    """

    tells: Tells
    places: Sequence[int]
    whole: bool


def messages(unit: bytes, header: int, inner: Inner) -> Iterator[Message]:
    """Yield the messages of a unit (H.264 section 7.3.2.3, H.265 section 7.3.5).

    header: size of the unit's header. If the bytes behind the last message are no message, they count as one
    message of unknown categories; a single byte counts as a message without categories. Raises TooMuchError.
    """
    plain = unit[header:].replace(_ESCAPED, _ESCAPED[:2])
    places: Sequence[int] = ()
    inner.budget.search(len(unit) << (2 * (_ESCAPED in unit)))
    end = len(plain.rstrip(b"\0").removesuffix(_TRAILING))
    at = 0
    while at < end:
        inner.budget.part()
        alone = len(plain) - at == 1
        try:
            kind, at = _number(plain, at)
            size, at = _number(plain, at)
        except IndexError:
            yield Message(NOTHING if alone else UNKNOWN, (), whole=False)
            return
        whole = at + size <= end
        for tells, start, behind in _parts(kind, plain[at : at + size], inner):
            if tells & inner.hide and not places:
                places = _places(unit, header)
            yield Message(tells, places[at + start : at + behind], whole)
        at += size


def _parts(kind: int, payload: bytes, inner: Inner) -> Iterable[tuple[Tells, int, int]]:
    """Return the parts of a message that go or stay apart: their categories, and their ranges."""
    if kind == UNREGISTERED and payload.startswith(MDPM) and not _among_numbers(payload[len(MDPM) :], inner):
        return mdpm_entries(payload)
    tells, kept = _judged(kind, payload, inner)
    return ((tells, kept, len(payload)),)


def _number(plain: bytes, at: int) -> tuple[int, int]:
    """Return the sum of bytes of 255 and a smaller one, and the offset behind. Raises IndexError."""
    start = at
    while plain[at] == 0xFF:
        at += 1
    return 255 * (at - start) + plain[at], at + 1


def _judged(kind: int, payload: bytes, inner: Inner) -> tuple[Tells, int]:
    """Return the categories of a message's data, and the size of its known UUID, which stays (0: none)."""
    if kind == FILLER:
        return (UNKNOWN if payload.strip(b"\xff") else NOTHING), 0
    if kind == _T35:
        return registered_tells(payload, inner), 0
    if kind == UNREGISTERED:
        tells = _unregistered_tells(payload)
        if tells is None:
            return UNKNOWN, 0
        short = payload[:_SHORT_BYTES] in _SHORT
        within = _among_numbers(payload[_SHORT_BYTES:], inner) if short else NOTHING
        return tells | within | told_once(payload[_UUID_BYTES:], inner), 0 if within else _UUID_BYTES
    tells = MESSAGE_TELLS.get(kind, UNKNOWN) if len(payload) <= _MAX_NUMBERS_BYTES else UNKNOWN
    return tells | _among_numbers(payload, inner), 0


def _among_numbers(data: bytes, inner: Inner) -> Tells:
    return told_in_kept(data, inner.hide, inner.budget, numbers=True)


def registered_tells(payload: bytes, inner: Inner) -> Tells:
    """Return the categories of a message of ITU-T T.35, from its country's code on."""
    if payload.startswith(_ATSC + _CAPTIONS):
        count = payload[8] & 0x1F if len(payload) > 8 else 0
        known = len(payload) <= _CAPTIONS_AROUND_BYTES + count * _CAPTION_BYTES
    elif payload.startswith(_ATSC):
        known = _ATSC_FORMAT.fullmatch(payload) is not None
    else:
        known = len(payload) <= _MAX_REGISTERED_BYTES and payload.startswith(_RANGE)
    return _among_numbers(payload, inner) if known else UNKNOWN


def told_once(text: bytes, inner: Inner) -> Tells:
    """Return the categories of a message's text, which encoders repeat; UNKNOWN without a budget. A text that
    was searched counts, too: the result must not depend on earlier frames.
    """
    if not inner.budget.look(len(text)):
        return UNKNOWN
    known = inner.budget.told
    told = known.get(text)
    if told is None:
        if len(known) >= _MAX_KNOWN_TEXTS:
            known.clear()
        told = known[text] = told_in(text, inner.hide)
    return told


def _unregistered_tells(payload: bytes) -> Tells | None:
    if payload[:_SHORT_BYTES] in _SHORT and _UUID_BYTES <= len(payload) <= _UUID_BYTES + _MAX_COUNTER_BYTES:
        return MARK_TELLS
    return _UUIDS.get(payload[:_UUID_BYTES])


def _places(unit: bytes, header: int) -> Sequence[int]:
    """Return the offset in the unit of each byte of its payload that is no emulation prevention byte."""
    if _ESCAPED not in unit:
        return range(header, len(unit))
    places: list[int] = []
    at = header
    while (found := unit.find(_ESCAPED, at)) >= 0:
        places += range(at, found + 2)
        at = found + 3
    places += range(at, len(unit))
    return places


# --- neutral forms ---


@dataclass(frozen=True, slots=True)
class Blanked:
    """An SEI unit with blanks in place of hidden payloads, and the categories of these payloads: if those of
    some are known, only these. (A verdict searches what is not known, and finds no binary position.)"""

    data: bytes
    tells: Tells


def blanked(unit: bytes, header: int, inner: Inner) -> Blanked | None:
    """Return an SEI unit with blanks for hidden payloads; None if there are none. Raises TooMuchError."""
    out, told, known = bytearray(unit), NOTHING, NOTHING
    for message in messages(unit, header, inner):
        if message.tells & inner.hide:
            told |= message.tells
            known |= message.tells if message.tells != UNKNOWN else NOTHING
            places = message.places
            if isinstance(places, range):
                out[places.start : places.stop] = b" " * len(places)
                continue
            for at in places:
                out[at] = _BLANK
    if told == NOTHING:
        return None
    _escape_again(out, unit, header)
    data = bytes(out)
    return Blanked(data, known or told) if data != unit else None


def _escape_again(out: bytearray, unit: bytes, header: int) -> None:
    """Restore the zeros before emulation prevention bytes, and the small number behind, after blanking."""
    at = unit.find(_ESCAPED, header)
    while at >= 0:
        out[at : at + 2] = b"\0\0"
        if at + 3 < len(unit) and out[at + 3] == _BLANK != unit[at + 3]:  # a size of 32 stays
            out[at + 3] = 0 if out[at + 4 : at + 5] == b" " and unit[at + 4 : at + 7] != _ESCAPED else 1
        at = unit.find(_ESCAPED, at + 2)


def filled(unit: bytes, header: int, inner: Inner) -> bytes:
    """Return an SEI unit, or filler of the same size if a message in it must go. Raises TooMuchError."""
    kept = all(one.whole and not one.tells & inner.hide for one in messages(unit, header, inner))
    return unit if kept else unit[:header] + filler(len(unit) - header)


def filler(size: int) -> bytes:
    """Return filler messages (payload type 3) with the trailing bit; size bytes in all."""
    if size < 3:
        return _TRAILING.ljust(size, b"\0")
    room, lead = size - 1, b""
    while True:
        rest = room - len(lead) - 1  # bytes of the length and of the payload
        payload = rest - 1 - rest // 256
        lengths = b"\xff" * (payload // 255) + bytes((payload % 255,))
        if payload >= 0 and len(lengths) + payload == rest:
            return lead + bytes((FILLER,)) + lengths + b"\xff" * payload + _TRAILING
        if len(lead) >= 4 or room - len(lead) < 4:
            return _TRAILING.ljust(size, b"\0")
        lead += bytes((FILLER, 0))


MDPM: Final = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
"""First bytes of a message of camcorders (AVCHD): a UUID, and the name of a list of numbers about time, place
and camera. Source: lib/Image/ExifTool/H264.pm of ExifTool (names of the entries)."""
_ENTRY_BYTES: Final = 5
_NO_DATA: Final = b" "
_TELLS: Final = MappingProxyType(
    {
        **dict.fromkeys((0x13, 0x14, 0x18, 0x19), Tells.TIME),
        **dict.fromkeys((0x70, 0x71, 0x7F, *range(0xA0, 0xAB), 0xE1, 0xEE), Tells.OTHER),
        **dict.fromkeys(range(0xB0, 0xD0), Tells.LOCATION | Tells.TIME),
        **dict.fromkeys((0xE0, 0xE4, 0xE5, 0xE6), Tells.DEVICE),
    }
)
"""Number of an entry -> categories of its four bytes: times, exposure, GPS, and the camera."""


class Entry(NamedTuple):
    """An entry: its categories, and its range in the message."""

    tells: Tells
    start: int
    end: int


def mdpm_entries(payload: bytes) -> Iterator[Entry]:
    """Yield the entries of a message that begins with MDPM. Bytes that are no entry count as one."""
    at = len(MDPM) + 1
    for _ in range(payload[len(MDPM)] if len(payload) > len(MDPM) else 0):
        entry = payload[at : at + _ENTRY_BYTES]
        if len(entry) < _ENTRY_BYTES:
            break
        tells = NOTHING if not entry.strip(_NO_DATA) else _TELLS.get(entry[0], UNKNOWN)
        yield Entry(tells, at, at + _ENTRY_BYTES)
        at += _ENTRY_BYTES
    if payload[at:].strip(b"\0" + _NO_DATA):
        yield Entry(UNKNOWN, at, len(payload))
