"""SVG drawings (SVG 1.1 and 2): titles, comments, metadata, editors' data, scripts, embedded pictures.

The text is read token by token, and each attribute by its name. Spaces replace what must go: the file stays
XML of the same length. What is drawn stays: shapes, styles, texts. A drawing is refused if what it needs
tells a place, if a picture in it cannot be cleaned, or if readers may read it in another way (entities).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from typing import Final
from xml.parsers import expat

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.free_text import tells_place
from policyfs.redact.core.patches import ByteSource, uniform_difference
from policyfs.redact.core.tag_names import told
from policyfs.redact.documents.svg_names import (
    CODE,
    DRAWN,
    EDITORS,
    ELEMENTS,
    KNOWN_NAMESPACES,
    PAGE,
    PAGE_ELEMENTS,
    SHAPES,
    STYLES,
    SVG,
    WORDS,
    attribute_tells,
)
from policyfs.redact.matroska.fonts import font_stays
from policyfs.redact.xmp.embedded_images import cleaned_picture
from policyfs.redact.xmp.packet import MalformedError, Span, element_spans, replaced
from policyfs.redact.xmp.properties import RDF, XML

MAX_BYTES: Final = 16 << 20
MAX_DEPTH: Final = 256
MAX_NAMESPACES: Final = 256
_ATTRIBUTES_PER_PART: Final = 2
_MOST_SEARCHED: Final = 4096
_SHORT: Final = 256
"""Number and length of styles that are remembered after a search: most are written many times."""
_LONG: Final = 1 << 20
"""Length of texts whose references are not decoded: they are longer than any text that is searched."""
_METADATA: Final = (SVG, "metadata")
_PACKETS: Final = ((RDF, "RDF"), ("adobe:ns:meta/", "xmpmeta"))
_N: Final = r"[^\s<>/='\"&;!?]++"
_S: Final = r"[ \t\r\n]"
_OPEN: Final = re.compile(rf"<({_N})((?:{_S}++{_N}{_S}*+={_S}*+(?:\"[^\"<]*+\"|'[^'<]*+'))*+){_S}*+(/?)>")
_CLOSE: Final = re.compile(rf"</({_N}){_S}*+>")
_ATTRIBUTE: Final = re.compile(rf"({_N}){_S}*+={_S}*+(\"[^\"]*+\"|'[^']*+')")
_DECLARATION: Final = re.compile(
    rf"<\?xml{_S}+version=[\"']1\.[01][\"'](?:{_S}+encoding=[\"']([A-Za-z0-9._-]+)[\"'])?"
    rf"(?:{_S}+standalone=[\"'](?:yes|no)[\"'])?{_S}*\?>"
)
_DOCTYPE: Final = re.compile(
    rf"<!DOCTYPE{_S}+svg(?:{_S}+PUBLIC{_S}+\"-//W3C//DTD SVG [\w. /+-]{{1,60}}\"{_S}*"
    rf"\"https?://(?:www\.)?w3\.org/[\w./-]{{1,80}}\")?{_S}*>"
)
_PACKET: Final = re.compile(
    r"<\?xpacket (?:begin=[\"']\ufeff?[\"'] id=[\"']W5M0MpCehiHzreSzNTczkc9d[\"']|end=[\"'][rw][\"'])\s*\?>"
)
_STYLE_SHEET: Final = re.compile(r"<\?xml-stylesheet\s[^?]*\?>")
_ENCODINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "latin1", "windows-1252"), "latin-1"),
}
_SHAPE: Final = re.compile(r"[-+0-9.,\sMmLlHhVvCcSsQqTtAaZzEe%]*+")
_NUMBER: Final = re.compile(
    r"#[0-9A-Fa-f]{3,8}\b|(?<![A-Za-z0-9.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?!\s?[°'’′]|\s?[NSEWnew]\b)"
)
"""Patterns of the data of a shape, and of a number or colour in a style."""
_DATA: Final = re.compile(r"data:([\w.+/-]*)((?:;[\w.=+-]*)*),([^\"')<>]*)", re.IGNORECASE)
_PATH: Final = re.compile(r"[\"'][Mm][-+0-9.,\sMmLlHhVvCcSsQqTtAaZzEe]*+[\"']")
_STRING: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_FONT: Final = re.compile(r"(?:application/(?:x-|vnd\.ms-)?|font/?)[\w-]*", re.IGNORECASE)
_STYLE_COMMENT: Final = re.compile(r"/\*(.*?)(?:\*/|\Z)", re.DOTALL)


@dataclass(slots=True)
class _Element:
    name: str
    namespaces: Mapping[str, str]
    start: int
    namespace: str = ""
    local: str = ""
    gone: Tells = NOTHING
    text: list[str] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of a text that is not drawn: a place may be in several of them."""


