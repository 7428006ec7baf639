"""Streams of ASF: their properties, and their payloads in packets of data."""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.asf.objects import GUIDS, HEAD_BYTES
from policyfs.redact.asf.packets import Payload
from policyfs.redact.bitstreams.frame_table import Work
from policyfs.redact.bitstreams.frames import clean_settings
from policyfs.redact.bitstreams.nal_units import codec_of
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Note, NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.filler import is_uniform
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import PatchedSource, in_order
from policyfs.redact.core.tag_names import is_blank, told
from policyfs.redact.mpeg.elementary import Sound, Stream, Video
from policyfs.redact.tags.sound_streams import PLAIN

_FIXED_BYTES: Final = 54
_EXTENDED_BYTES: Final = 64
_SYSTEM_BYTES: Final = 22
_CODE_AT: Final = _FIXED_BYTES + 11 + 16
_SETTINGS_AT: Final = _FIXED_BYTES + 11 + 40
"""Offsets in the properties of pictures: the codec's code, and its own settings."""
_ENCRYPTED: Final = 0x8000
_PLAIN_CODES: Final = re.compile(rb"WMV[123AP]|WVC1|WVP2|MP4[123]|MPG4|MSS[12]", re.IGNORECASE)
"""Codecs of pictures without messages, or whose messages are not searched (VC-1)."""
_WINDOWS_SOUND: Final = frozenset({0x0A, 0x0B, 0x160, 0x161, 0x162, 0x163, 0x164})
_SEARCH_BYTES: Final = 4 << 20
"""Number of bytes of a stream that are gathered before they are searched."""
_MAX_MORE_BYTES: Final = 64
_TEXT: Final = Tells.PEOPLE | Tells.OTHER


