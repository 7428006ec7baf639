"""Cleaner of XMP packets (ISO 16684-1); the length of a packet stays.

The packet is tokenised strictly. A removed element or attribute (properties.py) is overwritten with spaces.
So the XML stays well-formed in every form of RDF. Encodings: UTF-8, UTF-16, UTF-32. A packet becomes empty if
readers may misunderstand it, because it is not well-formed, has a DOCTYPE, or states a wrong encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Final, NamedTuple
from xml.parsers import expat

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import MAX_PARTS, Cleaned, Inner, Note
from policyfs.redact.core.free_text import BYTES_PER_PART, tells_place, told_in_text
from policyfs.redact.xmp import properties
from policyfs.redact.xmp.embedded_images import cleaned_picture

MAX_DEPTH: Final = 64
MAX_TOKENS: Final = MAX_PARTS
"""Maximum number of tokens and attributes in a packet: more are too many parts for any file."""
MAX_NAMESPACES: Final = 256
"""Maximum number of namespaces that are declared at one place of a packet."""
_SHORTEST: Final = 5
"""Minimum number of characters of a text that is searched. A shorter text tells nothing by itself."""
MAX_LOOKED_AT: Final = 1 << 20
"""Maximum number of characters in all values and texts of a packet."""

_EMPTY_META: Final = '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
_EMPTY_RDF: Final = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{properties.RDF}"/></x:xmpmeta>'
_BOMS: Final = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_STARTS: Final = (
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_NAME: Final = re.compile(r"[^\s<>/='\"&;!?]+")
_ALONE: Final = re.compile(r"<[^<>=]+(?:/>|>([^<]*)</[^<>]+>)")
"""Pattern of an element without attributes and without other elements in it."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_ATTRIBUTE: Final = re.compile(r"[ \t\r\n]+([^\s<>/='\"&;!?]+)[ \t\r\n]*=[ \t\r\n]*(\"[^\"<]*\"|'[^'<]*')")
_XPACKET: Final = re.compile(
    r"xpacket (?:begin=[\"']\ufeff?[\"'](?: id=[\"']W5M0MpCehiHzreSzNTczkc9d[\"'])?"
    r"(?: bytes=[\"']\d{1,7}[\"'])?(?: encoding=[\"']UTF-(?:8|16|32)[\"'])?|end=[\"'][rw][\"'])\s*"
)
_LINE_ENDS: Final = re.compile(r"adobe-xap-filters esc=[\"'](?:CR|LF|CRLF)[\"']\s*")
"""Pattern of the instruction by which Acrobat and older Photoshop say how line ends are escaped."""
_ALIASED: Final = re.compile(
    r"<!-- (?:pdf|photoshop|tiff|exif|xap|xapRights):(?:Artist|Authors?|BaseURL|Caption|Copyright"
    r"|Creat(?:or|ionDate)|DateTime(?:Digitized|Original)?|Description|Format|ImageDescription|Keywords|Locale|Marked|ModDate"
    r"|Software|Subject|Title|WebStatement) is aliased -->"
)
"""Pattern of the comments of Adobe's first toolkits, beside the property that a program set."""
_OF_A_PROGRAM: Final = Tells.DEVICE | Tells.OTHER
_DECLARATION: Final = re.compile(
    r"xml\s+version=[\"']1\.0[\"'](?:\s+encoding=[\"']([A-Za-z0-9._-]+)[\"'])?"
    r"(?:\s+standalone=[\"'](?:yes|no)[\"'])?\s*"
)
_MAX_DIGEST: Final = 2048
_NAMES_A_MAKER: Final = UNKNOWN & ~Tells.LOCATION
"""Categories of the URI of an unlisted namespace: the URI may name a maker or a program."""


class MalformedError(Exception):
    """The packet is not XML that all readers read in the same way."""


@dataclass(slots=True)
class _Element:
    name: str
    namespaces: Mapping[str, str]
    structural: bool = False
    picture: bool = False
    numeric: re.Pattern[str] | None = None
    """Pattern of texts that are not searched: numbers with a known meaning."""
    said: bool = False
    """True if some text of the element was read already."""


class Span(NamedTuple):
    """Characters [start, end) to replace: by *new*, or by as many spaces. bare: as in Note."""

    start: int
    end: int
    what: str
    tells: Tells
    new: str = ""
    bare: bool = False


def clean_xmp(data: bytes, inner: Inner) -> Cleaned:
    """Remove the properties with data to hide from a packet; the packet's length stays."""
    mark, encoding = _encoding(data)
    body = _without_tail(data[len(mark) :], encoding)
    tail = data[len(mark) + len(body) :]
    if not body.strip(b" \0\t\r\n"):
        return Cleaned(mark + body + bytes(len(tail)))
    try:
        text = body.decode(encoding)
        scanner = _Scanner(text, encoding, inner, inner.hide)
        try:
            spans = scanner.spans()
        finally:
            inner.budget.part(scanner.tokens + scanner.looked_at // BYTES_PER_PART)
        cleaned, notes = _replaced(text, spans, encoding, len(mark))
        _check(cleaned)
        new = mark + cleaned.encode(encoding) + bytes(len(tail))
        if _encoding(new) != (mark, encoding):
            raise MalformedError  # readers would read the new packet in another encoding
    except (MalformedError, ValueError):  # unescape() raises ValueError for a number of thousands of digits
        return _emptied(data)
    return Cleaned(new, tuple(notes)) if len(new) == len(data) else _emptied(data)


def _emptied(data: bytes) -> Cleaned:
    for packet in (_EMPTY_RDF, _EMPTY_META, ""):
        if len(packet) <= len(data):
            break
    new = packet.encode().ljust(len(data), b" ")
    notes = (Note(0, len(data), "XMP", "packet", broken=True),) if new != data else ()
    return Cleaned(new, notes)


def _encoding(data: bytes) -> tuple[bytes, str]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return mark, encoding
    for start, encoding in _STARTS:
        if data.startswith(start):
            return b"", encoding
    return b"", "utf-8"


def _without_tail(body: bytes, encoding: str) -> bytes:
    """Return the packet without zero bytes behind it, cut at a whole character."""
    unit = _unit(encoding)
    stripped = len(body.rstrip(b"\0"))
    return body[: min(len(body), -(-stripped // unit) * unit)]


def _unit(encoding: str) -> int:
    return {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)


def _replaced(text: str, spans: Iterable[Span], encoding: str, offset: int) -> tuple[str, list[Note]]:
    """Return the text with the spans replaced, as many bytes as before, and notes. offset: of the text in
    bytes."""
    unit, done = _unit(encoding), 0
    pieces: list[str] = []
    notes: list[Note] = []
    for span in spans:
        before = text[done : span.start]
        offset += len(before.encode(encoding))
        size = len(text[span.start : span.end].encode(encoding))
        pieces += [before, span.new or " " * (size // unit)]
        notes.append(Note(offset, size, "XMP", span.what, span.tells, bare=span.bare))
        offset += size
        done = span.end
    return "".join([*pieces, text[done:]]), notes


def _check(text: str) -> None:
    try:
        expat.ParserCreate("utf-8").Parse(text.strip("\ufeff \t\r\n").encode("utf-8"), True)
    except expat.ExpatError:
        raise MalformedError from None


@dataclass(slots=True)
class _Scanner:
    """Scanner of a packet's tokens. It collects the spans to remove."""

    text: str
    encoding: str
    inner: Inner
    hide: Tells
    at: int = 0
    tokens: int = 0
    stack: list[_Element] = field(default_factory=list)
    roots: int = 0
    hidden_from: int = -1
    hidden_depth: int = 0
    hidden_tells: Tells = NOTHING
    looked_at: int = 0
    found: list[Span] = field(default_factory=list)

    def spans(self) -> list[Span]:
        """Return the spans to remove, in order and without overlaps. Raises MalformedError."""
        self._walk()
        if self.stack or self.roots != 1:
            raise MalformedError
        return self.found

    def _walk(self) -> None:
        text, size = self.text, len(self.text)
        while self.at < size:
            self.tokens += 1
            if self.tokens > MAX_TOKENS:
                raise MalformedError
            if text[self.at] != "<":
                end = text.find("<", self.at)
                self._characters(end if end >= 0 else size)
                continue
            second = text[self.at + 1 : self.at + 2]
            if second == "/":
                self._close()
            elif second == "?":
                self._instruction(self._end_of("?>", 2))
            elif second != "!":
                self._open()
            elif text.startswith("<!--", self.at):
                end = self._end_of("-->", 4)
                aliased = _ALIASED.fullmatch(text, self.at, end)
                self._hide(end, "comment", _OF_A_PROGRAM if aliased else UNKNOWN)
            elif text.startswith("<![CDATA[", self.at):
                self._cdata(self._end_of("]]>", 9))
            else:
                raise MalformedError

    def _end_of(self, mark: str, skip: int) -> int:
        end = self.text.find(mark, self.at + skip)
        if end < 0:
            raise MalformedError
        return end + len(mark)

    def _hide(self, end: int, what: str, tells: Tells = UNKNOWN) -> None:
        if self.hidden_from < 0 and tells & self.hide:
            self.found.append(Span(self.at, end, what, tells))
        self.at = end

    def _characters(self, end: int) -> None:
        piece = self.text[self.at : end]
        if not self.stack and piece.strip("\ufeff \t\r\n"):
            raise MalformedError
        if not self.stack or self.hidden_from >= 0:
            self.at = end
            return
        around, blank = self.stack[-1], not piece.strip()
        # A later piece of a text (behind a comment or an element): readers join the pieces, so it is removed.
        goes_on = around.said and not blank
        around.said = around.said or not blank
        if around.picture and not blank and not goes_on:
            self._picture(around.name, self.at, piece)
            self.at = end
            return
        numeric = around.numeric is not None and around.numeric.fullmatch(piece) is not None
        told = NOTHING if numeric else self._told(piece)
        if goes_on or (around.structural and not blank):
            told = UNKNOWN  # the text is no property's value, or only a part of one
        if told:
            self._hide(end, around.name, told)
        else:
            self.at = end

    def _cdata(self, end: int) -> None:
        if not self.stack:
            raise MalformedError
        # A careless reader could read the content of CDATA as markup.
        self._hide(end, "CDATA")

    def _instruction(self, end: int) -> None:
        inside = self.text[self.at + 2 : end - 2]
        declaration = _DECLARATION.fullmatch(inside)
        if declaration is not None and not self.stack and not self.roots:
            declared = (declaration[1] or "utf-8").lower()
            if declared not in ("us-ascii", self.encoding, self.encoding[:6].rstrip("-")):
                raise MalformedError
            self.at = end
        elif _XPACKET.fullmatch(inside) and not self.stack:
            self.at = end
        elif _LINE_ENDS.fullmatch(inside) and not self.stack:
            self._hide(end, "line ends", _OF_A_PROGRAM)
        else:
            self._hide(end, "processing instruction")

    def _open(self) -> None:
        start = self.at
        name = _NAME.match(self.text, start + 1)
        if name is None:
            raise MalformedError
        at, attributes = name.end(), []
        if not self.text.startswith(">", at):
            while (found := _ATTRIBUTE.match(self.text, at)) is not None:
                attributes.append(found)
                at = found.end()
            at = _SPACE.match(self.text, at).end()  # type: ignore[union-attr]  # always matches
        self.tokens += len(attributes)
        closed = self.text.startswith("/>", at)
        ends = closed or self.text.startswith(">", at)
        if not ends or self.tokens > MAX_TOKENS or len(self.stack) >= MAX_DEPTH:
            raise MalformedError
        end = at + (2 if closed else 1)
        self.roots += not self.stack
        element = _Element(name[0], self._namespaces(attributes))
        self.stack.append(element)
        if self.hidden_from < 0:
            told = self._describe(element, end, attributes)
            if told & self.hide:
                self.hidden_from, self.hidden_depth, self.hidden_tells = start, len(self.stack), told
            else:
                self._attributes(attributes)
        self.at = end
        if closed:
            self._leave(end)

    def _describe(self, element: _Element, end: int, attributes: list[re.Match[str]]) -> Tells:
        namespace, local = self._resolve(element.name, default=True)
        known = properties.describe(namespace, local)
        told = known.tells
        if known.needs_value:
            told = properties.tells_by_value(local, self._text_behind(end, attributes))
        if attributes and any(found[1].rpartition(":")[2] == "nodeID" for found in attributes):
            told = UNKNOWN  # the value may be in another element, with the same nodeID
        element.structural, element.numeric, element.picture = known.structural, known.numbers, known.picture
        if namespace == properties.RDF and len(self.stack) > 1:  # a list has the pattern of its property
            element.numeric = self.stack[-2].numeric
        return told

    def _text_behind(self, at: int, attributes: list[re.Match[str]]) -> str:
        """Return the content of an element; "" if it is no plain text, or if the element has attributes."""
        end = self.text.find("</", at, at + _MAX_DIGEST + 2)
        text = self.text[at:end] if end >= 0 else "<"
        return "" if attributes or "<" in text else text

    def _close(self) -> None:
        if not self.stack:
            raise MalformedError
        around = self.stack[-1].name
        at = self.at + 2 + len(around)
        if not self.text.startswith(f"{around}>", self.at + 2):
            name = _NAME.match(self.text, self.at + 2)
            if name is None or around != name[0]:
                raise MalformedError
            at = _SPACE.match(self.text, at).end()  # type: ignore[union-attr]  # always matches
            if not self.text.startswith(">", at):
                raise MalformedError
        self.at = at + 1
        self._leave(at + 1)

    def _leave(self, end: int) -> None:
        element = self.stack[-1]
        if self.hidden_from >= 0 and self.hidden_depth == len(self.stack):
            if len(self.stack) == 1:
                raise MalformedError  # nothing of the packet would stay
            alone = _ALONE.fullmatch(self.text, self.hidden_from, end)
            nothing = alone is not None and properties.is_no_place(alone[1] or "")
            bare = nothing and self.hidden_tells == Tells.LOCATION
            self.found.append(Span(self.hidden_from, end, element.name, self.hidden_tells, bare=bare))
            self.hidden_from = -1
        self.stack.pop()

    def _attributes(self, attributes: list[re.Match[str]]) -> None:
        for found in attributes:
            name, value = found[1], found[2][1:-1]
            namespace, local = self._resolve(name, default=False)
            if (namespace, local) in properties.PICTURES and not self.hide & Tells.OTHER:
                self._picture(name, found.start(2) + 1, value)
                continue
            if name == "xmlns" or name.startswith("xmlns:"):
                told = NOTHING if properties.is_known(unescape(value)) else _NAMES_A_MAKER
            else:
                told = self._attribute(namespace, local, value)
            if told & self.hide:
                bare = told == Tells.LOCATION and properties.is_no_place(value)
                self.found.append(Span(found.start(1), found.end(2), name, told, bare=bare))

    def _attribute(self, namespace: str | None, local: str, value: str) -> Tells:
        known = properties.describe(namespace, local)
        told = properties.tells_by_value(local, value) if known.needs_value else known.tells
        if known.numbers is not None and known.numbers.fullmatch(value):
            return told
        if value and namespace in (None, properties.RDF) and local in properties.IDENTIFYING:
            told |= Tells.DEVICE
        return told if told & self.hide else told | self._told(value)

    def _picture(self, name: str, start: int, text: str) -> None:
        new = cleaned_picture(text, self.inner)
        if new != text:
            self.found.append(Span(start, start + len(text), name, UNKNOWN, new or ""))

    def _told(self, text: str) -> Tells:
        self.looked_at += len(text)
        if self.looked_at > MAX_LOOKED_AT:
            raise MalformedError
        if len(text) < _SHORTEST or not text.strip():
            return NOTHING
        return told_in_text(unescape(text), self.hide)

    def _namespaces(self, attributes: list[re.Match[str]]) -> Mapping[str, str]:
        inherited = self.stack[-1].namespaces if self.stack else {"xml": properties.XML}
        if not attributes:
            return inherited
        declared: dict[str, str] = {}
        for found in attributes:
            prefix, _, local = found[1].partition(":")
            if prefix != "xmlns":
                continue
            uri = unescape(found[2][1:-1])
            odd = local == "xml" or (not properties.is_known(uri) and tells_place(uri))
            if odd or len(inherited) + len(declared) >= MAX_NAMESPACES:
                raise MalformedError
            declared[local] = uri
        return {**inherited, **declared} if declared else inherited

    def _resolve(self, name: str, *, default: bool) -> tuple[str | None, str]:
        """Return a name's namespace URI (None: no namespace; "": an undeclared prefix) and local part."""
        prefix, colon, local = name.rpartition(":")
        namespaces = self.stack[-1].namespaces
        if not colon:
            return (namespaces.get("", None) if default else None), name
        return namespaces.get(prefix, ""), local
