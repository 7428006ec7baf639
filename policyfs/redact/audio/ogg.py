"""Ogg files (RFC 3533) with Vorbis, Opus, Speex, FLAC, and Theora streams.

The locator joins the headers of each logical stream from their pages, cleans them, and puts them back into
the same bytes. If a comment list is shorter than before, zeros follow it within its packet; all these codecs
allow such zeros. Checksums of changed pages are computed again. Of pages with sound and pictures only the
headers and the first bytes are read. In Vorbis and Theora streams the first byte of each packet is read, too.
A file with comments among its sound or pictures, or with an ID3v1, APE or Lyrics3 tag at the end of its last
page, is refused. Streams of captions become zeros, and so do bytes between pages.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Final

from policyfs.redact.audio.flac import COMMENTS, PADDING, PICTURE, SEEKTABLE, seeks_only
from policyfs.redact.audio.ogg_pages import (
    CAPTURE,
    CONTINUED,
    FIRST,
    HEAD_BYTES,
    LAST,
    Page,
    first_bytes,
    page_checksum,
    walk,
)
from policyfs.redact.core.appended import find_appended
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, shifted
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import ByteSource, MemorySource, apply
from policyfs.redact.core.tag_names import told
from policyfs.redact.tags.vorbis import clean_comments, clean_picture

_OTHER_STREAMS: Final = (b"\x80kate", b"CMML", b"\x01text", b"Annodex", b"fishead\0")
"""First bytes of streams that are not played: captions, and what Skeleton says of the others."""
_COMMENT_HEADS: Final = {
    b"vorbis": b"\x03vorbis",
    b"theora": b"\x81theora",
    b"Opus": b"OpusTags",
    b"Speex": b"",
}
_WITH_TABLES: Final = frozenset({b"\x03vorbis", b"\x81theora"})
"""Heads of the comments of codecs whose next header holds the decoder's tables."""
_COMMENT_MARKS: Final = {b"vorbis": b"\x03", b"theora": b"\x81"}
"""Codec -> first byte of a packet of comments, and of no other: FFmpeg looks at no other byte."""
_COMMENTS: Final = re.compile(rb"\x03vorbis|\x81theora|OpusTags|\x7fFLAC")
"""Starts of pages that exiftool takes for comments, even if the stream has another codec."""
_AMONG_MEDIA: Final = "comments are among its sound or pictures"
_FIRST_HEADS: Final = {
    b"\x01vorbis": b"vorbis",
    b"OpusHead": b"Opus",
    b"Speex   ": b"Speex",
    b"\x7fFLAC": b"FLAC",
    b"\x80theora": b"theora",
}
_FLAC_FIRST: Final = re.compile(rb"\x7fFLAC.{4}fLaC.\0\0\x22.{34}", re.DOTALL)
_FIRST_BYTES: Final = {b"vorbis": 30, b"Opus": 19, b"Speex": 80, b"FLAC": 51, b"theora": 42}
"""Name of each codec -> length in bytes of its first header. In Opus, a table of channels may follow."""
_SPEEX_VERSION: Final = slice(8, 28)


@dataclass(slots=True)
class _Stream:
    """A logical stream. pieces, starts, size: of the current packet, in the file and in the packet. done:
    behind the headers. ended: behind the last page.
    """

    codec: bytes
    packets: int = 0
    done: bool = False
    ended: bool = False
    pieces: list[tuple[int, int]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, at: int, size: int) -> None:
        self.pieces.append((at, size))
        self.starts.append(self.size)
        self.size += size

    def end(self) -> None:
        self.pieces, self.starts, self.size = [], [], 0


