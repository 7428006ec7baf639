"""ID3v2 tags (ID3v2.2.0, 2.3.0, 2.4.0 informal standards) in MP3, AAC, FLAC, WAV and AVI files.

A frame stays if neither its name nor its text tells anything that is hidden. Frames that stay move up, and
padding follows them: zeros, as the standard prescribes. Bytes that are not understood become padding, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.tag_names import tells_of_name, told
from policyfs.redact.tags.id3_frames import TOLD, is_itunes_comment, may_be_shown, of_private

HEAD_BYTES: Final = 10
_USER_TEXT: Final = frozenset({"TXXX", "TXX", "WXXX", "WXX"})
_PICTURE: Final = frozenset({"APIC", "PIC"})
_RATING_BYTES: Final = 9
_XMP: Final = b"XMP\0"
"""Owner of Adobe's private frame: a packet of XMP follows."""
"""Size of the numbers in a frame of popularity: a rating, and a count of at most eight bytes."""
_IMAGE_KIND: Final = re.compile(rb"(?:image/)?[A-Za-z0-9+.-]{0,12}\0?")
_MAX_FRAMES: Final = 10_000
_UNSYNCHRONISED, _EXTENDED, _FOOTER = 0x80, 0x40, 0x10


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of a tag; offsets in the tag's body."""

    at: int
    name: str
    flags: int
    start: int
    end: int


def tag_size(head: bytes) -> int:
    """Return the length of the tag that starts with these 10 bytes, with its footer; 0 if there is no tag."""
    if len(head) < HEAD_BYTES or head[:3] != b"ID3" or head[3] not in (2, 3, 4) or head[4] == 0xFF:
        return 0
    if max(head[6:10]) > 0x7F:
        return 0
    footer = HEAD_BYTES if head[3] == 4 and head[5] & _FOOTER else 0
    return HEAD_BYTES + syncsafe(head[6:10]) + footer


def syncsafe(four: bytes) -> int:
    """Read a number of 28 bits in four bytes whose highest bits are zero."""
    value = 0
    for byte in four:
        value = value << 7 | byte & 0x7F
    return value


def clean_id3(tag: bytes, inner: Inner) -> Cleaned:
    """Clean a whole tag (with its footer, if it has one); its length stays. Raises TooMuchError."""
    return _Cleaner(tag, inner).clean()


