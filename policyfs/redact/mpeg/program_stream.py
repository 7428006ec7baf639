"""MPEG program streams: MPG, VOB, and MPEG-1 system streams (ISO/IEC 13818-1, 2.5; 11172-1).

Packets of pictures and sound stay, and the numbers that players need. Messages in pictures are cleaned. All
other packets become padding: subtitles, the menus of a DVD, data of recorders and anything unknown.
"""

from __future__ import annotations

from typing import Final

from policyfs.domain import Patch
from policyfs.redact.bitstreams.frame_table import Work
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.filler import is_uniform
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, Window, skip_zeros
from policyfs.redact.mpeg import pes, sections
from policyfs.redact.mpeg.elementary import Sound, Stream, Video

_CODE_BYTES: Final = 4
_HEAD_BYTES: Final = 6
_PICTURES: Final = pes.START + b"\xb3"
"""Start of pictures of MPEG-1 or MPEG-2 without packets."""
_PACK, _SYSTEM, _MAP, _END = 0xBA, 0xBB, 0xBC, 0xB9
_PRIVATE, _PADDING, _EXTENDED = 0xBD, 0xBE, 0xFD
_SOUNDS: Final = range(0xC0, 0xE0)
_VIDEOS: Final = range(0xE0, 0xF0)
_DISC_SOUNDS: Final = frozenset({*range(0x80, 0x90), *range(0xA0, 0xB0), *range(0xC0, 0xD0)})
"""First byte of private packets with sound of a DVD: AC-3, DTS, PCM, E-AC-3."""
_NAVIGATION: Final = 0xBF
_DISC_DATA: Final = ((980, b"\0"), (1018, b"\1"))
"""Size and first byte of the data about the menus and the parts of a DVD."""
_DISC_DATA_TELLS: Final = Tells.TIME | Tells.OTHER
_OLD_PACK_BYTES, _PACK_BYTES = 12, 14
_SYSTEM_BYTES, _RATE_BYTES = 12, 3
"""Size of a system header without the rates of streams, and of one rate."""
_SEARCH_BYTES: Final = 4 << 20
"""Number of bytes of a stream that are gathered before they are searched."""
_MAX_TAIL_BYTES: Final = 1 << 16
"""Maximum size of data behind the packets."""
_MAX_STREAMS: Final = 64


