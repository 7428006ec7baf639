"""Trailers: blocks with metadata that programs append to photos of any format, such as AFCP and MIE.

A trailer ends with a mark and its size, so readers find it from the end of the file. No tag of the photo
states where the trailer starts. The documentation of ExifTool describes the layouts.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.patches import ByteSource

MAX_TRAILERS: Final = 16
"""Maximum number of trailers, one behind another, that are searched."""
MAX_MOVED_BYTES: Final = 1 << 20
"""Maximum distance from the end of the file to the start of an AFCP trailer whose stored offset is wrong."""
_TAIL_BYTES: Final = 64

_AFCP: Final = re.compile(rb"(?P<mark>AXS[!*])(?P<offset>.{4}).{4}\Z", re.DOTALL)
_SIZED: Final = tuple(
    (re.compile(pattern + rb"\Z", re.DOTALL), more)
    for pattern, more in (
        (rb"(?P<big>.{4})cbipcbbl", 12),  # Photo Mechanic
        (rb"(?P<big>.{4})\xa1\xb2\xc3\xd4", 0),  # FotoStation: one record
        (rb"~\0\0\x06(?:(?P<big>.{4})\x10|(?P<little>.{4})\x18)\x04", 0),  # MIE
        (rb"~\0\0\x0a(?:(?P<big>.{8})\x10|(?P<little>.{8})\x18)\x08", 0),
    )
)
"""Patterns of the last bytes of a trailer, and the number of bytes that the size in them does not count."""


def end_without_trailers(source: ByteSource) -> int:
    """Return the offset at which the trailers at the end of a file start.

    Return the file's size if it has no trailer.
    """
    end = source.size
    for _ in range(MAX_TRAILERS):
        start = _start(source, end)
        if start is None:
            break
        end = start
    return end


def _start(source: ByteSource, end: int) -> int | None:
    at = max(0, end - _TAIL_BYTES)
    tail = source.read(at, end - at)
    if match := _AFCP.search(tail):
        return _start_of_afcp(source, end, match)
    for pattern, more in _SIZED:
        if match := pattern.search(tail):
            found = match.groupdict()
            little = found.get("little")
            size = int.from_bytes(little, "little") if little else int.from_bytes(found["big"])
            if len(match[0]) <= size + more < end:
                return end - size - more
    return None


def _start_of_afcp(source: ByteSource, end: int, match: re.Match[bytes]) -> int:
    """Return the offset of an AFCP trailer: the stored one, or the first mark in the last MAX_MOVED_BYTES, as
    readers do.
    """
    mark = match["mark"]
    start = int.from_bytes(match["offset"], "big" if mark.endswith(b"!") else "little")
    if start < end and source.read(start, len(mark)) == mark:
        return start
    near = max(0, end - MAX_MOVED_BYTES)
    return near + source.read(near, end - near).index(mark)
