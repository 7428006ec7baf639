"""Streams of a PDF with metadata: object streams, XMP, and pictures.

A stream's length never changes. Compressed data is compressed again into the same number of bytes; empty
blocks fill the rest (core/bounded_inflate.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.bounded_inflate import deflated_to, inflated
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import (
    Budget,
    Cleaned,
    Found,
    Inner,
    Note,
    NotThisKindError,
    TooMuchError,
    shifted,
)
from policyfs.redact.core.patches import ByteSource, SliceSource, difference
from policyfs.redact.pdf import ascii85
from policyfs.redact.pdf.jbig2 import without_comments
from policyfs.redact.pdf.keys import Edits, edit, silenced
from policyfs.redact.pdf.object_scan import Item
from policyfs.redact.pdf.objects import MAX_TOKENS, MalformedError, Node, Reader, is_regular
from policyfs.redact.pdf.private_keys import tells_nothing

MAX_XMP_BYTES: Final = 4 << 20
MAX_OBJECTS: Final = 50_000

_FLATE: Final = (b"FlateDecode", b"Fl")
_ASCII85: Final = (b"ASCII85Decode", b"A85")
_ASCII85_COST: Final = 4
"""Work to decode and encode a byte of ASCII85, in bytes to inflate."""
_JPEG: Final = (b"DCTDecode", b"DCT")
_COMMENT: Final = re.compile(rb"%[^\r\n]*")
_BLANK: Final = b"\0\t\n\x0c\r "
_HEAD: Final = re.compile(rb"[0-9\x00\t\n\x0c\r ]*")
_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_NULL: Final = b"null"
_WORDS: Final = (b"true", b"false", b"null")
_CODESTREAM: Final = b"\xff\x4f\xff\x51"


@dataclass(slots=True)
class Room:
    """The work on one file: tokens and objects read so far, and the file's budget (for inflated bytes)."""

    budget: Budget
    tokens: int = 0
    objects: int = 0

    def inflate(self, data: bytes) -> tuple[bytes, bytes]:
        """Inflate a stream. Return its data, and the stream with zeros for the bytes behind its end.

        Raises NotThisKindError, TooMuchError.
        """
        whole = inflated(data, self.budget, self.budget.inflated)
        if whole is None:
            raise NotThisKindError("a stream in it cannot be decompressed")
        said, rest = whole
        tidy = data[: len(data) - len(rest)].ljust(len(data), b"\0") if rest.strip(b"\0\r\n") else data
        return said, tidy

    def count(self, tokens: int) -> None:
        """Count an object and its tokens. Raises TooMuchError."""
        self.tokens += tokens
        self.objects += 1
        if self.tokens > MAX_TOKENS or self.objects > MAX_OBJECTS:
            raise TooMuchError("too many objects")


def _packed(plain: bytes, size: int) -> bytes | None:
    """Return a compressed stream of exactly `size` bytes, perhaps with zeros behind it; or None."""
    return deflated_to(plain, size, padded=True)


def filters_of(node: Node) -> tuple[bytes, ...] | None:
    """Return the names of a stream's filters, in order; None if they cannot be read."""
    value = node.get(b"Filter") or node.get(b"F")
    if value is None or (value.kind == "word" and value.text == b"null"):
        return ()
    if value.kind == "name":
        return (value.text,)
    if value.kind == "array" and all(item.kind == "name" for item in value.items):
        return tuple(item.text for item in value.items)
    return None


def _has_predictor(node: Node) -> bool:
    parameters = node.get(b"DecodeParms") or node.get(b"DP")
    if parameters is None:
        return False
    each = parameters.items if parameters.kind == "array" else [parameters]
    return any(
        part.kind == "ref" or (part.kind == "dict" and (part.integer(b"Predictor") or 1) != 1)
        for part in each
    )


@dataclass(slots=True)
class Inside:
    """An object in an object stream, with the range [start, end) of its text. bare: it tells nothing."""

    number: int
    start: int
    end: int
    edits: Edits
    bare: bool


