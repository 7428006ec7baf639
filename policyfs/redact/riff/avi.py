"""AVI files (Microsoft, "AVI RIFF File Reference"; OpenDML AVI extensions 1.02).

Headers of streams, indexes, pictures and sound stay. Streams of texts, makers' chunks and unknown data become
zeros: cameras write maker notes there, and dash cams write their position. Padding becomes zeros, too, except
the padding that known programs write. Messages in pictures are cleaned.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams.decoder_config import stream_framing
from policyfs.redact.bitstreams.digital_video import check_dated
from policyfs.redact.bitstreams.frame_table import FrameForm, FrameLooks, form_of
from policyfs.redact.bitstreams.frames import MAX_CONFIG_BYTES, clean_settings
from policyfs.redact.bitstreams.nal_units import codec_of
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, PatchedSource, Window, in_order, skip_zeros
from policyfs.redact.core.tag_names import told
from policyfs.redact.riff.chunks import (
    HEAD_BYTES,
    JUNK,
    LIKELY_NAME,
    METADATA_NAME,
    Chunk,
    Doubts,
    chunks,
    drop,
    holds_more,
    leads_on,
    pad,
    padding_at,
    printable,
)
from policyfs.redact.riff.info_list import LIST, clean_shared
from policyfs.redact.tags.sound_streams import PLAIN, StreamSound

MAX_SAMPLES: Final = 400_000
"""Maximum number of chunks of pictures and sound: two hours, with 25 chunks of each per second."""
_HEADER_BYTES: Final = 12
_PEEK_BYTES: Final = 24
_TEXT_BYTES: Final = 1 << 16
_HANDLER_AT: Final = 4
_COMPRESSION_AT: Final = 16
"""Offsets of the code that names the codec: in the ``strh`` chunk, and in the ``strf`` chunk of pictures."""
_SETTINGS_AT: Final = 40
"""Offset of the codec's own settings in the ``strf`` of pictures."""
_NUMBERS: Final = MappingProxyType({b"vids": _SETTINGS_AT, b"auds": 18, b"iavs": 32})
"""Kind of a stream -> size of the numbers in its ``strf``, before the codec's own settings."""
_MEDIA: Final = (b"vids", b"auds", b"iavs")
_SAMPLE_KINDS: Final = (b"dc", b"db", b"wb", b"pc", b"dd", b"__", b"iv")
_PLAIN: Final = MappingProxyType(
    {
        b"avih": 56,
        b"strh": 64,
        b"strf": 1 << 16,
        b"indx": 1 << 20,
        b"vprp": 256,
        b"dmlh": 4,
        b"idx1": 1 << 30,
    }
)
"""Chunk that is needed to play the file -> the maximum number of its bytes that stay."""
_HEADERS: Final = (b"avih", b"strh")
_ROOM: Final = re.compile(
    rb"(?:\x04\0\0\0\0\0\0\0\d\d(?:%b)|odmldmlh\xf8\0\0\0)\0*" % b"|".join((*_SAMPLE_KINDS, b"tx"))
)
"""Pattern of the padding that FFmpeg and GStreamer keep free for the indexes of a file of over 1 GB."""
_MPLAYER: Final = b"[= MPlayer junk data! =]"
_PROGRAM: Final = re.compile(
    rb"(?:%b)+(?P<cut>[^\0]{0,23})\0*|VirtualDub(?:Mod)? build \d{4,5}/release\0*" % re.escape(_MPLAYER)
)
"""Pattern of the padding of programs that write their name into it."""
_TELLING: Final = MappingProxyType(
    {
        b"strn": Tells.PEOPLE | Tells.DEVICE,
        b"IDIT": Tells.TIME,
        b"ISMP": Tells.TIME,
        b"strd": Tells.LOCATION | Tells.DEVICE | Tells.TIME | Tells.PEOPLE | Tells.OTHER,
    }
)
"""A dictionary from the names of chunks with metadata to the categories of their data."""