def locate_program_stream(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a program stream. Raises NotThisKindError, TooMuchError."""
    start, edits = source.read(0, _CODE_BYTES), Edits(source, inner, "MPEG-PS")
    if start == _PICTURES:
        return _locate_pictures(edits)
    if start != pes.START + bytes((_PACK,)):
        raise NotThisKindError("it does not start like a program stream")
    return _Locator(edits).locate()


def _locate_pictures(edits: Edits) -> Found:
    source, video = edits.source, Video(edits, Work.on(edits.source))
    for at in range(0, source.size, _SEARCH_BYTES):
        video.pieces.add(source.read(at, _SEARCH_BYTES), at)
        video.search()
    video.search(last=True)
    return edits.found


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.window = Window(self.source, CHUNK_BYTES)
        self.streams: dict[tuple[int, int], Stream] = {}
        self.codecs: dict[int, str | None] = {}
        self.noted: set[str] = set()
        self.work = Work.on(self.source)

    def locate(self) -> Found:
        """Locate everything to hide."""
        at, size = 0, self.source.size
        while at + _CODE_BYTES <= size:
            code = self.window.read(at, _PACK_BYTES)
            if not code.startswith(pes.START):
                start = skip_zeros(self.source, at) - 2
                if start <= at or self.window.read(start, 3) != pes.START:
                    break
                at = start
            elif code[3] == _END:
                at += _CODE_BYTES
            elif code[3] == _PACK:
                at = self._pack(at, code)
            elif code[3] > _PACK:
                at = self._packet(at, code[3], int.from_bytes(code[_CODE_BYTES:_HEAD_BYTES]))
            else:
                break
        self._tail(at)
        for stream in self.streams.values():
            stream.search(last=True)
        if not self.streams:
            raise NotThisKindError("there is no picture and no sound in it")
        return self.edits.found

    def _tail(self, at: int) -> None:
        if self.source.size - at > _MAX_TAIL_BYTES and skip_zeros(self.source, at) < self.source.size:
            raise NotThisKindError("there is other data between its packets")
        self.edits.trailer(at, self.source.size)

    def _pack(self, at: int, head: bytes) -> int:
        if len(head) < _PACK_BYTES or head[4] >> 4 == 2:
            return at + _OLD_PACK_BYTES
        if head[4] >> 6 != 1:
            raise NotThisKindError("a pack in it has an unknown header")
        end = at + _PACK_BYTES + (head[13] & 7)
        if head[13] & 7:
            self._stuff(at + _PACK_BYTES, end, "stuffing")
        return end

    def _packet(self, at: int, code: int, length: int) -> int:
        end = min(self.source.size, at + _HEAD_BYTES + length)
        if code in _VIDEOS or code in _SOUNDS or code == _PRIVATE:
            if not length:
                raise NotThisKindError("a packet in it has no length")
            self._media(at, end, code)
        elif code == _EXTENDED:
            raise NotThisKindError("policyfs does not know how to search its pictures (VC-1) or its sound")
        elif code == _PADDING:
            self._pad(at + _HEAD_BYTES, end)
        elif not self._may_stay(at, end, code):
            self._drop(at, end, code)
        return end

    def _pad(self, start: int, end: int) -> None:
        """Clean padding. In MPEG-1, it has a header of 0x0f, perhaps behind stuffing."""
        data = self.window.read(start, end - start)
        if not is_uniform(data[len(data) - len(data.lstrip(b"\xff")) :].removeprefix(b"\x0f")):
            self._stuff(start, end, "padding")

    def _may_stay(self, at: int, end: int, code: int) -> bool:
        """Return True for a packet of numbers that players need, and for a map, which is cleaned."""
        if code == _SYSTEM:
            return self._is_system(at, end)
        if code == _MAP:
            return self._map(at, end)
        return code == _NAVIGATION and self._is_navigation(at, end)

    def _media(self, at: int, end: int, code: int) -> None:
        data = self.window.read(at, end - at)
        new = b"\x80" <= data[_HEAD_BYTES : _HEAD_BYTES + 1] < b"\xc0"
        head = pes.cleaned_header(data) if new else b""
        if head:
            start = len(head)
        elif code != _PRIVATE and len(data) > _HEAD_BYTES:
            start = pes.old_header_size(data)
        else:
            start = len(data)
        part = data[start] if code == _PRIVATE and start < len(data) else 0
        if code == _PRIVATE and part not in _DISC_SOUNDS:
            self._drop(at, end, code)
            return
        if not data.startswith(head):
            self.edits.put(at, data[: len(head)], head)
            self._note(at, len(head), "packet header")
        stream = self.streams.get((code, part)) or self._begin(code, part)
        stream.pieces.add(data[start:], at + start)
        if len(stream.pieces) > _SEARCH_BYTES:
            stream.search()

    def _begin(self, code: int, part: int) -> Stream:
        if len(self.streams) >= _MAX_STREAMS:
            raise TooMuchError("it has too many streams")
        stream: Stream = Sound(self.edits)
        if code in _VIDEOS:
            codec = self.codecs.get(code, "")
            if codec is None:
                raise NotThisKindError("it states a stream of pictures as other data")
            stream = Video(self.edits, self.work, codec)
        self.streams[code, part] = stream
        return stream

    def _map(self, at: int, end: int) -> bool:
        old = self.window.read(at, end - at)
        found = sections.stream_map(old, self.edits.inner)
        if found is None:
            return False
        for code, codec in found.streams.items():
            begun = self.streams.get((code, 0))
            other = isinstance(begun, Video) and begun.codec not in ("", codec)
            if other or self.codecs.setdefault(code, codec) != codec:
                raise NotThisKindError("it states a stream as two sorts of data")
            if isinstance(begun, Video):
                begun.codec = codec or ""
        if self.edits.put(at, old, found.data):
            self._note(at, len(old), "map")
        return True

    def _is_system(self, at: int, end: int) -> bool:
        rates = self.window.read(at, end - at)[_SYSTEM_BYTES:]
        small = len(rates) <= _MAX_STREAMS * _RATE_BYTES and not len(rates) % _RATE_BYTES
        return small and all(byte & 0x80 for byte in rates[::_RATE_BYTES])

    def _is_navigation(self, at: int, end: int) -> bool:
        """Return True for data about the menus and the parts of a DVD (PCI, DSI) without hidden data.
        Recorders may write the time into it.
        """
        data, inner = self.window.read(at, end - at)[_HEAD_BYTES:], self.edits.inner
        if (len(data), data[:1]) not in _DISC_DATA or inner.hide & _DISC_DATA_TELLS:
            return False
        return not told_in_kept(data, inner.hide & Tells.LOCATION, inner.budget, numbers=True)

    def _drop(self, at: int, end: int, code: int) -> None:
        data = self.window.read(at + _HEAD_BYTES, end - at - _HEAD_BYTES)
        if not is_uniform(data):
            self.edits.put(at + 3, bytes((code,)), bytes((_PADDING,)))
            self._stuff(at + _HEAD_BYTES, end, f"stream 0x{code:02x}")

    def _stuff(self, start: int, end: int, tag: str) -> None:
        data = self.window.read(start, max(0, end - start))
        if not is_uniform(data):
            self.edits.found.patches.append(Patch(start, b"\xff" * len(data)))
            self._note(start, len(data), tag)

    def _note(self, place: int, length: int, tag: str) -> None:
        if tag not in self.noted:
            self.noted.add(tag)
            self.edits.note(place, length, tag)
