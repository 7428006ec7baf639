"""PDF files (ISO 32000-2): document information, XMP, comments, attached files, pictures, private data.

Every object of every revision is examined, also in compressed object streams (object_scan.py, streams.py). An
object becomes null if no kept entry refers to it. The text and the fonts of pages stay. A file is refused if
it is encrypted or damaged, or if its cleaned data does not fit into the same length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.matroska.ebml import zero_patches
from policyfs.redact.pdf.keys import Edits, edit, silenced
from policyfs.redact.pdf.object_scan import HEAD_BYTES, MARK, Item, Scan
from policyfs.redact.pdf.objects import Node, Reader, has_two_values, is_regular
from policyfs.redact.pdf.private_keys import is_document_part, tells_nothing
from policyfs.redact.pdf.streams import (
    ObjectStream,
    Room,
    clean_jbig2,
    clean_picture,
    clean_xmp_stream,
    filters_of,
)

_PICTURES: Final = frozenset({b"DCTDecode", b"DCT", b"JPXDecode"})
_JBIG2: Final = b"JBIG2Decode"
_NULL: Final = b"null"
_DECISIVE: Final = frozenset(b"Type Subtype Length Filter F DecodeParms DP N First".split())
"""Keys that decide how a stream is read. Of two values, some readers use the first, some the last."""


def locate_pdf(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a PDF; return the changes that hide it.

    Raises NotThisKindError if the file is no PDF, or if a part of it is not understood; TooMuchError.
    """
    if MARK not in source.read(0, HEAD_BYTES):
        raise NotThisKindError("it does not start like a PDF")
    return _Locator(source, inner, Scan(source, inner.budget)).locate()


@dataclass(slots=True)
class _Object:
    """An object and its edits. role: "trailer", the purpose of its stream, or ""."""

    item: Item
    edits: Edits
    role: str = ""


