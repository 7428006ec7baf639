"""Scan for a PDF's objects, from the file's start to its end (ISO 32000-2, 7.5).

The scan trusts no cross-reference table, and finds every object of every revision. Bytes between objects are
known (tables, trailers, the header), or count as junk. The dictionary of a stream states its length. If the
length disagrees with ``endstream``, the file is refused. The scan does not look for objects in strings and in
the bytes of streams. Tables may lead readers to such objects, so check_inside() refuses a file that has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.pdf.objects import MAX_TOKENS, CutOffError, MalformedError, Node, Reader

MARK: Final = b"%PDF-"
HEAD_BYTES: Final = 1024
"""Number of bytes at the start of a file in which readers look for the signature (%PDF-)."""
MAX_FILE_BYTES: Final = 256 << 20
MAX_OBJECTS: Final = 50_000
MAX_VALUE_BYTES: Final = 4 << 20
_WINDOW: Final = 2048
_PEEK: Final = 256
_CHUNK: Final = 1 << 18

_BLANK: Final = rb"[\x00\t\n\x0c\r ]"
_HEADER: Final = re.compile(
    rb"(\d{1,10})" + _BLANK + rb"{1,16}\d{1,5}" + _BLANK + rb"{1,16}obj(?![0-9A-Za-z])"
)
_BLANKS: Final = re.compile(_BLANK + rb"+")
_KNOWN: Final = re.compile(
    rb"end(?:obj|stream)(?![0-9A-Za-z])|endobj(?=" + _HEADER.pattern + rb")"
    rb"|startxref" + _BLANK + rb"+\d{1,12}(?!\d)"
    rb"|%%EOF(?=[\x00\t\n\x0c\r ]|\Z)"
    rb"|%PDF-\d{1,2}\.?\d?|%[\x80-\xff]{2,16}(?: \xab\xba)?[ \t]{0,2}(?=[\r\n])"  # Matplotlib's has a space
)
_GAP: Final = rb"(?:[\x00\t\n\x0c\r ]|%[^\r\n]*+)"
_STREAM: Final = re.compile(rb"(" + _GAP + rb"*)stream(?:\r\n|\n|\r)")
_COMMENT: Final = re.compile(rb"%[^\r\n]*")
_BLANK_RUN: Final = re.compile(_BLANK + rb"*")
_LINE: Final = re.compile(rb"[^\r\n]*")
_SYNC: Final = re.compile(_HEADER.pattern + rb"|xref|trailer|startxref|%%EOF|%PDF-")
_TABLE: Final = re.compile(rb"[0-9nf\x00\t\n\x0c\r ]*")
_NUMBERS: Final = re.compile(rb"\d{1,10}" + _BLANK + rb"{1,16}\d{1,5}" + _BLANK + rb"{1,16}\Z")
_END: Final = re.compile(_BLANK + rb"*endstream(?![0-9A-Za-z])")
_FOUND_END: Final = re.compile(_BLANK + rb"{0,2}endstream" + _BLANK + rb"{0,64}endobj(?![0-9A-Za-z])")
_OF_XMP: Final = (b"<?xpacket", b"<x:xmpmeta", b"<x:xapmeta", b"<\0?\0x\0p\0a\0c\0k\0")
"""Starts of packets of XMP, in UTF-8 and UTF-16."""
_OVERLAP: Final = 16
_WORD_OBJ: Final = re.compile(rb"obj(?<=[0-9.\x00\t-\r ]obj)(?![0-9A-Za-z])")
_WORD_TRAILER: Final = re.compile(rb"trailer")
_GAP_BEFORE: Final = rb"(?:[\x00\t\x0b\x0c ]++|[\r\n]++(?:[^\r\n]*?%)?)"
"""Pattern of white space or a comment in reversed text."""
_GAP_COST: Final = 4
"""Work to match a byte with the patterns below, in bytes to search."""
_LOOK_BACK: Final = 32
_NUMBER_BEFORE: Final = rb"\.?\d[\d.+-]*+"
_CUT_OFF: Final = rb"(?:\.|[\r\n][^\r\n]*+)?\Z"
_NUMBERS_BEFORE: Final = re.compile(_GAP_BEFORE + rb"*" + _NUMBER_BEFORE + _GAP_BEFORE + rb"+\.?\d")
"""Pattern of the two numbers before the word ``obj``, in reversed text."""
_PART_BEFORE: Final = re.compile(
    _GAP_BEFORE
    + rb"*(?:"
    + _CUT_OFF
    + rb"|"
    + _NUMBER_BEFORE
    + rb"(?:"
    + _GAP_BEFORE
    + rb"+)?"
    + _CUT_OFF
    + rb")"
)
"""Pattern of reversed text that ends within a match of _NUMBERS_BEFORE."""


@dataclass(slots=True)
class Item:
    """An object of the file, or a trailer (number -1).

    header: offset of the object. start, end: the range of its value. data, data_end: the range of its
    stream's bytes; data is 0 if the object has no stream.
    """

    number: int
    header: int
    start: int
    end: int
    data: int = 0
    data_end: int = 0

    @property
    def last(self) -> int:
        """Offset behind the object's value; if the object has a stream, the offset behind the stream's
        bytes.
        """
        return self.data_end if self.data else self.end


@dataclass(slots=True)
class Scan:
    """The walk over one file, which yields the objects and trailers with their values.

    junk, comments: ranges of unknown bytes, and of comments in objects. integers: a dictionary from the
    number of an object to its values, for objects that are whole numbers.
    """

    source: ByteSource
    budget: Budget
    junk: list[tuple[int, int]] = field(default_factory=list)
    comments: list[tuple[int, int]] = field(default_factory=list)
    integers: dict[int, set[int]] = field(default_factory=dict)
    unsure: list[tuple[int, Item]] = field(default_factory=list)
    """Streams with their length in another object: pairs of the number of that object and the stream."""
    tokens: int = 0
    objects: int = 0
    headers: int = 0

    def items(self) -> Iterator[tuple[Item, Node]]:
        """Yield all objects and trailers in the order of the file. Raises NotThisKindError, TooMuchError."""
        if self.source.size > MAX_FILE_BYTES:
            raise TooMuchError("too large a document")
        at = 0
        while at < self.source.size:
            window = self.source.read(at, _PEEK)
            self._count(1)
            blanks = _BLANKS.match(window)
            if blanks is not None:
                at += blanks.end()
                continue
            header, known = _HEADER.match(window), _KNOWN.match(window)
            if header is not None:
                item, node = self._object(at, at + header.end(), int(header[1]))
                yield item, node
                at = item.last
            elif known is not None:
                self.headers += known[0].startswith(MARK) and at + len(MARK) <= HEAD_BYTES
                at += known.end()
            elif window.startswith(b"xref"):
                at = self._table(at + 4)
            elif window.startswith(b"trailer"):
                node, end = self._value(at + 7)
                yield Item(-1, at, at + 7, end), node
                at = end
            else:
                at = self._junk(at)
        if not self.headers:
            raise NotThisKindError("it does not start like a PDF")
        self._settle()

    def check_inside(self, start: int, end: int) -> bool:
        """Raise NotThisKindError if a reader of the PDF could find an object or a trailer in the bytes
        [start, end) of an object: in a string, or in a stream. Return True if a packet of XMP may be in them.

        Comments may be between the words of such an object. Raises TooMuchError.
        """
        at, packet = start, False
        while at < end:
            chunk = self.source.read(at, min(_CHUNK, end - at))
            packet = packet or any(mark in chunk for mark in _OF_XMP)
            if b"obj" in chunk and any(
                self._numbers_before(start, at + word.start()) for word in _WORD_OBJ.finditer(chunk)
            ):
                raise NotThisKindError("an object in it has the text of another object inside")
            if b"trailer" in chunk and any(
                self.source.read(self._behind_gap(at + word.end()), 2) == b"<<"
                for word in _WORD_TRAILER.finditer(chunk)
            ):
                raise NotThisKindError("an object in it has the text of a trailer inside")
            if len(chunk) <= _OVERLAP:
                break
            at += len(chunk) - _OVERLAP
        return packet

    def _numbers_before(self, start: int, at: int) -> bool:
        """Return True if [start, at) ends with two numbers. Blanks and comments may follow each number."""
        self._count(1)
        size = _LOOK_BACK
        while True:
            begin = max(start, at - size)
            text = self.source.read(begin, at - begin)[::-1]
            self.budget.search(_GAP_COST * len(text))
            if _NUMBERS_BEFORE.match(text) is not None:
                return True
            if begin == start or _PART_BEFORE.match(text) is None:
                return False
            size *= 8

    def _behind_gap(self, at: int) -> int:
        while True:
            self._count(1)
            at = self._behind(at, _BLANK_RUN)
            if self.source.read(at, 1) != b"%":
                return at
            at = self._behind(at, _LINE)

    def _behind(self, at: int, pattern: re.Pattern[bytes]) -> int:
        """Return the offset behind a run of bytes that each match the pattern, read in pieces."""
        size = _PEEK
        while chunk := self.source.read(at, size):
            found = pattern.match(chunk)
            length = found.end() if found is not None else 0
            self.budget.search(length)
            at += length
            if length < len(chunk):
                break
            size = min(4 * size, _CHUNK)
        return at

    def value_of(self, item: Item) -> Node:
        """Parse the value of an object or trailer again, and return it."""
        return self._value(item.start)[0]

    def _object(self, header: int, start: int, number: int) -> tuple[Item, Node]:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise TooMuchError("too many objects")
        node, end = self._value(start)
        if node.kind == "word" and node.text.isdigit() and len(node.text) <= 12:
            self.integers.setdefault(number, set()).add(int(node.text))
        item = Item(number, header, start, end)
        stream = _STREAM.match(self.source.read(end, _WINDOW)) if node.kind == "dict" else None
        if stream is not None:
            self.comments += [(end + at.start(), end + at.end()) for at in _COMMENT.finditer(stream[1])]
            self._stream(item, node, end + stream.end())
        return item, node

    def _value(self, start: int) -> tuple[Node, int]:
        size = _WINDOW
        while size <= MAX_VALUE_BYTES:
            text = self.source.read(start, size)
            whole = start + len(text) >= self.source.size
            reader = Reader(text)
            node = self._read(reader, whole)
            self._count(reader.tokens)
            self.budget.search(reader.at)
            if node is not None and (whole or reader.at + 32 < len(text)):
                self.comments += [(start + at, start + end) for at, end in reader.comments if end <= node.end]
                return node, start + node.end
            size *= 4
        raise TooMuchError("too large an object")

    def _read(self, reader: Reader, whole: bool) -> Node | None:
        """Read the next value; None if more bytes are needed (whole: there are none). Raises
        NotThisKindError.
        """
        try:
            return reader.value()
        except CutOffError:
            if whole:
                raise NotThisKindError("an object in it is cut off") from None
            return None
        except MalformedError:
            raise NotThisKindError("an object in it is malformed") from None

    def _count(self, tokens: int) -> None:
        self.tokens += tokens
        if self.tokens > MAX_TOKENS:
            raise TooMuchError("too many objects")

    def _stream(self, item: Item, node: Node, data: int) -> None:
        item.data = data
        length, value = node.integer(b"Length"), node.get(b"Length")
        if length is not None and _END.match(self.source.read(data + length, 64)):
            item.data_end = data + length
        elif value is not None and value.kind == "ref":
            item.data_end = self._search_end(data)
            self.unsure.append((value.number, item))
        else:
            raise NotThisKindError("a stream in it states a wrong length, or none")

    def _search_end(self, data: int) -> int:
        at, size = data, _WINDOW
        while at < self.source.size:
            chunk = self.source.read(at, size)
            found = _FOUND_END.search(chunk)
            self.budget.search(len(chunk) if found is None else found.end())
            if found is not None:
                return at + found.start()
            if len(chunk) < size:
                break
            at += len(chunk) - 128
            size = min(4 * size, _CHUNK)
        raise NotThisKindError("a stream in it does not end")

    def _settle(self) -> None:
        unsure = self.unsure
        self.unsure = [(number, item) for number, item in unsure if number not in self.integers]
        self.agree([(number, item) for number, item in unsure if number in self.integers], self.integers)

    def agree(self, unsure: Iterable[tuple[int, Item]], integers: Mapping[int, AbstractSet[int]]) -> None:
        """Check that each stream ends where its length says, or at most 4 bytes from there. Record the end
        that the length states in ``item.data_end``. Raises NotThisKindError.

        unsure: pairs (number, stream): the number of the object that holds the length, and the stream.
        integers: a dictionary from the number of an object to its possible values.
        """
        for number, item in unsure:
            for length in integers.get(number, frozenset()):
                end = item.data + length
                if abs(end - item.data_end) <= 4 and _END.match(self.source.read(end, 64)):
                    item.data_end = end
                    break
            else:
                raise NotThisKindError("a stream in it states a wrong length, or none")

    def _table(self, at: int) -> int:
        """Return the end of a cross-reference table: numbers and the letters n and f."""
        at = self._behind(at, _TABLE)
        if self.source.read(at, 3) == b"obj":  # the last two numbers belong to the next object
            tail = self.source.read(max(0, at - 64), min(64, at))
            found = _NUMBERS.search(tail)
            at -= len(tail) - found.start() if found is not None else 0
        return at

    def _junk(self, start: int) -> int:
        """Record the unknown bytes from *start* on. Return the offset of the next known bytes."""
        at, size = start + 1, _WINDOW
        end = self.source.size
        while at < end:
            chunk = self.source.read(at, size)
            found = _SYNC.search(chunk)
            self.budget.search(len(chunk) if found is None else found.end())
            if found is not None:
                end = at + found.start()
                break
            if at + len(chunk) >= self.source.size:
                break
            at += len(chunk) - 64
            size = min(4 * size, _CHUNK)
        if self.junk and self.junk[-1][1] == start:  # a comment goes on: its start alone may be a constant
            start = self.junk.pop()[0]
        self.junk.append((start, end))
        self._count(1)
        return end
