"""MPEG streams: packets, with their lengths and the checksums of their tables."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

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
