"""The index of a Matroska file (Cues): a quick check that it has only numbers.

A film in which each frame is a key frame, or a long film with a key frame twice a second, has more elements
in its index than elements.Tree may walk. Source: RFC 9559 section 5.1.5.
"""

from __future__ import annotations

import re
from typing import Final

MAX_POINTS: Final = 200_000
"""Maximum number of entries that are checked: two hours of a film in which each frame is a key frame."""

_NUMBER: Final = b"(?:" + b"|".join(rb"%b.{%d}" % (bytes([0x80 | size]), size) for size in range(1, 9)) + b")"
"""Pattern of a number's size and data: one to eight bytes."""
_SIZE: Final = rb"(?P<size>[\x80-\xfe]|[\x40-\x7e].|\x01\0{5}..)"
_CHECKSUM: Final = re.compile(rb"\xbf\x84.{4}", re.DOTALL)
_POINT: Final = re.compile(rb"\xbb" + _SIZE + rb"\xb3" + _NUMBER, re.DOTALL)
"""Pattern of a CuePoint's header and its CueTime."""
_POSITIONS: Final = re.compile(
    rb"\xb7" + _SIZE + rb"(?P<numbers>(?:(?:[\xf7\xf1\xf0\xb2]|\x53\x78)" + _NUMBER + rb")+)", re.DOTALL
)
"""Pattern of CueTrackPositions with its numbers: track, cluster, position, duration, block."""


def are_plain(data: bytes) -> bool:
    """Return True if each byte of an index belongs to an entry in the usual form: elements with numbers.

    data: the data of a Cues element. Such an index has nothing that elements.Tree removes. Return False for
    any other form, and for too many entries.
    """
    checksum = _CHECKSUM.match(data)
    at, count = checksum.end() if checksum else 0, 0
    while at < len(data):
        count += 1
        point = _POINT.match(data, at)
        if point is None or count > MAX_POINTS:
            return False
        end = at = point.end()
        while (positions := _POSITIONS.match(data, at)) is not None:
            if positions.end() - positions.start("numbers") != _size(positions):
                return False
            at = positions.end()
        if at == end or at - point.end("size") != _size(point):
            return False
    return bool(count)


def _size(found: re.Match[bytes]) -> int:
    size = found["size"]
    return int.from_bytes(size) & ((1 << 7 * len(size)) - 1)