@dataclass(slots=True)
class _Locator:
    """The search in one PDF. hints: offsets of hint streams. symbols: streams that JBIG2 pictures share."""

    source: ByteSource
    inner: Inner
    scan: Scan
    room: Room = field(init=False)
    found: Found = field(default_factory=Found)
    objects: list[_Object] = field(default_factory=list)
    streams: list[ObjectStream] = field(default_factory=list)
    infos: set[int] = field(default_factory=set)
    roots: set[int] = field(default_factory=set)
    hints: set[int] = field(default_factory=set)
    symbols: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.room = Room(self.inner.budget)

    def locate(self) -> Found:
        packed: list[_Object] = []
        for item, node in self.scan.items():
            here = self._take(item, node)
            self.objects.append(here)
            if here.role == "objects":
                packed.append(here)
        if not self.roots:
            raise NotThisKindError("it has no trailer")
        self._informations()
        integers: dict[int, set[int]] = {}
        for here in packed:
            node = self.scan.value_of(here.item)
            self.room.tokens = self.scan.tokens
            stream = ObjectStream.read(self.source, here.item, node, self.inner, self.room, self.infos)
            self.scan.tokens = self.room.tokens
            self.streams.append(stream)
            for number, values in stream.integers.items():
                integers.setdefault(number, set()).update(values)
        self._lengths(packed, integers)
        self._settle(self._reached())
        return self.found

    def _take(self, item: Item, node: Node) -> _Object:
        if item.data and is_document_part(node):  # Length, Filter would be removed as private entries
            raise NotThisKindError("a page or the catalog in it is a stream")
        if item.data and has_two_values(node, _DECISIVE):
            raise NotThisKindError("a stream in it has two values of one key")
        kind = node.name(b"Type") if node.kind == "dict" else b""
        table = kind == b"XRef" or (node.get(b"W") is not None and node.get(b"Size") is not None)
        trailer = item.number < 0 or (table and item.data > 0)
        edits = edit(node, self.inner.hide, self.inner.budget, trailer=trailer)
        if trailer:
            self._trailer(node)
            return _Object(item, edits, "trailer")
        if node.kind == "dict" and node.get(b"Linearized") is not None:
            offsets = node.get(b"H")
            if offsets is not None and offsets.kind == "array":
                self.hints |= {
                    int(part.text)
                    for part in offsets.items[::2]
                    if part.text.isdigit() and len(part.text) <= 12
                }
            return _Object(item, edits, "trailer")
        return _Object(item, edits, self._role(node, kind) if item.data else "")

    def _role(self, node: Node, kind: bytes) -> str:
        filters = filters_of(node)
        if kind == b"ObjStm":
            return "objects"
        if kind in (b"EmbeddedFile", b"Sound"):
            return "file"
        if kind == b"Metadata" or node.name(b"Subtype") == b"XML":
            return "xmp"
        if filters is None or _PICTURES & set(filters):
            return "picture"
        if _JBIG2 in filters:
            return "jbig2"
        return ""

    def _trailer(self, node: Node) -> None:
        if node.get(b"Encrypt") is not None:
            raise NotThisKindError("it is encrypted (also if it opens without a password)")
        for key, _, value in node.members:  # some readers use the first of two values, others the last
            if value.kind == "ref" and key in (b"Info", b"Root"):
                (self.infos if key == b"Info" else self.roots).add(value.number)

    def _lengths(self, packed: list[_Object], integers: dict[int, set[int]]) -> None:
        """Check lengths that are in object streams. Raises NotThisKindError, also if one of these lacks its
        own.
        """
        own = {id(here.item) for here in packed}
        if any(id(item) in own for _, item in self.scan.unsure):
            raise NotThisKindError("the length of an object stream in it is unknown")
        self.scan.agree(self.scan.unsure, integers)

    def _informations(self) -> None:
        """Edit the document information again: only trailers, perhaps read later, say which objects it is."""
        for here in self.objects:
            if here.item.number in self.infos and here.role != "trailer":
                if here.item.data:
                    raise NotThisKindError("its document information is a stream")
                node = self.scan.value_of(here.item)
                here.edits = edit(node, self.inner.hide, self.inner.budget, info=True)

    def _reached(self) -> set[int]:
        refers: dict[int, set[int]] = {}
        waiting: set[int] = set()
        for here in self.objects:
            if here.role in ("trailer", "objects"):
                waiting |= here.edits.refs
            elif here.role != "file":  # an attached file is removed, so it refers to nothing
                refers.setdefault(here.item.number, set()).update(here.edits.refs)
        for stream in self.streams:
            for inside in stream.objects:
                refers.setdefault(inside.number, set()).update(inside.edits.refs)
        reached: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number not in reached:
                reached.add(number)
                waiting |= refers.get(number, set())
        return reached

    def _all_edits(self) -> Iterator[Edits]:
        for here in self.objects:
            yield here.edits
        for stream in self.streams:
            yield from (inside.edits for inside in stream.objects)

    # --- changes to objects ---

    def _settle(self, reached: set[int]) -> None:
        metadata = {n for edits in self._all_edits() for n in edits.metadata}
        self.symbols = {n for edits in self._all_edits() for n in edits.symbols}
        texts: dict[int, Tells] = {}
        for edits in self._all_edits():
            for number, tells in edits.texts.items():
                texts[number] = texts.get(number, NOTHING) | tells
        for here in self.objects:
            if here.item.number in texts and not here.role and not here.item.data:
                start, end = here.item.start, here.item.end
                kept = here.edits.applied(self.source.read(start, end - start))
                aside = silenced(Reader(kept + b"\n").value(), texts[here.item.number])
                here.edits = aside if aside.taken else here.edits
            self._object(here, reached, metadata)
        for stream in self.streams:
            self.found.add(stream.found(self.source, reached, texts))
        gone = [(patch.offset, patch.end) for patch in self.found.patches]
        for start, end in self.scan.junk:
            self._blank(start, end, "junk")
        self._comments(gone)

    def _object(self, here: _Object, reached: set[int], metadata: set[int]) -> None:
        item = here.item
        tables = here.role in ("trailer", "objects")
        if tables and item.data and item.number in metadata:
            raise NotThisKindError("a stream in it is used as metadata and as a table")
        kept = tables or item.header in self.hints
        if here.role == "file" or not (kept or item.number in reached):
            if item.data or here.edits.taken or not tells_nothing(self.scan.value_of(item)):
                self._null(item)
            return
        found: Found | None = Found()
        holds_xmp = not here.role and self.scan.check_inside(item.start, item.last)
        packet = item.data and (item.number in metadata or (holds_xmp and self._is_plain(item)))
        if here.role == "xmp" or packet:
            node = self.scan.value_of(item)
            found = clean_xmp_stream(self.source, item.data, item.data_end, node, self.inner, self.room)
        elif here.role == "picture":
            node = self.scan.value_of(item)
            found = clean_picture(self.source, item.data, item.data_end, node, self.inner, self.room)
        elif here.role == "jbig2" or (item.data and item.number in self.symbols):
            node = self.scan.value_of(item)
            found = clean_jbig2(self.source, item.data, item.data_end, node, self.inner, self.room)
        if found is None:
            if here.edits.refs - self.scan.integers.keys():
                raise NotThisKindError("metadata in it is packed in an unusual way")
            self._null(item)
            return
        if here.role:
            self.scan.check_inside(item.start, item.last)
        self.found.add(found)
        self._edit(item.start, here.edits)

    def _is_plain(self, item: Item) -> bool:
        """Return True if a stream has no filter: readers find a packet of XMP in it by its first bytes."""
        return filters_of(self.scan.value_of(item)) == ()

    def _edit(self, start: int, edits: Edits) -> None:
        edits.check()
        for at, end in edits.blanks:
            self.found.patches.append(Patch(start + at, b" " * (end - at)))
        for at, new in edits.strings:
            self.found.patches.append(Patch(start + at, new))
        for at, length, key, tells in edits.taken:
            self.found.notes.append(Note(start + at, length, "PDF", key.decode("latin-1"), tells))

    def _null(self, item: Item) -> None:
        """Turn an object and its stream into null and zeros. A number, and less than "null", stays."""
        end = item.last
        if item.data:
            end += self.source.read(item.data_end, 64).index(b"endstream") + len(b"endstream")
        elif (
            end - item.start < len(_NULL) or self.source.read(item.start, end - item.start).strip().isdigit()
        ):
            return
        head = self.source.read(item.start, len(_NULL) + 1)
        lead = len(head) - len(head.lstrip(b"\0\t\n\x0c\r "))
        at, none = item.start + lead, _NULL if lead else b" " + _NULL
        apart = b"[" + b" " * (len(none) - 2) + b"]"
        if end - at < len(none) or self.source.read(at, len(none)) in (none, apart):
            return
        if end - at == len(none) and is_regular(self.source.read(end, 1)):
            none = apart  # else the next word would continue "null"
        self.found.patches.append(Patch(at, none))
        self.found.patches += zero_patches(self.source, at + len(none), end)
        self.found.notes.append(Note(at, end - at, "PDF", "unused object"))

    def _blank(self, start: int, end: int, tag: str) -> None:
        patches = list(zero_patches(self.source, start, end))
        self.found.patches += patches
        self.found.notes += [Note(start, end - start, "PDF", tag) for _ in patches]

    def _comments(self, gone: list[tuple[int, int]]) -> None:
        for start, end in _outside(sorted(set(self.scan.comments)), sorted(gone)):
            self._blank(start, end, "comment")


def _outside(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in spans:
        while at < len(others) and others[at][1] <= start:
            at += 1
        if at == len(others) or others[at][0] >= end:
            yield start, end