def locate_ogg(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an Ogg file. Raises NotThisKindError, TooMuchError."""
    return _Locator(Edits(source, inner, "Ogg")).locate()


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.inner = edits.inner
        self.streams: dict[int, _Stream | None] = {}
        """Serial number of a stream -> the stream; None if the pages of the stream become zeros."""
        self.pages: list[Page] = []
        """Pages of headers and of removed streams. If they change, their checksums are computed again."""
        self.media = 0
        self.end = 0
        """The end of the last page in bytes."""

    def locate(self) -> Found:
        for part in walk(self.edits):
            if isinstance(part, Page):
                self._page(part)
            elif not self._is_cut_page(*part):
                self.edits.zero(*part, "between pages")
        if not self.media:
            raise NotThisKindError("there is no stream of sound or pictures in it")
        self._check_end()
        for stream in self.streams.values():
            if stream is not None:
                self._lost(stream)
        self._renew()
        return self.edits.found

    def _check_end(self) -> None:
        """Raise NotThisKindError if a tag that exiftool reads (ID3v1, APE, Lyrics3) is in the last page."""
        size = self.edits.source.size
        tail = self.edits.source.read(max(0, size - 128), 128)
        at_end = self.end == size and (
            tail[-32:-24] == b"APETAGEX" or tail.endswith((b"LYRICS200", b"LYRICSEND"))
        )
        if at_end or (tail.startswith(b"TAG") and len(tail) == 128 and size - 128 < self.end):
            raise NotThisKindError("a tag of another format ends its last page")

    def _is_cut_page(self, start: int, end: int) -> bool:
        """Return True if bytes at the end of the file are a page of sound or pictures that is cut off."""
        head = self.edits.source.read(start, HEAD_BYTES + 255)
        if end != self.edits.source.size or len(head) < HEAD_BYTES or head[:5] != CAPTURE + b"\0":
            return False
        stream = self.streams.get(int.from_bytes(head[14:18], "little"))
        lacing = head[HEAD_BYTES : HEAD_BYTES + head[26]]
        short = len(lacing) < head[26] or start + HEAD_BYTES + len(lacing) + sum(lacing) > end
        body = min(start + HEAD_BYTES + len(lacing), end)
        if not short or stream is None or not stream.done or stream.ended or head[5] & FIRST:
            return False
        if find_appended(self.edits.source, body, end, self.inner.budget) is not None:
            return False
        self._check(Page(start, head[5], 0, lacing, body, end), stream)
        self.end = end
        return True

    def _page(self, page: Page) -> None:
        self.end = page.end
        if page.flags & FIRST:
            self._begin(page)
        stream = self.streams.get(page.serial)
        if stream is None or stream.ended:
            self.inner.budget.part(2)
            tag = "page" if stream is not None or page.serial not in self.streams else "other stream"
            self.edits.zero(page.start, page.end, tag)
            self.pages.append(page)
            return
        stream.ended = bool(page.flags & LAST)
        if not stream.done:
            self.inner.budget.part(2)
            self.pages.append(page)
            self._packets(page, stream)
        else:
            self._check(page, stream)

    def _check(self, page: Page, stream: _Stream) -> None:
        """Raise NotThisKindError if a packet of comments starts on a page of sound or pictures."""
        mark = _COMMENT_MARKS.get(stream.codec)
        start = self.edits.source.read(page.start, 8)
        found = not page.flags & CONTINUED and _COMMENTS.match(start) is not None
        if found or (mark is not None and mark in first_bytes(page, self.edits.source)):
            raise NotThisKindError(_AMONG_MEDIA)

    def _begin(self, page: Page) -> None:
        """Start a logical stream by its first bytes. Raises NotThisKindError for an unknown codec."""
        before = self.streams.get(page.serial)
        if before is not None:
            self._lost(before)
        ended = next((n for n, lace in enumerate(page.lacing) if lace < 255), len(page.lacing))
        head = self.edits.source.read(page.start, min(16, sum(page.lacing[: ended + 1])))
        codec = next((codec for mark, codec in _FIRST_HEADS.items() if head.startswith(mark)), None)
        if codec is not None:
            self.media += 1
            self.streams[page.serial] = _Stream(codec)
        elif head.startswith(_OTHER_STREAMS) or not head.strip(b"\0"):
            self.streams[page.serial] = None
        else:
            raise NotThisKindError("a stream in it has an unknown codec")

    def _packets(self, page: Page, stream: _Stream) -> None:
        if not page.flags & CONTINUED and stream.pieces:
            self._lost(stream)
        # True if the page starts with the rest of a packet, and _lost() has removed the start of this packet
        # (too long, or without an end).
        stray = bool(page.flags & CONTINUED) and not stream.pieces and stream.packets > 0
        at, length = page.start, 0
        for number, lace in enumerate(page.lacing, start=1):
            length += lace
            if lace == 255:
                continue
            if stray:
                self.edits.zero(at, at + length, "header", broken=True)
                stray = False
            else:
                stream.add(at, length)
                self._packet(stream)
                stream.end()
            at, length = at + length, 0
            if stream.done:
                self._check(replace(page, flags=0, lacing=page.lacing[number:], start=at), stream)
                return
        if length and stray:
            self.edits.zero(at, at + length, "header", broken=True)
        elif length:
            stream.add(at, length)
            if stream.size > MAX_BLOCK_BYTES:
                self._lost(stream)
                stream.packets += 1

    def _lost(self, stream: _Stream) -> None:
        """Zero a header packet without an end, or too long. Raises NotThisKindError for a first header."""
        if stream.pieces and not stream.packets:
            raise NotThisKindError("the first header of a stream has no end, or is too long")
        for at, size in stream.pieces:
            self.edits.zero(at, at + size, "header", broken=True)
        stream.end()

    def _packet(self, stream: _Stream) -> None:
        number, stream.packets = stream.packets, stream.packets + 1
        data = b"".join(self.edits.source.read(at, size) for at, size in stream.pieces)
        new = self._cleaned(stream, number, data)
        if new is None:
            if data.strip(b"\0"):
                self._note(stream, 0, len(data), "header", UNKNOWN, broken=True)
            new = bytes(len(data))
        done = 0
        for at, size in stream.pieces:
            self.edits.put(at, data[done : done + size], new[done : done + size])
            done += size

    def _note(
        self, stream: _Stream, offset: int, length: int, tag: str, tells: Tells, *, broken: bool = False
    ) -> None:
        """Record that a part of the current packet was removed. offset: the part's offset in the packet."""
        piece = bisect_right(stream.starts, offset) - 1
        at = stream.pieces[piece][0] + offset - stream.starts[piece]
        self.edits.note(at, length, tag, tells, broken=broken)

    def _cleaned(self, stream: _Stream, number: int, data: bytes) -> bytes | None:
        """Return the new bytes of a header packet; None for zeros. Set ``stream.done`` after the last one."""
        if number == 0:
            return self._first(stream, data)
        if stream.codec == b"FLAC":
            return self._block(stream, data)
        head = _COMMENT_HEADS[stream.codec]
        if number > 1 and not (head and data.startswith(head)):
            if data[:1] == _COMMENT_MARKS.get(stream.codec) or _COMMENTS.match(data):
                raise NotThisKindError(_AMONG_MEDIA)
            if head and not data.strip(b"\0"):
                return data  # an earlier redaction may have zeroed a header: the next packet may be one, too
            if head in _WITH_TABLES:
                self._check_tables(data)
            # This packet has the decoder's tables, or is the first packet of sound. If it becomes zeros, the
            # next packet may be one, as above.
            appended = find_appended(MemorySource(data), 0, len(data), self.inner.budget)
            stream.done = appended is None or not head
            return data if appended is None else None
        if not data.startswith(head):
            return None
        return self._comments(stream, data, len(head), frame=stream.codec == b"vorbis")

    def _check_tables(self, data: bytes) -> None:
        """Raise NotThisKindError if a header that the decoder needs holds metadata. Raises TooMuchError."""
        if told_in_kept(data, self.inner.hide & Tells.LOCATION, self.inner.budget):
            raise NotThisKindError("the settings of a stream hold metadata")

    def _first(self, stream: _Stream, data: bytes) -> bytes:
        """Return a first header with zeros behind its fixed part. Raises NotThisKindError for FLAC of another
        length: exiftool would look for the next block elsewhere.
        """
        if stream.codec == b"FLAC" and _FLAC_FIRST.fullmatch(data) is None:
            raise NotThisKindError("the first header of a FLAC stream is broken")
        size = _FIRST_BYTES[stream.codec]
        if stream.codec == b"Opus" and len(data) > size and data[18]:
            table = 2 + data[9]  # two counts of streams, and one byte for each channel (RFC 7845, 5.1.1)
            known = find_appended(MemorySource(data), size, size + table, self.inner.budget) is None
            size += table if known else 0
        new = bytearray(data[:size].ljust(len(data), b"\0"))
        if stream.codec == b"Speex" and told(
            self.inner.hide, Tells.DEVICE, data[_SPEEX_VERSION].strip(b"\0")
        ):
            new[_SPEEX_VERSION] = bytes(len(data[_SPEEX_VERSION]))
        self._check_tables(bytes(new))
        if new != data:
            self._note(stream, 0, len(data), "first header", UNKNOWN)
        return bytes(new)

    def _comments(self, stream: _Stream, data: bytes, skip: int, *, frame: bool) -> bytes | None:
        comments = clean_comments(data[skip:], self.inner)
        if comments is None:
            # An empty list replaces the comments if there is room: without a list, every decoder would stop.
            empty = data[:skip] + bytes(8) + (b"\1" if frame else b"")
            if len(empty) > len(data):
                return None
            self._note(stream, skip, len(data) - skip, "comments", UNKNOWN, broken=True)
            return empty.ljust(len(data), b"\0")
        for note in shifted(comments.notes, skip):
            self._note(stream, note.offset, note.length, note.tag, note.tells, broken=note.broken)
        behind = data[skip + comments.read :]
        if behind[frame:].strip(b"\0"):
            self._note(stream, skip + comments.read, len(behind), "behind the comments", UNKNOWN, broken=True)
        return (data[:skip] + comments.kept + (b"\1" if frame else b"")).ljust(len(data), b"\0")

    def _block(self, stream: _Stream, data: bytes) -> bytes | None:
        """Return the new bytes of a FLAC block; sound (0xff) stays. The block gets the length of its packet,
        by which exiftool finds the next one. Raises NotThisKindError if it is too short.
        """
        if data[:1] == b"\xff" or not data:
            stream.done = bool(data)
            return data
        if len(data) < 4:
            raise NotThisKindError("a block of a FLAC stream is cut off")
        length = (len(data) - 4).to_bytes(3)
        if data[1:4] != length:
            self._note(stream, 1, 3, "length of a block", UNKNOWN, broken=True)
            data = data[:1] + length + data[4:]
        kind = data[0] & 0x7F
        if kind == COMMENTS and (listed := self._comments(stream, data, 4, frame=False)) is not None:
            return listed
        if kind == PICTURE and (cleaned := clean_picture(data[4:], self.inner)) is not None:
            for note in shifted(cleaned.notes, 4):
                self._note(stream, note.offset, note.length, note.tag, note.tells, broken=note.broken)
            return data[:4] + cleaned.data
        if kind == SEEKTABLE and seeks_only(data[4:], self.edits.source.size):
            return data
        new = bytes([data[0] & 0x80 | PADDING]) + data[1:4] + bytes(len(data) - 4)
        if new != data:
            self._note(stream, 0, len(data), "block", UNKNOWN)
        return new

    def _renew(self) -> None:
        patches = sorted(self.edits.found.patches, key=lambda patch: patch.offset)
        index = 0
        for page in sorted(self.pages, key=lambda page: page.at):
            while index < len(patches) and patches[index].end <= page.at:
                index += 1
            mine = []
            last = index
            while last < len(patches) and patches[last].offset < page.end:
                mine.append(patches[last])
                last += 1
            if mine:
                old = self.edits.source.read(page.at, page.end - page.at)
                new = bytearray(apply(old, [patch.shifted(-page.at) for patch in mine]))
                new[22:26] = bytes(4)
                self.edits.put(page.at + 22, old[22:26], page_checksum(bytes(new)).to_bytes(4, "little"))