class StreamTable:
    """The streams of a file. media: number of a stream -> its search; None if it needs none."""

    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.inner = edits.inner
        self.work = Work.on(edits.source)
        self.media: dict[int, Stream | None] = {}

    def add(self, start: int, body: bytes) -> bool:
        """Add the stream with these properties, which begin at an offset of the file; clean them.

        Return False if they are not understood. Raises NotThisKindError, TooMuchError.
        """
        sort, size = body[:16], int.from_bytes(body[40:44], "little")
        flags = int.from_bytes(body[48:50], "little")
        end = _FIXED_BYTES + size + int.from_bytes(body[44:48], "little")
        if len(body) < _FIXED_BYTES or end > len(body):
            return False
        if flags & _ENCRYPTED:
            raise NotThisKindError("it is encrypted")
        number, kept, found = flags & 0x7F, end, Found()
        if sort == GUIDS["sound"]:
            code = int.from_bytes(body[_FIXED_BYTES : _FIXED_BYTES + min(size, 2)], "little")
            self._put(number, None if code in _WINDOWS_SOUND | PLAIN else Sound(self.edits))
        elif sort == GUIDS["pictures"]:
            found = self._pictures(number, start, body, _FIXED_BYTES + size)
        else:
            kept = _FIXED_BYTES
            self.edits.zero(start + _FIXED_BYTES, start + end, "settings of other data")
        self._check(start, start + kept, found)
        self.edits.zero(start + end, start + len(body), "behind the properties", broken=True)
        return True

    def _check(self, start: int, end: int, found: Found) -> None:
        """Apply the changes to a stream's properties, which may not hold metadata or a place then."""
        source, asked = self.edits.source, self.inner.hide & Tells.LOCATION
        after = PatchedSource(source, in_order(found.patches, source.size))
        if told_in_range(after, start, end, asked, self.inner.budget, numbers=True):
            raise NotThisKindError("the settings of a stream hold metadata")
        self.edits.found.add(found)

    def _put(self, number: int, stream: Stream | None) -> None:
        if number in self.media:
            raise NotThisKindError("two of its streams have the same number")
        self.media[number] = stream

    def _pictures(self, number: int, start: int, body: bytes, end: int) -> Found:
        """Add a stream of pictures; return the changes to the codec's own settings."""
        code = body[:end][_CODE_AT : _CODE_AT + 4]  # what is behind the settings goes
        codec = codec_of(code)
        if codec is None or _PLAIN_CODES.fullmatch(code):
            if not _PLAIN_CODES.fullmatch(code):
                raise NotThisKindError("policyfs does not know how to search its pictures")
            self._put(number, None)
            return Found()
        self._put(number, Video(self.edits, self.work, codec.name))
        return clean_settings(self.edits.source, start + _SETTINGS_AT, start + end, codec, self.inner)

    def describe(self, start: int, body: bytes) -> bool:
        """Clean the extended properties of a stream; return False if they must become padding.

        Raises NotThisKindError if each of its payloads has the name of a file.
        """
        names, systems = (int.from_bytes(body[at : at + 2], "little") for at in (60, 62))
        out, at = bytearray(body), _EXTENDED_BYTES
        for _ in range(names):
            behind = at + 4 + int.from_bytes(body[at + 2 : at + 4], "little")
            text = body[at + 4 : behind]
            if not is_blank(text) and told(self.inner.hide, _TEXT, text, self.inner.budget):
                out[at + 4 : behind] = bytes(len(text))
            at = behind
        for _ in range(systems):
            if body[at : at + 16] == GUIDS["file names"]:
                raise NotThisKindError("its packets have names of files")
            behind = at + _SYSTEM_BYTES + int.from_bytes(body[at + 18 : at + 22], "little")
            out[at + _SYSTEM_BYTES : behind] = bytes(len(body[at + _SYSTEM_BYTES : behind]))
            at = behind
        inside = body[at:]
        whole = int.from_bytes(inside[16:24], "little") == len(inside)
        if not whole or not inside.startswith(GUIDS["stream properties"]):
            out[at:] = bytes(len(inside))
            inside = b""
        asked = self.inner.hide & Tells.LOCATION
        if at > len(body) or told_in_kept(bytes(out[:at]), asked, self.inner.budget, numbers=True):
            return False
        if inside and not self.add(start + at + HEAD_BYTES, inside[HEAD_BYTES:]):
            return False
        if self.edits.put(start, body, bytes(out)):
            self.edits.note(start, len(body), "texts of a stream")
        return True

    def codec_names(self, body: bytes) -> Cleaned | None:
        """Clean the list of codecs: names and descriptions that must go become zeros."""
        out, notes, at = bytearray(body), list[Note](), 20
        if told_in_kept(body[:at], self.inner.hide, self.inner.budget):
            return None
        for _ in range(int.from_bytes(body[16:20], "little")):
            self.inner.budget.part()
            at += 2
            if at > len(body):
                return None
            for scale in (2, 2, 1):  # characters of the name and of the description; bytes of the settings
                size = scale * int.from_bytes(body[at : at + 2], "little")
                text = body[at + 2 : at + 2 + size]
                tells = Tells.OTHER if scale == 2 else Tells(0)
                if not is_blank(text) and (tells := told(self.inner.hide, tells, text, self.inner.budget)):
                    out[at + 2 : at + 2 + size] = bytes(len(text))
                    notes.append(Note(at + 2, size, "ASF", "name of a codec", tells))
                at += 2 + size
        if at > len(body):
            return None
        out[at:] = bytes(len(body) - at)
        return Cleaned(bytes(out), tuple(notes))

    def payload(self, at: int, data: bytes, payload: Payload) -> None:
        """Clean a payload of a packet, which begins at an offset of the file. Raises TooMuchError."""
        more = data[payload.more : payload.more_end]
        if more and self._tells(more):
            self.edits.zero(at + payload.more, at + payload.more_end, "header of a payload")
        if payload.stream not in self.media:
            if not is_uniform(data[payload.start : payload.end]):
                self.edits.zero(at + payload.start, at + payload.end, "other data")
            return
        stream = self.media[payload.stream]
        if stream is not None:
            stream.pieces.add(data[payload.start : payload.end], at + payload.start)
            if len(stream.pieces) > _SEARCH_BYTES:
                stream.search()

    def _tells(self, more: bytes) -> bool:
        asked = self.inner.hide & Tells.LOCATION
        return len(more) > _MAX_MORE_BYTES or bool(told_in_kept(more, asked, self.inner.budget, numbers=True))

    def finish(self) -> None:
        """Search the rest of all streams. Raises NotThisKindError, TooMuchError."""
        for stream in self.media.values():
            if stream is not None:
                stream.search(last=True)