@dataclass(slots=True)
class _Cleaner:
    tag: bytes
    inner: Inner
    notes: list[Note] = field(default_factory=list)

    @property
    def version(self) -> int:
        return self.tag[3]

    def clean(self) -> Cleaned:
        flags = self.tag[5]
        footer = HEAD_BYTES if self.version == 4 and flags & _FOOTER else 0
        body = self.tag[HEAD_BYTES : len(self.tag) - footer]
        whole = self.version < 4 and bool(flags & _UNSYNCHRONISED)
        plain = body.replace(b"\xff\0", b"\xff") if whole else body
        start = self._frames_at(plain, flags)
        frames = None if start is None else self._frames(plain, start)
        if start is None or frames is None:
            return self._emptied(flags & ~_EXTENDED, len(body), footer, "unreadable")
        kept = self._kept(plain, frames)
        end = frames[-1].end if frames else start
        rest = plain[end:]
        if footer and self.tag[-footer:] != b"3DI" + self.tag[3:HEAD_BYTES]:
            self.notes.append(Note(len(self.tag) - footer, footer, "ID3", "footer", broken=True))
        if rest.strip(b"\0"):
            self.notes.append(Note(HEAD_BYTES + end, len(rest), "ID3", "padding", broken=True))
        if not self.notes:
            if self._ambiguous(plain, frames):
                return self._emptied(flags & ~_EXTENDED, len(body), footer, "ambiguous sizes")
            return Cleaned(self.tag)
        # An extended header has the size of padding and a checksum. Both would be wrong now.
        head = self.tag[:5] + bytes([flags & ~_EXTENDED]) + self.tag[6:HEAD_BYTES]
        new = b"".join(kept)
        if whole:
            new = _unsynchronised(new)
        if len(new) > len(body):
            return self._emptied(flags & ~_EXTENDED, len(body), footer, "unsynchronisation")
        padded = self._padded(head, new, len(body), footer)
        if not self._still(kept, padded[: len(body)], whole=whole):
            return self._emptied(flags & ~_EXTENDED, len(body), footer, "ambiguous sizes")
        return Cleaned(head + padded, tuple(self.notes))

    def _still(self, kept: list[bytes], body: bytes, *, whole: bool) -> bool:
        """Return True if a reader of the new body would find exactly *kept*: after removals, it may read
        sizes in the other way (_frames).
        """
        plain = body.replace(b"\xff\0", b"\xff") if whole else body
        found = self._frames(plain, 0) or []
        ends = list(accumulate(map(len, kept), initial=0))
        same = [(frame.at, frame.end) for frame in found[: len(kept)]] == list(pairwise(ends))
        filled = all(frame.name == "PRIV" for frame in found[len(kept) :])
        return same and filled and not self._ambiguous(plain, found)

    def _ambiguous(self, body: bytes, frames: list[_Frame]) -> bool:
        """Return True if a reader that may choose a way for each size finds another frame that must go."""
        seen = {frame.at for frame in frames}
        ends = [end for frame in frames for end in self._ends(body, frame.at)]
        while ends:
            at = ends.pop()
            if at in seen or not body[at : at + 4].strip(b"\0"):
                continue
            seen.add(at)
            self.inner.budget.part()
            more = self._ends(body, at)
            ends += more
            name, flags = body[at : at + 4].decode("latin-1"), int.from_bytes(body[at + 8 : at + 10])
            for end in more:
                frame = _Frame(at, name, flags, at + HEAD_BYTES, end)
                content = body[frame.start : end]
                if not may_be_shown(name, flags, content):
                    continue
                if name in ("CHAP", "CTOC") or self._frame(frame, content)[1] != content:
                    return True
        return False

    def _ends(self, body: bytes, at: int) -> set[int]:
        """Return the offsets where the frame at an offset may end: one for each way to read its size."""
        if self.version == 2:
            return set()
        number, start = body[at + 4 : at + 8], at + HEAD_BYTES
        ends = {start + int.from_bytes(number), start + syncsafe(number)}
        return {end for end in ends if end <= len(body)}

    def _padded(self, head: bytes, frames: bytes, size: int, footer: int) -> bytes:
        """Return the body with padding and footer. Before a footer, a private frame is the padding."""
        missing = size - len(frames)
        if footer and missing > HEAD_BYTES:
            content = missing - HEAD_BYTES
            number = bytes(content >> shift & 0x7F for shift in (21, 14, 7, 0))
            frames += b"PRIV" + number + b"\0\0"
        return frames.ljust(size, b"\0") + (b"3DI" + head[3:] if footer else b"")

    def _emptied(self, flags: int, size: int, footer: int, why: str) -> Cleaned:
        """Return a tag of the same length without frames. why: the removed part, for its record."""
        head = self.tag[:5] + bytes([flags]) + self.tag[6:HEAD_BYTES]
        new = head + self._padded(head, b"", size, footer)
        notes = (Note(0, len(self.tag), "ID3", why, broken=True),) if new != self.tag else ()
        return Cleaned(new, notes)

    def _frames_at(self, body: bytes, flags: int) -> int | None:
        if self.version == 2:
            return None if flags & _EXTENDED else 0  # in ID3v2.2: compression, never defined
        if not flags & _EXTENDED:
            return 0
        if self.version == 3:
            size = 4 + int.from_bytes(body[:4])
            return size if size in (10, 14) and size <= len(body) else None
        size = syncsafe(body[:4])
        return size if 6 <= size <= 12 + 4 and size <= len(body) else None

    def _frames(self, body: bytes, start: int) -> list[_Frame] | None:
        """Return the frames; None if there are too many. Some programs write sizes as in the other version,
        so both ways are tried; the higher rank (_merit) counts.
        """
        ways = {2: (False,), 3: (False, True), 4: (True, False)}[self.version]
        found = [list(self._walk(body, start, safe=way)) for way in ways]
        best = max(found, key=lambda frames: self._merit(body, frames, start))
        return best if len(best) < _MAX_FRAMES else None

    def _merit(self, body: bytes, frames: list[_Frame], start: int) -> tuple[bool, int]:
        """Return the rank of one way to read the frames: only padding behind, else the offset behind the
        last.
        """
        end = frames[-1].end if frames else start
        return (False, end) if body[end:].strip(b"\0") else (True, 0)

    def _walk(self, body: bytes, at: int, *, safe: bool) -> Iterator[_Frame]:
        head = 6 if self.version == 2 else HEAD_BYTES
        width = head // 2 if self.version == 2 else 4
        count = 0
        while at + head < len(body) and count < _MAX_FRAMES:
            name = body[at : at + width]
            if not name.isalnum() or name != name.upper() or not name[:1].isalpha():
                return
            number = body[at + width : at + 2 * width]
            size = syncsafe(number) if safe else int.from_bytes(number)
            start = at + head
            if (safe and max(number) > 0x7F) or start + size > len(body):
                return
            flags = 0 if self.version == 2 else int.from_bytes(body[at + 8 : at + 10])
            self.inner.budget.part()
            yield _Frame(at, name.decode("ascii"), flags, start, start + size)
            at = start + size
            count += 1

    def _kept(self, body: bytes, frames: list[_Frame]) -> list[bytes]:
        kept: list[bytes] = []
        for frame in frames:
            whole = body[frame.at : frame.end]
            tells, new = self._frame(frame, body[frame.start : frame.end])
            if new is not None:
                kept.append(whole[: frame.start - frame.at] + new)
            if new is None or kept[-1] != whole:
                self.notes.append(Note(HEAD_BYTES + frame.at, len(whole), "ID3", frame.name, tells))
        return kept

    def _frame(self, frame: _Frame, data: bytes) -> tuple[Tells, bytes | None]:
        if frame.name == "PRIV" and not data.strip(b"\0"):
            return UNKNOWN, data
        plain = self._plain(frame, data)
        if plain is None:
            return UNKNOWN, None
        if frame.name == "PRIV" and plain == data and data.startswith(_XMP):
            return UNKNOWN, _XMP + self.inner.xmp(data[len(_XMP) :]).data
        if frame.name == "PRIV":
            tells, text = of_private(plain)
            found = told(self.inner.hide, tells, text, self.inner.budget)
            return found or tells, None if found else data
        if frame.name in _PICTURE:
            return UNKNOWN, self._picture_frame(frame, data, plain)
        if frame.name in ("CHAP", "CTOC"):
            stays = plain == data and self._chapter(frame.name, data)
            return Tells.PEOPLE, data if stays else None
        tells = TOLD.get(frame.name, UNKNOWN)
        if frame.name in ("COMM", "COM") and is_itunes_comment(plain):
            tells = Tells.OTHER
        if frame.name in ("UFID", "UFI") and plain.startswith(b"http://musicbrainz.org\0"):
            tells = Tells.OTHER
        text = plain[1:]
        if frame.name in _USER_TEXT:
            name, value = _split(plain[0] if plain else 0, text)
            tells = tells_of_name(_readable(name))
            if tells == UNKNOWN and frame.name[0] == "W":
                tells = Tells.PEOPLE
            text = value
        elif frame.name[0] == "W":
            text = plain
        elif frame.name in ("POPM", "POP"):
            text, _, counted = plain.partition(b"\0")  # the author of the rating; numbers follow
            if len(counted) > _RATING_BYTES:
                text = plain
        found = told(self.inner.hide, tells, text, self.inner.budget)
        return found or tells, None if found else data

    def _plain(self, frame: _Frame, data: bytes) -> bytes | None:
        if self.version == 2:
            return data
        low = frame.flags & 0xFF
        plain = data[self._skipped(frame) :]
        if self.version == 3:
            return None if low & 0xC0 else plain
        if low & 0x0C:
            return None
        return plain.replace(b"\xff\0", b"\xff") if low & 0x02 or self.tag[5] & _UNSYNCHRONISED else plain

    def _skipped(self, frame: _Frame) -> int:
        """Return the number of bytes before a frame's content: its group, and its length."""
        low = frame.flags & 0xFF
        return bool(low & 0x20) if self.version == 3 else bool(low & 0x40) + 4 * bool(low & 0x01)

    def _chapter(self, name: str, data: bytes) -> bool:
        """Return True if a chapter or a table of chapters may stay, because all frames within it may stay."""
        at, hide = data.find(b"\0") + 1, self.inner.hide
        if name == "CHAP":
            at += 16
        else:
            count = data[at + 1] if at + 1 < len(data) else 0
            at += 2
            for _ in range(count):
                at = data.find(b"\0", at) + 1 or len(data) + 1
        if not data.find(b"\0") >= 0 or at > len(data) or told(hide, Tells(0), data[:at], self.inner.budget):
            return False
        frames = list(self._walk(data, at, safe=self.version == 4))
        for frame in frames:
            content = data[frame.start : frame.end]
            if frame.name in ("CHAP", "CTOC") or self._frame(frame, content)[1] != content:
                return False
            at = frame.end
        return not data[at:].strip(b"\0") and not self._ambiguous(data, frames)

    def _picture_frame(self, frame: _Frame, data: bytes, plain: bytes) -> bytes | None:
        """Return the new content of a picture frame; None if it goes. Some readers take the bytes as stored,
        not as the standard reads them (plain): if they differ, they must hold no metadata.
        """
        new = self._picture(frame.name, plain)
        if new is None:
            return None
        start = data[: self._skipped(frame)]
        stored = data if new == plain else start + new
        if self._plain(frame, stored) != new:
            stored = start + _unsynchronised(new)
        if stored == start + new:
            return stored
        told = told_in_kept(stored, self.inner.hide & Tells.LOCATION, self.inner.budget)
        return None if told or len(stored) > len(data) else stored.ljust(len(data), b"\0")

    def _picture(self, name: str, data: bytes) -> bytes | None:
        kind_end = 4 if name == "PIC" else data.find(b"\0", 1) + 1
        if kind_end >= len(data) or _IMAGE_KIND.fullmatch(data[1:kind_end]) is None:
            return None
        about, picture = _split(data[0], data[kind_end + 1 :])
        cleaned = self.inner.image(picture)
        if cleaned is None:
            return None
        start = kind_end + 1
        between = data[start + len(about) : len(data) - len(picture)]
        if about.strip(b"\0\xff\xfe ") and told(self.inner.hide, Tells.PEOPLE, about, self.inner.budget):
            about = _blank(data[0], about)
        return data[:start] + about + between + cleaned.data


