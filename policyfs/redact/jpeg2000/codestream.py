"""Cleaner of JPEG 2000 codestreams (ITU-T T.800 Annex A): it reads the headers and skips the data.

A codestream has a main header, then tile-parts of a known length, each with a header of its own. Comments
(COM) are free text or any bytes. Kakadu and OpenJPEG write their names there; map makers write coordinates
there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import ByteSource, difference, zeros
from policyfs.redact.core.tag_names import told

SOC: Final = b"\xff\x4f\xff\x51"
"""The start of a codestream: its marker, and the marker of the segment that must come first (SIZ)."""
_SIZ: Final = 0x51
_COM: Final = 0x64
_SOT: Final = 0x90
_SOD: Final = 0x93
_EOC: Final = 0xD9
_SOT_BYTES: Final = 12
_CHUNK_BYTES: Final = 1 << 18
_LATIN: Final = 1
_PACKED: Final = frozenset({0x57, 0x58, 0x60, 0x61})
"""Markers of segments with the headers of packets, which belong to the picture: PLM PLT PPM PPT."""
_KNOWN: Final = frozenset(
    {_SIZ, 0x50, 0x52, 0x53, 0x55, 0x56, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x63}
    | {0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79}
)
"""CAP COD COC TLM PRF CPF QCD QCC RGN POC CRG (T.800, T.814), DFS ADS MCT MCC NLT MCO CBD ATK (T.801)."""


def walk_codestream(source: ByteSource, inner: Inner) -> Found | None:
    """Return the changes to a codestream; None if the source is no codestream. Raises TooMuchError."""
    if source.read(0, 4) != SOC:
        return None
    walk = _Walk(source, inner)
    return walk.found if walk.run() else None


@dataclass(slots=True)
class _Walk:
    source: ByteSource
    inner: Inner
    found: Found = field(default_factory=Found)

    def run(self) -> bool:
        """Walk the main header and all tile-parts. Return False if the source is no codestream."""
        at = self._header(2, _SOT)
        tiles = 0
        while at is not None and at < self.source.size:
            head = self.source.read(at, _SOT_BYTES)
            if head[:2] != bytes((0xFF, _SOT)) or len(head) < _SOT_BYTES:
                break
            self.inner.budget.part()
            tiles += 1
            size = int.from_bytes(head[6:10])
            data = self._header(at + _SOT_BYTES, _SOD)
            if data is None or head[2:4] != b"\0\x0a":
                return self._rest(at, tiles - 1)
            at = max(at + size, data + 2) if size else self._last(data + 2)
        if at is None:
            return False
        end = self.source.read(at, 2) == bytes((0xFF, _EOC))
        return self._rest(at + 2 if end else at, tiles)

    def _rest(self, at: int, tiles: int) -> bool:
        """Zero all bytes from `at` on, and drop the changes made there; True if *tiles* came before."""
        self.found.patches = [patch for patch in self.found.patches if patch.offset < at]
        self.found.notes = [note for note in self.found.notes if note.offset < at]
        patches = list(zeros(self.source, at, self.source.size)) if at < self.source.size else []
        if patches:
            self.found.patches += patches
            self.found.notes.append(Note(at, self.source.size - at, "JPEG 2000", "behind the picture"))
        return tiles > 0

    def _header(self, at: int, stop: int) -> int | None:
        while True:
            self.inner.budget.part()
            head = self.source.read(at, 4)
            if len(head) < 2 or head[0] != 0xFF or head[1] < 0x4F:
                return None
            if head[1] == stop:
                return at
            size = int.from_bytes(head[2:4])
            if len(head) < 4 or size < 2 or head[1] in (_SOD, _SOT, _EOC):
                return None
            self._segment(head[1], at + 4, min(at + 2 + size, self.source.size))
            at += 2 + size

    def _segment(self, code: int, start: int, end: int) -> None:
        if code in _PACKED or start >= end:
            return
        old = self.source.read(start, end - start)
        asked = self.inner.hide & Tells.LOCATION
        if code in _KNOWN and not told_in_kept(old, asked, self.inner.budget, numbers=True):
            return
        self.inner.budget.search(len(old))
        new, tells = bytes(len(old)), UNKNOWN
        if code == _COM:
            latin = int.from_bytes(old[:2]) == _LATIN
            blank = old[:2] + (b" " if latin else b"\0") * (len(old) - 2)
            tells = self._text(old[2:]) if latin else UNKNOWN
            new = blank if tells & self.inner.hide else old
        patches = list(difference(start, old, new[: len(old)]))
        if patches:
            tag = "COM" if code == _COM else f"marker {code:02x}"
            self.found.patches += patches
            self.found.notes.append(Note(start, end - start, "JPEG 2000", tag, tells))

    def _text(self, text: bytes) -> Tells:
        if not self.inner.budget.look(len(text)):
            return UNKNOWN
        return told(self.inner.hide, Tells.DEVICE | Tells.PEOPLE, text)

    def _last(self, at: int) -> int:
        """Return the end of data of unstated length: EOC, which no data has, or the end of the file."""
        while chunk := self.source.read(at, _CHUNK_BYTES):
            found = chunk.find(bytes((0xFF, _EOC)))
            if found >= 0:
                return at + found
            self.inner.budget.search(len(chunk))
            if len(chunk) < _CHUNK_BYTES:
                break
            at += len(chunk) - 1
        return self.source.size
