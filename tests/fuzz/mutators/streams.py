"""MPEG streams and ASF: packets and objects, with their lengths and the checksums of their tables."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

from policyfs.redact.asf.objects import GUIDS
from policyfs.redact.mpeg.sections import checksum
from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, Part, change, some

_PACKET_BYTES = 188
_PIDS = (
    b"\x40\0\x10",
    b"\x41\0\x10",
    b"\x50\x11\x10",
    b"\x10\x11\x10",
    b"\x51\0\x10",
    b"\x52\0\x10",
    b"\x1f\xff\x10",
)
_CODES = tuple(
    b"\0\0\1" + bytes([code]) for code in (0xB9, 0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xBF, 0xC0, 0xE0, 0xFD, 0xFF)
)
_SECTION = re.compile(rb"[\x00\x02\x42\x7f][\xb0\xf0](?P<size>.)", re.DOTALL)
_HEADER_BYTES = 30
_GUIDS = (*GUIDS.values(), b"unknown object..")


def transport(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A transport stream after accidents to its packets."""
    clock = 4 * (data[4:5] == b"G" != data[:1])
    step = _PACKET_BYTES + clock
    parts = [
        Part(data[at + clock + 1 : at + clock + 4], data[at + clock + 4 : at + step])
        for at in range(0, len(data), step)
    ]
    for _ in some(rng):
        change(parts, _PIDS, rng, inside)
    room = _PACKET_BYTES - 4
    packets = [
        bytes(clock) + b"G" + part.name + _summed(part.body[:room].ljust(room, b"\xff")) for part in parts
    ]
    return b"".join(packets[: MOST_BYTES // step])


def _summed(body: bytes) -> bytes:
    """A payload with the right checksum in its first section."""
    found = _SECTION.match(body, 1)
    end = 0 if found is None else found.end() + found["size"][0]
    if not 8 < end <= len(body):
        return body
    return body[: end - 4] + checksum(body[1 : end - 4]) + body[end:]


def program(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A program stream after accidents to its packets."""
    starts = [found.start() for found in re.finditer(rb"\x00\x00\x01[\xb9-\xff]", data)]
    parts = []
    for at, end in pairwise([*starts, len(data)]):
        sized = data[at + 3] > 0xBA
        parts.append(Part(data[at : at + 4], data[at + 4 + 2 * sized : end]))
    for _ in some(rng):
        change(parts, _CODES, rng, inside)
    return b"".join(_packet(part) for part in parts) or data


def _packet(part: Part) -> bytes:
    if part.name[3:] <= b"\xba":
        return part.name + part.body
    return part.name + (max(0, len(part.body) + part.lie) & 0xFFFF).to_bytes(2) + part.body


def asf(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """An ASF file after accidents to the objects of its header, or to those behind."""
    end = min(len(data), int.from_bytes(data[16:24], "little"))
    header, behind = _objects(data[_HEADER_BYTES:end]), _objects(data[end:])
    for _ in some(rng):
        change(header if rng.random() < 0.8 else behind, _GUIDS, rng, inside)
    body = b"".join(map(_object, header))
    return _object(
        Part(data[:16].ljust(16, b"\0"), data[24:_HEADER_BYTES].ljust(6, b"\0") + body)
    ) + b"".join(map(_object, behind))


def _objects(data: bytes) -> list[Part]:
    parts, at = list[Part](), 0
    while at + 24 <= len(data):
        behind = min(len(data), at + max(24, int.from_bytes(data[at + 16 : at + 24], "little")))
        parts.append(Part(data[at : at + 16], data[at + 24 : behind]))
        at = behind
    return parts


def _object(part: Part) -> bytes:
    size = (24 + len(part.body) + part.lie) & 0xFFFFFFFFFFFFFFFF
    return part.name[:16].ljust(16, b"\0") + size.to_bytes(8, "little") + part.body