def _blank(encoding: int, text: bytes) -> bytes:
    """Return blanks of a text's length, in its encoding: 1 is UTF-16 with a byte-order mark, 2 without."""
    mark = text[:2] if encoding == 1 and text[:2] in (b"\xff\xfe", b"\xfe\xff") else b""
    unit = b" " if encoding not in (1, 2) else b"\0 " if encoding == 2 or mark == b"\xfe\xff" else b" \0"
    return (mark + unit * len(text))[: len(text)]


def _split(encoding: int, data: bytes) -> tuple[bytes, bytes]:
    """Return a text without the zero character that ends it, and the bytes behind this character."""
    if encoding not in (1, 2):
        text, _, rest = data.partition(b"\0")
        return text, rest
    at = data.find(b"\0\0")
    while at >= 0 and at % 2:
        at = data.find(b"\0\0", at + 1)
    return (data, b"") if at < 0 else (data[:at], data[at + 2 :])


def _readable(name: bytes) -> str:
    return name.replace(b"\0", b"").strip(b"\xff\xfe").decode("latin-1")


def _unsynchronised(data: bytes) -> bytes:
    """Add a zero byte behind each 0xff that a decoder might take for sound (ID3v2.3, 5)."""
    out, at = bytearray(), 0
    while (found := data.find(b"\xff", at)) >= 0:
        out += data[at : found + 1]
        at = found + 1
        if at == len(data) or data[at] >= 0xE0 or data[at] == 0:
            out.append(0)
    return bytes(out + data[at:])
