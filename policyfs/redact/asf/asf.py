"""ASF files: WMV and WMA. The header is cleaned object by object, and each packet of data is looked at.

Unknown objects become padding. Payloads of streams that are no pictures and no sound become zeros, and so
does padding. Pictures of codecs with messages are searched like those of other films.
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.asf import attributes
from policyfs.redact.asf.objects import GUIDS, HEAD_BYTES, Part, parts
from policyfs.redact.asf.packets import packet
from policyfs.redact.asf.streams import StreamTable
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, NotThisKindError
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.filler import is_uniform
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, Window, zeros
from policyfs.redact.core.tag_names import is_blank, is_language

_HEADER_BYTES: Final = HEAD_BYTES + 6
_DATA_BYTES: Final = HEAD_BYTES + 26
_EXTENSION_BYTES: Final = 22
_FILE_BYTES: Final = 80
_ID_BYTES: Final = 16
_DATE: Final = (24, 32)
_PACKET_SIZES: Final = (68, 72)
"""Offsets in the properties of the file: of the date, of the least and the largest size of a packet."""
_CORRECTION_END: Final = 3
"""End of the usual data for the correction of errors in a packet: two numbers."""
_MAX_PACKET_BYTES: Final = 1 << 20
_MAX_NUMBERS_BYTES: Final = 1 << 16
_NUMBERS: Final = frozenset(
    {
        *("mutual exclusion", "error correction", "stream bitrates", "advanced mutual exclusion"),
        *("index placeholder", "group mutual exclusion", "stream priorities", "bandwidth sharing"),
        *("index parameters", "media index parameters", "timecode index parameters", "compatibility"),
    }
)
"""Objects that hold only numbers."""
_INDEXES: Final = frozenset({"simple index", "index", "media index", "timecode index"})
_ENCRYPTED: Final = frozenset(
    {"content encryption", "extended content encryption", "advanced content encryption"}
)
_VALUES: Final = {
    "extended content description": attributes.EXTENDED,
    "metadata": attributes.LIBRARY,
    "metadata library": attributes.LIBRARY,
}


def locate_asf(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an ASF file. Raises NotThisKindError, TooMuchError."""
    head = source.read(0, _HEADER_BYTES)
    if len(head) < _HEADER_BYTES or head[:16] != GUIDS["header"]:
        raise NotThisKindError("it does not start like an ASF file")
    return _Locator(Edits(source, inner, "ASF")).locate(int.from_bytes(head[16:24], "little"))