def locate_svg(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an SVG. Raises NotThisKindError, TooMuchError."""
    if source.size > MAX_BYTES:
        raise TooMuchError("the drawing is larger than the limit")
    data = source.read(0, source.size)
    try:
        text, encoding = _decoded(data)
        spans = sorted(_Scanner(text, inner).spans())
        new, notes = replaced(text, spans, encoding, "SVG")
        expat.ParserCreate("utf-8", " ").Parse(new.lstrip("\ufeff").encode(), True)
        found = Found(notes=notes)
        found.patches += uniform_difference(0, data, new.encode(encoding))
    except (ValueError, expat.ExpatError, MalformedError):
        raise NotThisKindError("it is no XML that all readers read in the same way") from None
    return found


def _decoded(data: bytes) -> tuple[str, str]:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data.decode(encoding), encoding
    head = _DECLARATION.match(data[:200].decode("latin-1").removeprefix("\u00ef\u00bb\u00bf"))
    stated = (head[1] if head is not None else None) or "utf-8"
    if stated.lower() not in _ENCODINGS:
        raise MalformedError
    return data.decode(_ENCODINGS[stated.lower()]), _ENCODINGS[stated.lower()]


class _Scanner:
    """Scanner of a drawing's tokens. It collects the spans to replace."""

    def __init__(self, text: str, inner: Inner) -> None:
        self._text = text
        self._inner = inner
        self._asked = inner.hide & Tells.LOCATION
        self._at = 0
        self._stack: list[_Element] = []
        self._roots = 0
        self._searched: set[str] = set()

    def spans(self) -> Iterator[Span]:
        """Yield the spans to replace. Raises MalformedError, NotThisKindError, TooMuchError."""
        text = self._text
        self._at = 1 if text.startswith("\ufeff") else 0
        head = _DECLARATION.match(text, self._at)
        self._at = head.end() if head else self._at
        while self._at < len(text):
            start = self._at
            if text[start] != "<":
                end = text.find("<", start)
                self._at = end if end >= 0 else len(text)
                yield from self._characters(start, self._at)
            elif text.startswith("<!--", start):
                yield from self._comment(start + 4, self._end_of("-->", 4))
            elif text.startswith("<![CDATA[", start):
                yield from self._characters(start + 9, self._end_of("]]>", 9), raw=True)
            elif text.startswith("<?", start):
                yield from self._instruction(start, self._end_of("?>", 2) + 2)
            elif text.startswith("</", start):
                yield from self._close()
            elif text.startswith("<!", start):
                self._doctype()
            else:
                yield from self._open()
        if self._stack or not self._roots:
            raise MalformedError

    def _end_of(self, mark: str, skip: int) -> int:
        end = self._text.find(mark, self._at + skip)
        if end < 0:
            raise MalformedError
        self._inner.budget.part()
        self._at = end + len(mark)
        return end

    def _gone(self) -> Tells:
        return self._stack[-1].gone if self._stack else NOTHING

    def _doctype(self) -> None:
        found = _DOCTYPE.match(self._text, self._at)
        if found is None or self._roots or self._told(found[0], NOTHING, self._asked):
            raise NotThisKindError("its document type has entities, or is none of SVG")
        self._at = found.end()

    def _comment(self, start: int, end: int) -> Iterator[Span]:
        inside = self._text[start:end]
        if not self._gone() and (tells := self._told(inside, Tells.PEOPLE)):
            yield Span(start, end, "comment", tells)

    def _instruction(self, start: int, end: int) -> Iterator[Span]:
        inside = self._text[start:end]
        kept = bool(self._stack) and _PACKET.fullmatch(inside) is not None
        if not self._roots and _STYLE_SHEET.fullmatch(inside) is not None:
            kept = not self._told(inside, NOTHING, self._asked)
        if not kept and not self._gone():
            yield self._hidden(start, end, "processing instruction", UNKNOWN)

    def _characters(self, start: int, end: int, *, raw: bool = False) -> Iterator[Span]:
        text = self._text[start:end]
        around = self._stack[-1] if self._stack else None
        if not text.strip("\ufeff \t\r\n") or self._gone():
            return
        if around is None:
            raise MalformedError
        if around.local in DRAWN or around.namespace == PAGE:
            around.text.append(text if raw else _plain(text))
        elif around.local in CODE:
            around.text.append(text)
            yield from self._code(around.local, start, text)
        elif around.namespace == SVG and around.local in WORDS:
            around.text.append(text if raw else _plain(text))
            around.pieces.append((start, end))
        elif around.namespace not in EDITORS or self._told(_plain(text), NOTHING):
            yield Span(start, end, "text that is not drawn", UNKNOWN)

    def _code(self, local: str, start: int, text: str) -> Iterator[Span]:
        """Search a style or a script. Comments of a style, and a whole script, go if they tell data."""
        if local == "script":
            if tells := self._told(text, NOTHING):
                yield Span(start, start + len(text), local, tells)
            return
        self._inner.budget.part(text.count("/*"))
        comments = list(_STYLE_COMMENT.finditer(text))
        if tells := self._told("".join(found[1] for found in comments), Tells.PEOPLE):
            for found in comments:
                yield Span(start + found.start(1), start + found.end(1), "comment of a style", tells)
        text = _STYLE_COMMENT.sub(lambda found: " " * len(found[0]), text)
        yield from self._needed(start, text, "style")

    def _check_joined(self, local: str, parts: list[str]) -> None:
        """Search a style or script whose text other markup divides as readers join it, and as it is if the
        markup goes. Raises NotThisKindError if its cleaned parts together have more to hide."""
        cleaned = [replaced(part, self._code(local, 0, part), "utf-8", "SVG")[0] for part in parts]
        for joined in ("".join(cleaned), " ".join(cleaned)):
            if any(True for _ in self._code(local, 0, joined)):
                raise NotThisKindError(f"a {local} in it has several parts, which tell more together")

    def _needed(self, start: int, text: str, what: str, *, numbers: bool = True) -> Iterator[Span]:
        """Search text that is needed to draw, at an offset; clean the pictures and fonts in it.

        numbers: True if its numbers are lengths and colours, which are not searched.
        """
        spans: list[Span] = []

        def without_data(found: re.Match[str]) -> str:
            if (new := self._embedded(found)) != found[3]:
                spans.append(Span(start + found.start(3), start + found.end(3), "picture", UNKNOWN, new))
            return f"data:{found[1]}{found[2]} "

        text = _DATA.sub(without_data, text)
        yield from spans
        text = " ".join(text.split()) if len(text) > _LONG else text
        if len(text) > _LONG:
            raise NotThisKindError(f"a part of it that is drawn is too long to be searched ({what})")
        text = _plain(text)
        if numbers:
            words = "\n\n\n".join(word for word in _STRING.findall(text) if not _PATH.fullmatch(word))
            text = _NUMBER.sub(" 0 ", _STRING.sub(" ", text)) + words
        if text in self._searched:
            return
        if len(self._searched) < _MOST_SEARCHED and len(text) < _SHORT:
            self._searched.add(text)
        if self._told(text, NOTHING, self._asked):
            raise NotThisKindError(f"a place, or metadata, is in a part of it that is drawn ({what})")

    def _embedded(self, found: re.Match[str]) -> str:
        """Return the data of a "data:" URI, cleaned. Raises NotThisKindError for other data."""
        kind, options, payload = found.groups()
        self._inner.budget.inflate(len(payload))
        new: str | None = None
        if not payload.strip():
            return payload
        if options.lower().endswith(";base64"):
            if _FONT.fullmatch(kind):
                with suppress(binascii.Error):
                    font = base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
                    new = payload if font_stays(font, self._inner) else None
            else:
                new = cleaned_picture(payload, self._inner)
        if new is None:
            raise NotThisKindError("a picture or file in it is not understood")
        return new

    def _open(self) -> Iterator[Span]:
        found = _OPEN.match(self._text, self._at)
        if found is None or len(self._stack) >= MAX_DEPTH:
            raise MalformedError
        self._inner.budget.part(1 + found[2].count("=") // _ATTRIBUTES_PER_PART)
        attributes = list(_ATTRIBUTE.finditer(self._text, *found.span(2)))
        element = _Element(found[1], self._namespaces(attributes), found.start())
        element.namespace, element.local = self._resolve(found[1], element.namespaces)
        parent = self._stack[-1] if self._stack else None
        if parent is None:
            self._roots += 1
            if (element.namespace, element.local) != (SVG, "svg") or self._roots > 1:
                raise NotThisKindError("it is no SVG")
        element.gone = self._gone() or self._element_goes(element, parent)
        self._at = found.end()
        if not element.gone and parent is not None and (parent.namespace, parent.local) == _METADATA:
            yield from self._packet(element)
            return
        self._stack.append(element)
        if not element.gone:
            for attribute in attributes:
                yield from self._attribute(element, attribute)
        if found[3]:
            yield from self._leave()

    def _element_goes(self, element: _Element, parent: _Element | None) -> Tells:
        namespace, local = element.namespace, element.local
        if parent is not None and (parent.namespace, parent.local) == _METADATA:
            return NOTHING if (namespace, local) in _PACKETS else UNKNOWN
        if parent is not None and parent.namespace == SVG and parent.local in (*WORDS, *CODE):
            return UNKNOWN
        if local in {SVG: ELEMENTS, PAGE: PAGE_ELEMENTS}.get(namespace, ()):
            return NOTHING
        if namespace in EDITORS:
            return UNKNOWN & ~Tells.LOCATION & self._inner.hide
        return UNKNOWN

    def _packet(self, element: _Element) -> Iterator[Span]:
        last = self._at
        if not self._text.startswith("/>", last - 2):
            close = _CLOSE.match(self._text, self._text.find(f"</{element.name}", last) % len(self._text))
            if close is None:
                raise MalformedError
            last = close.end()
        first, outer = element.start, self._stack[-1].namespaces
        for span in element_spans(self._text[first:last], outer, self._inner):
            yield span._replace(start=first + span.start, end=first + span.end, bare=False)
        self._at = last

    def _close(self) -> Iterator[Span]:
        found = _CLOSE.match(self._text, self._at)
        if found is None or not self._stack or self._stack[-1].name != found[1]:
            raise MalformedError
        self._at = found.end()
        yield from self._leave()

    def _leave(self) -> Iterator[Span]:
        element = self._stack.pop()
        parent = self._stack[-1] if self._stack else None
        if element.gone:
            if not self._gone():
                yield self._hidden(element.start, self._at, element.local, element.gone)
        elif element.local in CODE:
            if len(element.text) > 1:
                self._check_joined(element.local, element.text)
        elif element.pieces:
            if tells := self._told("".join(element.text), Tells.PEOPLE):
                yield from (Span(*piece, element.local, tells) for piece in element.pieces)
        elif parent is not None and parent.local in DRAWN:
            parent.text += element.text  # words of a line may be in several elements
        elif element.text and self._told("".join(element.text), NOTHING, self._asked):
            raise NotThisKindError("a text that is drawn tells a place")

    def _hidden(self, start: int, end: int, what: str, tells: Tells) -> Span:
        """Return the span of markup that goes; among words that are drawn a comment takes its place."""
        size = len(self._text[start:end].encode()) - len("<!---->")
        among = bool(self._stack) and self._stack[-1].local in DRAWN and self._text[start:end].isascii()
        return Span(start, end, what, tells, f"<!--{' ' * size}-->" if among and size >= 0 else "")

    def _attribute(self, element: _Element, found: re.Match[str]) -> Iterator[Span]:
        name, value = found[1], unescape(found[2][1:-1])
        if name == "xmlns" or name.startswith("xmlns:"):
            if gone := self._inner.hide & _namespace_tells(value):
                yield Span(*found.span(), name, gone)
            return
        namespace, local = self._resolve(name, element.namespaces, default=False)
        if element.namespace in EDITORS and ":" not in name:
            namespace = element.namespace
        tells = attribute_tells(namespace, local, linked=element.local == "a")
        if tells is not None:
            if gone := self._told(value, tells):
                yield Span(*found.span(), name, gone)
        elif local not in SHAPES or not _SHAPE.fullmatch(value):
            yield from self._needed(found.start(2) + 1, found[2][1:-1], name, numbers=local in STYLES)

    def _told(self, text: str, tells: Tells, asked: Tells | None = None) -> Tells:
        """Return the categories to hide that a text tells. asked: those to look for, if not all."""
        if not text.strip():
            return NOTHING if tells == Tells.PEOPLE else tells & self._inner.hide
        self._inner.budget.part()
        data = text.encode("utf-8", "replace")
        if asked == NOTHING:
            return UNKNOWN if holds_metadata(data) else NOTHING
        return told(self._inner.hide if asked is None else asked, tells, data, self._inner.budget)

    def _namespaces(self, attributes: list[re.Match[str]]) -> Mapping[str, str]:
        inherited = self._stack[-1].namespaces if self._stack else {"": SVG, "xml": XML}
        declared = {
            found[1].partition(":")[2]: unescape(found[2][1:-1])
            for found in attributes
            if found[1] == "xmlns" or found[1].startswith("xmlns:")
        }
        if len(declared) + len(inherited) > MAX_NAMESPACES:
            raise MalformedError
        if any(tells_place(uri) for uri in declared.values()):
            raise NotThisKindError("the name of a namespace in it tells a place")
        return {**inherited, **declared} if declared else inherited

    def _resolve(self, name: str, namespaces: Mapping[str, str], *, default: bool = True) -> tuple[str, str]:
        prefix, _, local = name.rpartition(":")
        return (namespaces.get(prefix, "") if prefix or default else SVG), local


def _plain(text: str) -> str:
    return unescape(text) if len(text) <= _LONG else text


def _namespace_tells(uri: str) -> Tells:
    """Return the categories of a namespace's name. That of an editor, or an unlisted one, names a program."""
    return NOTHING if uri in KNOWN_NAMESPACES else UNKNOWN & ~Tells.LOCATION
