"""Tags in the coded sound of a film: ID3, APE, Lyrics3 and blocks of metadata between the frames of a stream.

A program that copies a stream of MP3 out of a film writes its chunks one behind the other, and readers of MP3
find tags between the frames. Source of the codes of formats: RFC 2361.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES
from policyfs.redact.tags.id3 import HEAD_BYTES, tag_size

PLAIN: Final = frozenset(
    {0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0010, 0x0011, 0x0012, 0x0014, 0x0016, 0x0017, 0x0020, 0x0022}
    | {0x0031, 0x0040, 0x0045, 0x0062, 0x0064, 0x0065, 0x0069, 0x0085}
)
"""Codes of formats that pack each sample or block by itself (PCM, ADPCM, GSM, G.72x): they have no tags."""
TAG_START: Final = re.compile(
    rb"ID3[\2-\4][\0-\x0f][\0-\xff][\0-\x7f]{4}|APETAGEX....|LYRICSBEGIN"
    rb"|<x:xmpmeta|<\?xpacket|Exif\0\0|jumb....jumd|\x03vorbis..\0\0|OpusTags..\0\0",
    re.DOTALL,
)
"""Starts of tags. Coded sound has none of them by chance."""
_LONGEST_START: Final = 16
_HINTS: Final = (b"ID3", b"APETAG", b"LYRICS", b"<x:", b"<?x", b"Exif", b"jumd", b"vorbis", b"OpusTa")
"""Parts of each TAG_START. A search for them all is much faster than the pattern."""
_CHEAP: Final = 8
"""So many bytes of sound cost as much as one byte of another search."""
_APE: Final = b"APETAGEX"
_APE_BYTES: Final = 32
_APE_HEADER: Final = 0x20
_OLD: Final = b"TAG"
_OLD_BYTES: Final = 128 + 227
"""The size of an ID3v1 tag with its extension (TAG+) before it. Readers find shorter ones, too."""


def may_begin_tag(lead: bytes) -> bool:
    """Return True if a tag may begin in the bytes that a container leaves out before each frame."""
    ends = [lead[at:] for at in range(len(lead))]
    return any(hint in lead or hint.startswith(end) for hint in (*_HINTS, _OLD) for end in ends)


@dataclass(slots=True)
class StreamSound:
    """The sound of one stream of a film. Its chunks are searched one by one for tags, in their order.

    carry: the end of the part before, in which a tag may begin. endless: True if a tag in the last chunk may
    go on in the next one. starts: the pattern of bytes that zeros in place of a tag must not complete.
    """

    edits: Edits
    starts: re.Pattern[bytes] = TAG_START
    carry: bytes = b""
    endless: bool = False
    _before: bytes = b""
    """The carry at the start of the chunk; empty behind a tag."""
    _stays: int = 0
    """The chunk's start, or the end of the last tag in it: from there on its bytes stay."""
    _last: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        """Clean the chunk [start, end). Raises TooMuchError; NotThisKindError for a tag in two chunks."""
        if self.endless and start < end:
            raise NotThisKindError("a tag in its sound may go on in the next chunk")
        at = self._stays = start
        self._before = self.carry
        while at < end:
            at = self._add(at, start, end)

    def _add(self, at: int, start: int, end: int) -> int:
        """Clean a part of the chunk [start, end), from *at* up to the first tag. Return the part's end."""
        size = min(CHUNK_BYTES, end - at)
        self.edits.inner.budget.search(size // _CHEAP)
        new = self.edits.source.read(at, size)
        data, base = self.carry + new, at - len(self.carry)
        found = TAG_START.search(data) if any(hint in data for hint in _HINTS) else None
        if found is None:
            self.carry = data[-_LONGEST_START:]
            self._keep(at, new)
            return at + size
        first = base + found.start()
        length = _size_of(self.edits.source.read(first, _APE_BYTES))
        self.endless, behind = not length, first + length if length else end
        first = self._extended(first)
        if first < start or behind > end:
            raise NotThisKindError("a tag in its sound is cut into two chunks")
        self._keep(at, new[: max(0, first - at)])
        if first < at:  # in the part before, which _last holds
            self._last = [(start, part[: max(0, first - start)]) for start, part in self._last]
        self._zero_old()
        self.edits.zero(first, behind, "tag in the sound")
        self.carry = self._before = b""
        self._stays = behind
        return behind

    def _extended(self, first: int) -> int:
        """Return the start of the bytes to zero, if a tag begins at *first*: also those before go that would
        begin a tag with zeros behind, such as `Exif`."""
        while first >= self._stays:
            self.edits.inner.budget.search(_LONGEST_START)
            low = max(self._stays, first - _LONGEST_START)
            lead = (self._before if low == self._stays else b"") + self.edits.source.read(low, first - low)
            longer = self._begun_by(lead)
            if not longer:
                break
            first -= longer
        return first

    def finish(self) -> None:
        """Clean the old tag (ID3v1) at the end of the stream."""
        self._zero_old()

    def _keep(self, at: int, data: bytes) -> None:
        """Remember the last bytes that stay. An old tag may be in several chunks."""
        self._last.append((at + max(0, len(data) - _OLD_BYTES), data[-_OLD_BYTES:]))
        while sum(len(part) for _, part in self._last[1:]) >= _OLD_BYTES:
            del self._last[0]

    def _zero_old(self) -> None:
        """Zero the old tag at the end of the bytes that stay. Players find it also before another tag."""
        data = b"".join(part for _, part in self._last)
        old = data.find(_OLD, max(0, len(data) - _OLD_BYTES))
        while old > 0 and (longer := self._begun_by(data[max(0, old - _LONGEST_START) : old])):
            old -= longer
        for at, part in self._last if old >= 0 else ():
            self.edits.zero(at + max(0, min(old, len(part))), at + len(part), "tag in the sound")
            old -= len(part)
        self._last = []

    def _begun_by(self, lead: bytes) -> int:
        """Return how many bytes at the end of *lead* would begin a tag with zeros behind them."""
        found = self.starts.search(lead + bytes(_LONGEST_START))
        return len(lead) - found.start() if found else 0


def _size_of(head: bytes) -> int:
    """Return the size of a tag by its first 32 bytes, or 0. Raises NotThisKindError for an APE tag's end."""
    if not head.startswith(_APE):
        return tag_size(head[:HEAD_BYTES])
    if len(head) < _APE_BYTES:
        return 0
    if not head[23] & _APE_HEADER:
        raise NotThisKindError("a tag in its sound has no start")
    return _APE_BYTES + int.from_bytes(head[12:16], "little")