class _Locator:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.source = edits.source
        self.inner = edits.inner
        self.streams = StreamTable(edits)
        self.packet_bytes = 0

    def locate(self, header_end: int) -> Found:
        """Locate everything to hide. header_end: end of the header object, as it states."""
        size, at = self.source.size, _HEADER_BYTES
        if not _HEADER_BYTES <= header_end <= size:
            raise NotThisKindError("its header is cut off")
        for part in parts(self.source, _HEADER_BYTES, header_end, self.inner):
            self._header(part, outer=True)
            at = part.end
        self.edits.zero(at, header_end, "behind the header", broken=True)
        if not self.packet_bytes or not self.streams.media:
            raise NotThisKindError("there is no picture and no sound in it")
        at, found = header_end, False
        for part in parts(self.source, header_end, size, self.inner):
            at = part.end
            if part.name == "data" and part.end - part.at >= _DATA_BYTES:
                found = True
                self._data(part)
            elif part.name == "padding":
                self.edits.zero(part.start, part.end, "padding")
            elif part.name not in _INDEXES or self._tells(part):
                self._drop(part)
        if not found and header_end < size:
            raise NotThisKindError("there is no picture and no sound in it")
        self.edits.zero(at, size, "trailer")
        self.streams.finish()
        return self.edits.found

    # --- header ---

    def _header(self, part: Part, *, outer: bool = False) -> None:
        name, whole = part.name, part.whole and part.end - part.start <= MAX_BLOCK_BYTES
        body = self.source.read(part.start, part.end - part.start) if whole else b""
        if name in _ENCRYPTED:
            raise NotThisKindError("it is encrypted")
        if name == "header extension" and outer and part.whole:
            self._extension(part)
        elif name == "padding":
            self.edits.zero(part.start, part.end, "padding")
        elif not whole or not self._cleaned(part, body):
            if name in ("file properties", "stream properties"):
                raise NotThisKindError(f"its {name} are not understood")
            self._drop(part)

    def _extension(self, part: Part) -> None:
        at = part.start + _EXTENSION_BYTES
        head = self.source.read(part.start, min(_EXTENSION_BYTES, part.end - part.start))
        if told_in_kept(head, self.inner.hide, self.inner.budget):
            self._drop(part)
            return
        for inside in parts(self.source, at, part.end, self.inner):
            self._header(inside)
            at = inside.end
        self.edits.zero(at, part.end, "behind the header", broken=True)

    def _cleaned(self, part: Part, body: bytes) -> bool:
        """Clean a known object; return False if it must become padding."""
        name, start = part.name, part.start
        if name == "file properties":
            return self._file(start, body)
        if name == "stream properties":
            return self.streams.add(start, body)
        if name == "extended stream properties":
            return self.streams.describe(start, body)
        if name == "codec list":
            return self._block(start, body, self.streams.codec_names(body))
        if name == "content description":
            return self._block(start, body, attributes.clean_titles(body, self.inner))
        if name in _VALUES:
            return self._block(start, body, attributes.clean_values(body, _VALUES[name], self.inner))
        if name == "languages":
            return _are_languages(body)
        if name == "marker":
            people = self.inner.hide & Tells.PEOPLE
            return not people and not told_in_kept(body, self.inner.hide, self.inner.budget, numbers=True)
        return name in _NUMBERS and len(body) <= _MAX_NUMBERS_BYTES and not self._tells(part)

    def _block(self, start: int, body: bytes, cleaned: Cleaned | None) -> bool:
        if cleaned is not None:
            self.edits.block(start, body, cleaned)
            if cleaned.data != body and not cleaned.notes:
                self.edits.note(start, len(body), "behind the values")
        return cleaned is not None

    def _file(self, start: int, body: bytes) -> bool:
        """Clean the properties of the file: its random id and its date."""
        least, most = (int.from_bytes(body[at : at + 4], "little") for at in _PACKET_SIZES)
        if len(body) < _FILE_BYTES or least != most or not 0 < most <= _MAX_PACKET_BYTES:
            return False
        self.packet_bytes = most
        self._numbers(start, body[:_ID_BYTES], "file id", Tells.DEVICE | Tells.OTHER)
        self._numbers(start + _DATE[0], body[slice(*_DATE)], "date", Tells.TIME | Tells.OTHER)
        self.edits.zero(start + _FILE_BYTES, start + len(body), "behind the properties", broken=True)
        return not told_in_kept(body[_DATE[0] : _FILE_BYTES], Tells.LOCATION, self.inner.budget, numbers=True)

    def _numbers(self, start: int, data: bytes, tag: str, tells: Tells) -> None:
        if tells & self.inner.hide or told_in_kept(data, self.inner.hide, self.inner.budget):
            self.edits.zero(start, start + len(data), tag, tells)

    def _tells(self, part: Part) -> Tells:
        asked = self.inner.hide & Tells.LOCATION
        return told_in_range(self.source, part.start, part.end, asked, self.inner.budget, numbers=True)

    def _drop(self, part: Part) -> None:
        tag, broken = part.name or "unknown object", not part.whole
        self.edits.put(part.at, self.source.read(part.at, _ID_BYTES), GUIDS["padding"])
        self.edits.found.patches += zeros(self.source, part.start, part.end)
        self.edits.note(part.at, part.end - part.at, tag, broken=broken)

    # --- packets ---

    def _data(self, part: Part) -> None:
        """Clean the packets of data. The last one may be cut off by the end of the file."""
        file_id = self.source.read(part.start, _ID_BYTES)
        self._numbers(part.start, file_id, "file id", Tells.DEVICE | Tells.OTHER)
        window, size = Window(self.source, CHUNK_BYTES), self.packet_bytes
        stop = part.end if not part.whole else part.end - (part.end - part.at - _DATA_BYTES) % size
        for at in range(part.at + _DATA_BYTES, stop, size):
            self._packet(at, window.read(at, min(size, stop - at)))
        self.edits.zero(stop, part.end, "behind the packets")

    def _packet(self, at: int, data: bytes) -> None:
        try:
            found = packet(data.ljust(self.packet_bytes, b"\0"))
        except ValueError:
            raise NotThisKindError("a packet in it is not understood") from None
        if found.corrected[1] > _CORRECTION_END:
            self._zero(at, data, *found.corrected, "error correction")
        for payload in found.payloads:
            self.streams.payload(at, data, payload)
        self._zero(at, data, found.padding, len(data), "padding of a packet")

    def _zero(self, at: int, data: bytes, start: int, end: int, tag: str) -> None:
        """Zero the bytes [start, end) of a packet, unless they are one repeated byte."""
        if not is_uniform(data[start:end]):
            self.edits.zero(at + start, at + end, tag)


def _are_languages(body: bytes) -> bool:
    """Return True for a list of language tags in UTF-16 and nothing else."""
    at = 2
    for _ in range(int.from_bytes(body[:2], "little")):
        size = body[at] if at < len(body) else 0
        tag = body[at + 1 : at + 1 + size].replace(b"\0", b"")
        if tag and not is_language(tag):
            return False
        at += 1 + size
    return at <= len(body) and is_blank(body[at:])