@dataclass(slots=True)
class ObjectStream:
    """An object stream: its text, and the objects in it.

    packed: True if the stream is compressed. tidy: the text, with spaces in place of comments and of bytes
    between objects. raw: the bytes of the stream; zeros replace any data behind the end of the compressed
    part.
    """

    data: int
    size: int
    packed: bool
    text: bytes
    tidy: bytes
    raw: bytes
    objects: list[Inside] = field(default_factory=list)
    integers: dict[int, set[int]] = field(default_factory=dict)
    """A dictionary from the number of an object to its values, for objects that are whole numbers."""

    @classmethod
    def read(
        cls, source: ByteSource, item: Item, node: Node, inner: Inner, room: Room, infos: AbstractSet[int]
    ) -> ObjectStream:
        """Read an object stream. Record the edits of each object in it; found() applies them.

        node: the dictionary of the stream. infos: numbers of document information dictionaries. Raises
        NotThisKindError, TooMuchError.
        """
        data, end = item.data, item.data_end
        filters = filters_of(node)
        raw = source.read(data, end - data)
        if (
            filters is None
            or len(filters) > 1
            or _has_predictor(node)
            or node.get(b"Subtype") is not None  # then N and First would be private keys of a picture
            or (filters and filters[0] not in _FLATE)
        ):
            raise NotThisKindError("objects in it are packed in an unusual way")
        text, tidy = room.inflate(raw) if filters else (raw, raw)
        made = cls(data, end - data, bool(filters), text, text, tidy)
        made._find(node.integer(b"N"), node.integer(b"First"), inner, room, infos)
        return made

    def _find(
        self, count: int | None, first: int | None, inner: Inner, room: Room, infos: AbstractSet[int]
    ) -> None:
        if count is None or first is None or first > len(self.text) or count > MAX_OBJECTS:
            raise NotThisKindError("an object stream in it is malformed")
        head = _COMMENT.sub(lambda found: b" " * len(found[0]), self.text[:first])
        numbers = [
            int(word)
            for word in re.split(rb"[\x00\t\n\x0c\r ]+", head.strip(_BLANK))[: 2 * count]
            if word.isdigit() and len(word) <= 12
        ]
        if _HEAD.fullmatch(head) is None or len(numbers) != 2 * count:
            raise NotThisKindError("an object stream in it is malformed")
        tidy = bytearray(self.text)
        for found in _COMMENT.finditer(self.text, 0, first):
            tidy[found.start() : found.end()] = b" " * len(found[0])
        done = first
        for number, offset in sorted(zip(numbers[::2], numbers[1::2], strict=True), key=lambda pair: pair[1]):
            reader = Reader(self.text, first + offset)
            try:
                node = reader.value()
            except MalformedError:
                raise NotThisKindError("an object in it is malformed") from None
            if node.kind == "word" and node.text.isalpha() and node.text not in _WORDS:
                # Without the bytes between them, the objects 1, 0 and R would become a reference.
                raise NotThisKindError("an object in it is malformed")
            room.count(reader.tokens)
            if node.start < done:
                raise NotThisKindError("objects in it overlap")
            for start, end in [(done, node.start), *reader.comments]:
                if self.text[start:end].strip(_BLANK):
                    tidy[start:end] = b" " * (end - start)
            edits = edit(node, inner.hide, inner.budget, info=number in infos)
            bare = not edits.taken and tells_nothing(node)
            self.objects.append(Inside(number, node.start, node.end, edits, bare))
            if node.kind == "word" and node.text.isdigit() and len(node.text) <= 12:
                self.integers.setdefault(number, set()).add(int(node.text))
            done = node.end
        if self.text[done:].strip(_BLANK):
            tidy[done:] = b" " * (len(tidy) - done)
        self.tidy = bytes(tidy)

    def found(self, source: ByteSource, reached: set[int], texts: Mapping[int, Tells]) -> Found:
        """Return the changes for removed entries and for objects to which nothing refers any more.

        reached: numbers of referenced objects. texts: like Edits.texts, for the whole file. Raises
        NotThisKindError if the new text cannot be compressed into the same length.
        """
        new, found = self.tidy, Found()
        for inside in self.objects:
            if inside.number not in reached:
                size = inside.end - inside.start
                if size < 4 or inside.bare or self.text[inside.start : inside.end].isdigit():
                    continue
                before = self.text[inside.start - 1 : inside.start]
                behind = self.text[inside.start + len(_NULL) :][:1]  # the next word would continue "null"
                apart = not is_regular(before) and not (size == len(_NULL) and is_regular(behind))
                none = (_NULL if apart else b"()").ljust(size)
                new = new[: inside.start] + none + new[inside.end :]
                continue
            edits = inside.edits
            if inside.number in texts:
                kept = Reader(edits.applied(self.text), inside.start).value()
                aside = silenced(kept, texts[inside.number])
                edits = aside if aside.taken else edits
            edits.check()
            new = edits.applied(new)
            for _, _, key, tells in edits.taken:
                found.notes.append(
                    Note(self.data, self.size, "PDF, object stream", key.decode("latin-1"), tells)
                )
        packed = self.raw if new == self.text else _packed(new, self.size) if self.packed else new
        if packed is None:
            raise NotThisKindError("an object stream without its metadata is larger than before")
        found.patches += difference(self.data, source.read(self.data, self.size), packed)
        if not found.patches:
            return Found()
        found.notes = found.notes or [Note(self.data, self.size, "PDF, object stream", "unused object")]
        return found


