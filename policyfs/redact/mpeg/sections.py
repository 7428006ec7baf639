"""Tables of transport streams, and of program streams (ISO/IEC 13818-1, 2.4.4; EN 300 468).

A table is in *sections*, each with a checksum. A section names the streams of a film, and *descriptors* say
more about them. Numbers stay. Descriptors that may hold texts, and unknown ones, become stuffing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams.nal_units import AVC, HEVC, MPEG
from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Inner, NotThisKindError
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.tag_names import told

HEAD_BYTES: Final = 3
SUM_BYTES: Final = 4
PROGRAMS, PROGRAM, SERVICES = 0x00, 0x02, (0x42, 0x46)
"""Numbers of tables: the list of programs (PAT), a program (PMT), services (SDT)."""
_LIST_AT: Final = 8
VIDEO: Final = MappingProxyType(
    {
        **dict.fromkeys((0x01, 0x02, 0x10), MPEG.name),
        **dict.fromkeys((0x1B, 0x1F, 0x20), AVC.name),
        **dict.fromkeys((0x24, 0x25), HEVC.name),
    }
)
"""Type of a stream of pictures -> its codec."""
_OTHER_VIDEO: Final = frozenset({0x1E, 0x21, 0x32, 0x33, 0x42, 0xD1, 0xD2, 0xD4, 0xEA})
"""Types of pictures that policyfs does not search: VVC, AVS, VC-1, Dirac and others."""
SOUND: Final = frozenset({0x03, 0x04, 0x0F, 0x11, 0x81, 0x87, 0x8A})
_DISC_SOUND: Final = frozenset({0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0xA1, 0xA2})
"""Types of sound on discs, and in files of AVCHD. In other files they have other meanings."""
_DISC: Final = b"HDMV"
_PRIVATE: Final = 0x06
_REGISTRATION: Final = 0x05
_SOUND_NAMES: Final = frozenset({b"AC-3", b"EAC3", b"Opus", b"BSSD", b"DTS1", b"DTS2", b"DTS3"})
_SOUND_TAGS: Final = frozenset({0x6A, 0x7A, 0x7B, 0x7C})
_LANGUAGES: Final = MappingProxyType(
    {
        0x0A: re.compile(rb"(?:[A-Za-z]{3}.|\x00{4})*", re.DOTALL),
        0x56: re.compile(rb"(?:[A-Za-z]{3}..)*", re.DOTALL),
        0x59: re.compile(rb"(?:[A-Za-z]{3}.{5})*", re.DOTALL),
    }
)
"""Number of a descriptor with languages (of sound, teletext, subtitles) -> pattern of its bytes."""
_KEPT: Final = MappingProxyType(
    {
        tag: most
        for most, tags in (
            (1, (0x03, 0x06, 0x11, 0x52, 0x65, 0x70)),
            (4, (0x0B, 0x0C, 0x0E, 0x0F, 0x12, 0x13, 0x1B, 0x1C, 0x28, 0x2A, 0x2B, 0x5F, 0x7C, 0x7F, 0x88)),
            (8, (0x02, _REGISTRATION, 0x09, 0x10, 0x66, 0x6A, 0x7A, 0x7B, 0x81)),
            (15, (0x14, 0x25, 0x26, 0x27, 0x38, 0x45, 0x6F)),
            (40, (0x0A, 0x56, 0x59)),
        )
        for tag in tags
    }
)
"""Number of a descriptor of numbers or short codes -> maximum number of its bytes."""
_SERVICE: Final = 0x48
_SERVICE_TELLS: Final = Tells.PEOPLE | Tells.DEVICE | Tells.OTHER
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_SELECTION: Final = re.compile(rb"\x7f.{7}\xf0\x0a\x63\x08.{8}(?:..\x80\0)*.{4}", re.DOTALL)
"""Pattern of a table of recorders (SIT) with no more than rates."""


class Streams(NamedTuple):
    """The streams of one program. streams: number of a stream (PID) -> codec of its pictures; "" for sound;
    None for data of any other sort."""

    streams: dict[int, str | None]
    data: bytes


def checksum(data: bytes) -> bytes:
    """Return the checksum of a section (CRC-32 of MPEG-2)."""
    number = zlib.crc32(data.translate(_REVERSED)) ^ 0xFFFFFFFF
    return number.to_bytes(4, "little").translate(_REVERSED)


def section_size(head: bytes) -> int:
    """Return the size in bytes of a section that begins with these 3 bytes."""
    return HEAD_BYTES + (int.from_bytes(head[1:3]) & 0xFFF)


def programs(section: bytes, inner: Inner) -> frozenset[int] | None:
    """Return the PIDs of the tables of programs that a PAT lists; None if it is no valid PAT.

    Raises NotThisKindError if it holds metadata or tells a place.
    """
    rest = section[_LIST_AT:-SUM_BYTES]
    if section[:1] != bytes((PROGRAMS,)) or len(section) < 12 or len(rest) % 4 or not _is_sound(section):
        return None
    _finished(bytearray(section), section, inner)
    listed = [(rest[at : at + 2], int.from_bytes(rest[at + 2 : at + 4])) for at in range(0, len(rest), 4)]
    return frozenset(pid & 0x1FFF for number, pid in listed if number != b"\0\0")


def program(section: bytes, inner: Inner) -> Streams | None:
    """Return the streams that a PMT lists, and the PMT without texts; None if it is no valid PMT.

    Raises NotThisKindError if it lists pictures of a codec that policyfs does not search, or if a number in
    it tells a place.
    """
    if section[:1] != bytes((PROGRAM,)) or len(section) < 16 or not _is_sound(section):
        return None
    out, end, streams = bytearray(section), len(section) - SUM_BYTES, dict[int, str | None]()
    at = 12 + (int.from_bytes(section[10:12]) & 0xFFF)
    described = _descriptors(out, 12, min(at, end))
    if at > end or described is None:
        return None
    disc = any(tag == _REGISTRATION and body.startswith(_DISC) for tag, body in described)
    while at < end:
        size = int.from_bytes(section[at + 3 : at + 5]) & 0xFFF
        described = _descriptors(out, at + 5, at + 5 + size) if at + 5 + size <= end else None
        if described is None:
            return None
        pid = int.from_bytes(section[at + 1 : at + 3]) & 0x1FFF
        of_disc = disc or any(tag == _REGISTRATION and body.startswith(_DISC) for tag, body in described)
        streams[pid] = _codec(section[at], described, disc=of_disc)
        at += 5 + size
    return Streams(streams, _finished(out, section, inner))


def _finished(out: bytearray, section: bytes, inner: Inner) -> bytes:
    """Return a cleaned section with its checksum. Raises NotThisKindError if it still tells a place."""
    if out != section:
        out[-SUM_BYTES:] = checksum(bytes(out[:-SUM_BYTES]))
    if told_in_kept(bytes(out), inner.hide & Tells.LOCATION, inner.budget, numbers=True):
        raise NotThisKindError("a table of its streams holds metadata")
    return bytes(out)


def _is_sound(section: bytes) -> bool:
    return bool(section[1] & 0x80) and checksum(section[:-SUM_BYTES]) == section[-SUM_BYTES:]


def _descriptors(data: bytearray, at: int, end: int) -> list[tuple[int, bytes]] | None:
    """Return the descriptors in [at, end), and replace those that may hold texts by stuffing. Return None if
    they do not fill the range."""
    found: list[tuple[int, bytes]] = []
    while at + 2 <= end:
        tag, behind = data[at], at + 2 + data[at + 1]
        if behind > end:
            return None
        body = bytes(data[at + 2 : behind])
        found.append((tag, body))
        if len(body) > _KEPT.get(tag, 0) or not _has_languages(tag, body):
            data[at + 2 : behind] = b"\xff" * len(body)
        at = behind
    return found if at == end else None


def _has_languages(tag: int, body: bytes) -> bool:
    form = _LANGUAGES.get(tag)
    return form is None or form.fullmatch(body) is not None


def _codec(number: int, described: list[tuple[int, bytes]], *, disc: bool) -> str | None:
    names = {body[:4] for tag, body in described if tag == _REGISTRATION}
    if number in _OTHER_VIDEO or b"VC-1" in names or b"AV01" in names:
        raise NotThisKindError(f"policyfs does not know how to search pictures of the type 0x{number:02x}")
    if number in VIDEO:
        return VIDEO[number]
    if number == _PRIVATE:
        if b"HEVC" in names:
            return HEVC.name
        return "" if names & _SOUND_NAMES or any(tag in _SOUND_TAGS for tag, _ in described) else None
    return "" if number in SOUND or (disc and number in _DISC_SOUND) else None


def services(section: bytes, inner: Inner) -> Tells:
    """Return the categories of the names in a table of services; all if it holds more than names."""
    hide, found, end = inner.hide, NOTHING, len(section) - SUM_BYTES
    at = 11
    if section[0] not in SERVICES or len(section) < 15 or not _is_sound(section):
        return hide
    while at + 5 <= end:
        size = int.from_bytes(section[at + 3 : at + 5]) & 0xFFF
        for tag, body in _plain(section[at + 5 : min(end, at + 5 + size)]):
            if tag != _SERVICE:
                return hide
            found |= told(hide, _SERVICE_TELLS, body[1:], inner.budget)
        at += 5 + size
    return found if at == end else hide


def _plain(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield descriptors; the bytes that are none as one with the number -1."""
    at = 0
    while at < len(data):
        behind = at + 2 + data[at + 1] if at + 2 <= len(data) else len(data) + 1
        if behind > len(data):
            yield -1, data[at:]
            return
        yield data[at], data[at + 2 : behind]
        at = behind


def is_selection(section: bytes) -> bool:
    """Return True for a table of a recorder (SIT) that holds only rates."""
    return _SELECTION.fullmatch(section) is not None and _is_sound(section)


def stream_map(body: bytes, inner: Inner) -> Streams | None:
    """Return the streams that the map of a program stream lists (by their numbers), and the map without
    texts; None if it is not valid. body: the map, from its start code on.
    """
    out, end = bytearray(body), len(body) - SUM_BYTES
    if len(body) < 16 or checksum(body[:end]) != body[end:]:
        return None
    listed = 12 + int.from_bytes(body[8:10])
    info = _descriptors(out, 10, listed - 2) if listed <= end else None
    if info is None or listed + int.from_bytes(body[listed - 2 : listed]) != end:
        return None
    streams, at = dict[int, str | None](), listed
    while at + 4 <= end:
        size = int.from_bytes(body[at + 2 : at + 4])
        described = _descriptors(out, at + 4, at + 4 + size) if at + 4 + size <= end else None
        if described is None:
            return None
        streams[body[at + 1]] = _codec(body[at], described, disc=False)
        at += 4 + size
    return Streams(streams, _finished(out, body, inner)) if at == end else None
