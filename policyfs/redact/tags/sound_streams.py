"""Tags in the coded sound of a film: ID3, APE, Lyrics3 and blocks of metadata between the frames of a stream.

A program that copies a stream of MP3 out of a film writes its chunks one behind the other, and readers of MP3
find tags between the frames.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES
from policyfs.redact.tags.id3 import HEAD_BYTES, tag_size

TAG_START: Final = re.compile(
    rb"ID3[\2-\4][\0-\x0f][\0-\xff][\0-\x7f]{4}|APETAGEX[\xd0\xe8]\x07\0\0|LYRICSBEGIN"
    rb"|<x:xmpmeta|<\?xpacket|Exif\0\0|jumb....jumd|\x03vorbis..\0\0|OpusTags..\0\0",
    re.DOTALL,
)
"""Starts of tags. Coded sound has none of them by chance."""
LONGEST_TAG: Final = 16
_HINTS: Final = (b"ID3", b"APETAG", b"LYRICS", b"<x:", b"<?x", b"Exif", b"jumd", b"vorbis", b"OpusTa")
"""Parts of each TAG_START. A search for them all is much faster than the pattern."""
_CHEAP: Final = 8
"""So many bytes of sound cost as much as one byte of another search."""
_APE: Final = b"APETAGEX"
_APE_BYTES: Final = 32
_APE_HEADER: Final = 0x20
OLD_TAG: Final = b"TAG"
OLD_BYTES: Final = 128


@dataclass(slots=True)
class StreamSound:
    """The sound of one stream of a film. Its chunks are searched one by one for tags, in their order.

    carry: the end of the chunk before, in which a tag may begin. start, end: the part of the last chunk that
    stays. endless: True if a tag in the last chunk may go on in the next one.
    """

    edits: Edits
    carry: bytes = b""
    start: int = 0
    end: int = 0
    endless: bool = False

    def add(self, start: int, end: int) -> None:
        """Clean the chunk [start, end). Raises TooMuchError; NotThisKindError if a tag may be in two chunks.
        """
        self.start = start
        for at in range(start, end, CHUNK_BYTES):
            self._add(at, min(at + CHUNK_BYTES, end))

    def _add(self, start: int, end: int) -> None:
        if self.endless:
            raise NotThisKindError("a tag in its sound may go on in the next chunk")
        self.edits.inner.budget.search((end - start) // _CHEAP)
        data, before, at = self.carry + self.edits.source.read(start, end - start), len(self.carry), 0
        found = TAG_START.search(data) if any(hint in data for hint in _HINTS) else None
        while found is not None:
            first, size = found.start(), _size_of(data, found.start())
            self.endless = not size
            if first < before or first + size > len(data):
                raise NotThisKindError("a tag in its sound is cut into two chunks")
            at = first + size if size else len(data)
            self.edits.zero(start + first - before, start + at - before, "tag in the sound")
            found = TAG_START.search(data, at)
        self.carry = data[max(at, len(data) - LONGEST_TAG) :]
        self.start, self.end = max(self.start, start + at - before), end

    def finish(self) -> None:
        """Clean the old tag (ID3v1) at the end of the stream."""
        tag = self.end - OLD_BYTES
        if tag >= self.start and self.edits.source.read(tag, len(OLD_TAG)) == OLD_TAG:
            self.edits.zero(tag, self.end, "tag in the sound")


def _size_of(data: bytes, at: int) -> int:
    """Return the size of the tag at an offset; 0 if it states none. Raises NotThisKindError for the end of an
    APE tag without a start.
    """
    head = data[at : at + _APE_BYTES]
    if not head.startswith(_APE):
        return tag_size(head[:HEAD_BYTES])
    if len(head) < _APE_BYTES:
        return 0
    if not head[23] & _APE_HEADER:
        raise NotThisKindError("a tag in its sound has no start")
    return _APE_BYTES + int.from_bytes(head[12:16], "little")