def clean_xmp_stream(
    source: ByteSource, data: int, end: int, node: Node, inner: Inner, room: Room
) -> Found | None:
    """Clean a stream of XMP. Return None if the whole stream must be removed."""
    filters, size = filters_of(node), end - data
    if size > MAX_XMP_BYTES or filters is None or len(filters) > 1 or _has_predictor(node):
        return None
    if filters and filters[0] not in _FLATE:
        return None
    raw = source.read(data, size)
    text, tidy = room.inflate(raw) if filters else (raw, raw)
    cleaned = inner.xmp(text)
    new: bytes | None = tidy
    if cleaned.data != text:
        new = _packed(cleaned.data, size) if filters else cleaned.data
    if new is None:
        return None
    return _found(data, raw, new, cleaned, bool(filters))


def _found(data: int, raw: bytes, new: bytes, cleaned: Cleaned, packed: bool) -> Found:
    """Return the changes to a stream. If it is compressed, each record covers the whole stream."""
    patches = list(difference(data, raw, new))
    if not patches:
        return Found()
    notes = list(shifted(cleaned.notes, data))
    if packed or not notes:
        names = notes or [Note(data, len(raw), "PDF", "behind a stream")]
        notes = [note._replace(offset=data, length=len(raw)) for note in names]
    return Found(patches, notes)


def clean_jbig2(source: ByteSource, data: int, end: int, node: Node, inner: Inner, room: Room) -> Found:
    """Clean a JBIG2 picture, or the symbols that such pictures share: remove comments.

    Raises NotThisKindError, TooMuchError.
    """
    filters = [name for name in filters_of(node) or () if name != b"JBIG2Decode"]
    raw = source.read(data, end - data)
    if filters and (len(filters) > 1 or filters[0] not in _FLATE):
        raise NotThisKindError("a picture in it is not understood")
    text, tidy = room.inflate(raw) if filters else (raw, raw)
    cleaned = without_comments(text, inner.budget)
    new: bytes | None = tidy
    if cleaned != text:
        new = _packed(cleaned, len(raw)) if filters else cleaned
    if new is None:
        raise NotThisKindError("a picture without its comments is larger than before")
    return _found(data, raw, new, Cleaned(new, (Note(0, len(raw), "PDF", "JBIG2 comment"),)), packed=True)


def _picture(raw: bytes, outer: bytes, room: Room) -> tuple[bytes, bytes]:
    """Return the picture without the filter *outer*, and the stream without bytes behind its end."""
    if outer in _FLATE:
        return room.inflate(raw)
    room.budget.inflate(_ASCII85_COST * len(raw))
    picture = ascii85.decoded(raw) if outer in _ASCII85 else None
    if picture is None:
        raise NotThisKindError("a picture in it is not understood")
    return picture, ascii85.tidied(raw)


def clean_picture(source: ByteSource, data: int, end: int, node: Node, inner: Inner, room: Room) -> Found:
    """Clean an embedded JPEG or JPEG 2000. Raises NotThisKindError if the picture is not understood."""
    filters = filters_of(node)
    size = end - data
    found: Found | None = None
    if filters is not None and len(filters) == 1:
        part = SliceSource(source, data, size)
        start = part.read(0, 12)
        if filters[0] in _JPEG:
            found = inner.file("image/jpeg", part)
        elif start == _JP2:
            found = inner.file("image/jp2", part)
        elif start.startswith(_CODESTREAM):
            found = inner.file("image/x-jp2-codestream", part)
    elif filters is not None and len(filters) == 2 and filters[1] in (*_JPEG, b"JPXDecode"):
        raw = source.read(data, size)
        picture, tidy = _picture(raw, filters[0], room)
        cleaned = inner.jpeg(picture) if filters[1] in _JPEG else inner.image(picture)
        if cleaned is not None:
            pack = _packed if filters[0] in _FLATE else ascii85.encoded
            new = pack(cleaned.data, size) if cleaned.data != picture else tidy
            if new is not None:
                return _found(data, raw, new, cleaned, packed=True)
    if found is None:
        raise NotThisKindError("a picture in it is not understood")
    shifted_found = Found()
    shifted_found.add(found, data)
    return shifted_found
