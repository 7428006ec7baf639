"""The index of a Matroska file (Cues): a quick check that it has only numbers.

Some indexes have more elements than elements.Tree may walk: for example if each frame of a film is a key
frame, or if a long film has a key frame twice a second. Source: RFC 9559 section 5.1.5.
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
_ONE_NUMBER: Final = re.compile(rb"(?:[\xf7\xf1\xf0\xb2]|\x53\x78)" + _NUMBER, re.DOTALL)
_CLUSTER_POSITION: Final = b"\xf1"
_POINT: Final = re.compile(rb"\xbb" + _SIZE + rb"\xb3" + _NUMBER, re.DOTALL)
"""Pattern of a CuePoint's header and its CueTime."""
_POSITIONS: Final = re.compile(
    rb"\xb7" + _SIZE + rb"(?P<numbers>(?:" + _ONE_NUMBER.pattern + rb")+)", re.DOTALL
)
"""Pattern of CueTrackPositions with its numbers: track, cluster, position, duration, block."""


def cluster_positions(data: bytes) -> set[bytes] | None:
    """Return the positions of clusters (the bytes of the numbers) in an index in the usual form.

    data: the data of a Cues element. In the usual form each byte belongs to an entry, and entries consist of
    elements with numbers. So elements.Tree must check only the positions. Return None for any other form, and
    for too many entries.
    """
    found: set[bytes] = set()
    checksum = _CHECKSUM.match(data)
    at, count = checksum.end() if checksum else 0, 0
    while at < len(data):
        count += 1
        point = _POINT.match(data, at)
        if point is None or count > MAX_POINTS:
            return None
        end = at = point.end()
        while (positions := _POSITIONS.match(data, at)) is not None:
            if positions.end() - positions.start("numbers") != _size(positions):
                return None
            numbers = _ONE_NUMBER.findall(positions["numbers"])
            found |= {number[2:] for number in numbers if number.startswith(_CLUSTER_POSITION)}
            at = positions.end()
        if at == end or at - point.end("size") != _size(point):
            return None
    return found if count else None


def _size(found: re.Match[bytes]) -> int:
    size = found["size"]
    return int.from_bytes(size) & ((1 << 7 * len(size)) - 1)