def locate_avi(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an AVI. Raises NotThisKindError, TooMuchError."""
    head = source.read(0, _HEADER_BYTES)
    if head[:4] != b"RIFF" or head[8:] not in (b"AVI ", b"AVI\x19", b"AVIX"):
        raise NotThisKindError("it does not start like an AVI")
    return _Locator(Edits(source, inner, "AVI")).locate()


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.inner = edits.inner
        self.streams: list[bytes] = []
        self.samples = 0
        self.doubts = Doubts()
        self.forms: dict[int, FrameForm] = {}
        self.looks = FrameLooks(self.source, self.inner)
        self.sounds: dict[int, StreamSound] = {}

    def locate(self) -> Found:
        """Locate everything to hide in all RIFFs: a file over 1 GB has several."""
        at = 0
        while at + _HEADER_BYTES <= self.source.size:
            head = self.source.read(at, _HEADER_BYTES)
            if head[:4] != b"RIFF" or head[8:11] != b"AVI":
                break
            self.inner.budget.part()
            size = int.from_bytes(head[4:8], "little")
            end = at + HEAD_BYTES + size
            whole = size + HEAD_BYTES > _HEADER_BYTES and end <= self.source.size
            at = self._body(at + _HEADER_BYTES, end + (end & 1) if whole else self.source.size)
        if not self.samples or not self.streams:
            raise NotThisKindError("there is no picture and no sound in it")
        self.edits.trailer(at, self.source.size)
        for sound in self.sounds.values():
            sound.finish()
        if self.inner.frames_later and not self.doubts.places:
            table = self.looks.left()
            self.edits.found.frames = table if table.starts else None
        else:  # what other readers find may depend on the frames
            self.looks.finish()
            self.edits.found.add(self.looks.found)
            self.doubts.check(self.edits)
        return self.edits.found

    def _body(self, at: int, end: int) -> int:
        for chunk in chunks(self.source, self.inner, at, end, doubts=self.doubts):
            inside = chunk.start + 4 <= end  # bytes behind the RIFF become zeros, also a list's type
            if chunk.name == LIST and inside and self.source.read(chunk.start, 4) == b"movi":
                if chunk.size < _HEADER_BYTES:  # the size is missing if a recorder lost its power
                    self._movie(chunk.start + 4, min(end, self.source.size))
                    return min(end, self.source.size)
                self._movie(chunk.start + 4, chunk.end)
            elif chunk.name == LIST and self._kind(chunk) == b"hdrl":
                self._headers(chunk, 2)
            elif chunk.name == b"RIFF":
                return chunk.at  # a new RIFF starts here: the stated size of this one is wrong
            else:
                self._chunk(chunk)
            at = chunk.next
        if at < end:
            self.edits.zero(at, min(end, self.source.size), "behind the chunks", broken=True)
        return min(end, self.source.size)

    def _kind(self, chunk: Chunk) -> bytes:
        return self.source.read(chunk.start, 4) if chunk.size >= 4 else b""

    def _headers(self, chunk: Chunk, depth: int) -> None:
        at, headed = chunk.start + 4, self._kind(chunk) != b"strl"
        formatted = True
        for part in chunks(self.source, self.inner, at, chunk.end, doubts=self.doubts):
            inside = self._kind(part) if part.name == LIST else b""
            if inside in (b"strl", b"odml") and depth:
                self._headers(part, depth - 1)
            elif (part.name == b"strh" and headed) or (part.name == b"strf" and formatted):
                drop(self.edits, part)  # readers count streams by strh or strl, take the first or the last
            else:
                if part.name == b"strh":
                    self.streams.append(self._kind(part))
                    headed, formatted = True, False
                    code = self.source.read(part.start + _HANDLER_AT, 4)
                    check_dated(b"dvsd" if self.streams[-1] == b"iavs" else code, self.inner.hide)
                    self._coded(code, part.end, part.end)
                elif part.name == b"strf":
                    formatted = True
                    self._sound_of(part)
                    code = self.source.read(part.start + _COMPRESSION_AT, 4)
                    check_dated(code, self.inner.hide)
                    kept = part.start + min(part.size, _PLAIN[part.name])
                    found = self._coded(code, part.start + _SETTINGS_AT, kept)
                    self._settings(part.start, kept, found)
                self._chunk(part)
            at = part.next
        self.edits.zero(at, chunk.next, "behind the headers", broken=True)

    def _sound_of(self, part: Chunk) -> None:
        """If the current stream has sound that may hold tags, prepare its search. part: its ``strf``."""
        code = int.from_bytes(self.source.read(part.start, 2), "little")
        if self.streams[-1:] == [b"auds"] and code not in PLAIN:
            self.sounds.setdefault(len(self.streams) - 1, StreamSound(self.edits))

    def _settings(self, start: int, end: int, found: Found) -> None:
        """Apply the changes to a codec's settings. If a hidden place may remain, zero the settings behind the
        numbers instead: without a length field, players look for start codes.
        """
        start += _NUMBERS.get(self.streams[-1] if self.streams else b"", 0)
        if self.inner.hide & Tells.LOCATION and start < end:
            after = PatchedSource(self.source, in_order(found.patches, self.source.size))
            if told_in_range(after, start, end, Tells.LOCATION, self.inner.budget):
                self.edits.zero(start, end, "strf")
                if (form := self.forms.get(number := len(self.streams) - 1)) is not None:
                    self.forms[number] = replace(form, length_size=0)
                return
        self.edits.found.add(found)

    def _coded(self, code: bytes, start: int, end: int) -> Found:
        codec, number = codec_of(code), len(self.streams) - 1
        if self.streams[-1:] != [b"vids"]:
            return Found()
        if codec is None:
            self.forms.setdefault(number, form_of(None))
            return Found()
        coded = stream_framing(codec, self.source.read(start, max(0, min(MAX_CONFIG_BYTES, end - start))))
        self.forms[number] = form_of(coded)
        return clean_settings(self.source, start, end, codec, self.inner)

    def _chunk(self, chunk: Chunk) -> None:
        tells = _TELLING.get(chunk.name)
        if chunk.name in _PLAIN:
            end = chunk.start + min(chunk.size, _PLAIN[chunk.name])
            if chunk.name != b"strf" and holds_more(self.edits, chunk.start, end):
                if chunk.name in _HEADERS:
                    raise NotThisKindError("a header in it holds metadata")
                drop(self.edits, chunk)
            else:
                self.edits.zero(end, chunk.next, f"behind {printable(chunk.name)}")
        elif tells is not None:
            text = self.source.read(chunk.start, min(chunk.size, _TEXT_BYTES))
            found = (
                told(self.inner.hide, tells, text, self.inner.budget) if len(text) == chunk.size else UNKNOWN
            )
            if found:
                drop(self.edits, chunk, found)
            else:
                pad(self.edits, chunk)
        elif chunk.name == JUNK:
            found = self._padding(chunk)
            if found & self.inner.hide:
                drop(self.edits, chunk, found)
            else:
                pad(self.edits, chunk)
        elif not clean_shared(self.edits, chunk):
            drop(self.edits, chunk)

    def _padding(self, chunk: Chunk) -> Tells:
        data = self.source.read(chunk.start, min(chunk.size, _TEXT_BYTES))
        self.inner.budget.search(len(data))
        if len(data) < chunk.size:
            return UNKNOWN
        if _ROOM.fullmatch(data):
            return NOTHING
        program = _PROGRAM.fullmatch(data)
        named = program is not None and _MPLAYER.startswith(program["cut"] or b"")
        return Tells.DEVICE | Tells.OTHER if named else UNKNOWN

    def _movie(self, at: int, end: int) -> None:
        window = Window(self.source, _PEEK_BYTES if self.inner.frames_later else CHUNK_BYTES)
        media = self._media_names()
        coded = {
            b"%02d" % number + kind: self.looks.form(form)
            for number, form in self.forms.items()
            for kind in _SAMPLE_KINDS
        }
        sounds = {
            b"%02d" % number + kind: self.sounds[number] for number in self.sounds for kind in _SAMPLE_KINDS
        }
        while at + HEAD_BYTES <= end:
            head = window.read(at, min(_HEADER_BYTES, end - at))
            name, size = head[:4], int.from_bytes(head[4:8], "little")
            self.samples += 1
            if self.samples > MAX_SAMPLES:
                raise TooMuchError("too many pictures")
            stop = at + HEAD_BYTES + size
            self.doubts.chunk(at)
            following = min(stop + (size & 1 and padding_at(window, stop, end)), end)
            if size & 1 and following == stop < end:
                self.doubts.places.append((stop + 1, METADATA_NAME))
            if name not in media:
                if name == LIST and head[8:12] == b"rec ":
                    at += _HEADER_BYTES
                    continue
                likely = LIKELY_NAME.fullmatch(name) or (any(name) and leads_on(window, following, end))
                if not likely or stop > end:
                    break
                self._hide(at, name, following)
            elif name in coded:
                self.looks.add(at + HEAD_BYTES, min(stop, end), coded[name])
            elif name in sounds:
                sounds[name].add(at + HEAD_BYTES, min(stop, end))
            elif b"ix" in name and holds_more(self.edits, at + HEAD_BYTES, min(stop, end)):
                self.edits.zero(at + HEAD_BYTES, following, printable(name))
            at = following
        if skip_zeros(self.source, at) < end:
            raise NotThisKindError("its pictures and sound are not a sequence of chunks")

    def _media_names(self) -> frozenset[bytes]:
        names = set()
        for number, kind in enumerate(self.streams[:100]):
            digits = b"%02d" % number
            names |= {b"ix" + digits, digits + b"ix"}
            if kind in _MEDIA:
                names |= {digits + sample for sample in _SAMPLE_KINDS}
        return frozenset(names)

    def _hide(self, at: int, name: bytes, end: int) -> None:
        """Zero a chunk's data. A stream's chunk keeps its name, to which indexes refer; others become
        padding.
        """
        if not name[:2].isdigit() and self.edits.put(at, name, JUNK):
            self.edits.note(at, HEAD_BYTES, printable(name))
        self.edits.zero(at + HEAD_BYTES, end, printable(name))
