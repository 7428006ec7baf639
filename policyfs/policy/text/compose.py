"""Strict conversion of YAML text to a tree of nodes. YAML that a policy must not contain is an error.

After a syntax error the rest of the file is not read. ``Absent.BROKEN`` takes the place of a wrong value, so
that no error is reported twice.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)

from policyfs.policy.errors import PolicyError, quote
from policyfs.policy.text.nodes import (
    Absent,
    Folded,
    Items,
    Mapping,
    Node,
    Scalar,
    Source,
    Span,
    Unquoted,
    Value,
)
from policyfs.policy.text.syntax import syntax_error

try:
    from _ruamel_yaml import CParser
except ImportError:  # the parser in Python gives the same result, only slower
    CParser = None

MAX_EXPANDED: Final = 10_000
"""Maximum number of nodes for which all aliases of a file together stand."""

MAX_DEPTH: Final = 30
"""Maximum depth of nested lists and mappings. A policy needs 6, and more only if ``not`` is nested."""

_CONTROL: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_EARLY_COMMENT: Final = re.compile("[|>][-+0-9]*#")
"""A comment directly after the sign (``|`` or ``>``) that begins a block of text."""

_NOT_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_NUMERIC: Final = frozenset("-+.0123456789")
"""The characters with which a number can begin."""
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_OLD_OCTAL: Final = re.compile(r"[-+]?0[0-9]+")
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS: Final[dict[str, Value]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), Absent.NULL),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class UnreadableError(Exception):
    """The error if a file cannot be read any further. The list of errors then has the cause."""


def decode(name: str, text: bytes, errors: list[PolicyError]) -> Source:
    """Decode a file. Raise UnreadableError for other bytes than UTF-8, control characters and directives."""
    text = text.removeprefix(BOM_UTF8)
    try:
        decoded = text.decode()
    except UnicodeDecodeError as fault:
        good = text[: fault.start].decode()
        source = Source(name, good + text[fault.start :].decode("utf-8", "replace"))
        errors.append(
            source.error(
                source.span_of_index(len(good)),
                f"byte 0x{text[fault.start]:02x} is not UTF-8",
                "save the file as UTF-8; in a glob, write ? for a byte of a name that is not UTF-8",
            )
        )
        raise UnreadableError from fault
    source = Source(name, decoded)
    control = _CONTROL.search(decoded)
    if control is not None:
        errors.append(
            source.error(
                source.span_of_index(control.start()),
                f"the file contains the control character U+{ord(control.group()):04X}",
                'remove it, or write it as an escape in double quotes, such as "\\u2028"',
            )
        )
        raise UnreadableError
    for number, line in enumerate(source.lines, 1):
        if line.startswith("%"):
            word = line.split(maxsplit=1)[0]
            help_ = "remove the line; a policy is always YAML 1.2"
            message = f"the YAML directive {quote(word)} is not permitted"
            errors.append(source.error(Span(number, 1, len(word)), message, help_))
            raise UnreadableError
    return source


def compose(source: Source, errors: list[PolicyError]) -> Node:
    """Return the tree of nodes of a file. Raise UnreadableError after a syntax error, or without content."""
    node = _composed_by_libyaml(source, errors)
    if node is not None:
        return node
    events: Iterator[Event] = iter(YAML(typ="safe", pure=True).parse(source.text))
    composer = _Composer(source, events, errors)
    try:
        return composer.document()
    except MarkedYAMLError as fault:
        errors.append(syntax_error(source, fault))
        raise UnreadableError from fault
    except YAMLError as fault:
        message = f"not valid YAML: {' '.join(str(fault).split())}"
        errors.append(source.error(Span(1, 1, 1), message, "see https://yaml.org/spec/1.2.2/"))
        raise UnreadableError from fault


def _composed_by_libyaml(source: Source, errors: list[PolicyError]) -> Node | None:
    """Return the tree as libyaml reads it, ten times as fast; None if Python must read the file. That is: no
    libyaml, an error (messages come from the parser in Python), or text that both read differently."""
    text = source.text
    # libyaml accepts some tabs and comments that are errors. If the last line has no line feed, libyaml
    # reports a different end of this line.
    if CParser is None or "\t" in text or text[-1:] != "\n" or _EARLY_COMMENT.search(text):
        return None
    found: list[PolicyError] = []
    try:
        events: Iterator[Event] = iter(CParser(text).get_event, None)
        node = _Composer(source, events, found, by_libyaml=True).document()
    except (YAMLError, UnreadableError):
        return None
    errors += found
    return node


class _Composer:
    __slots__ = ("anchors", "by_libyaml", "errors", "events", "expanded", "source", "texts")

    def __init__(
        self, source: Source, events: Iterator[Event], errors: list[PolicyError], *, by_libyaml: bool = False
    ) -> None:
        self.source = source
        self.by_libyaml = by_libyaml
        self.events = events
        self.errors = errors
        self.anchors: dict[str, Node | None] = {}
        self.texts: dict[str, Value] = {}
        """The values of unquoted texts of one line: keys and names occur often."""
        self.expanded = 0

    def report(self, span: Span, message: str, help_: str) -> None:
        self.errors.append(self.source.error(span, message, help_))

    def document(self) -> Node:
        next(self.events)  # start of the stream
        start = next(self.events)
        if not isinstance(start, DocumentStartEvent):
            help_ = "begin the file with: apiVersion: policyfs/v1"
            self.report(Span(1, 1, 1), "the file is empty", help_)
            raise UnreadableError
        first = next(self.events)
        if self.by_libyaml and not isinstance(first, MappingStartEvent):
            raise UnreadableError  # the two parsers read blocks of text without indentation differently
        root = self.node(first, 0)
        next(self.events)  # end of the document
        following = next(self.events)
        if isinstance(following, DocumentStartEvent):
            self.report(
                _span(following),
                "the file has a second YAML document",
                "put the second document into another file of the directory, or remove the --- line",
            )
            raise UnreadableError
        return root

    def node(self, event: Event, depth: int) -> Node:
        start, end = event.start_mark, event.end_mark
        line, column = start.line, start.column
        one_line = end.line == line
        span = Span(line + 1, column + 1, (end.column - column if one_line else 1) or 1)
        if type(event) is ScalarEvent and event.anchor is event.tag is None and depth <= MAX_DEPTH:
            known = self.texts.get(event.value) if one_line and not event.style else None
            if known is not None:
                return Scalar(span, known, event.value)
            made = self.scalar(event, span)  # the usual case
            if type(made.value) is Unquoted:
                self.texts[made.raw] = made.value
            return made
        if isinstance(event, AliasEvent):
            return self.alias(event, span)
        if not isinstance(event, (ScalarEvent, CollectionStartEvent)):
            raise TypeError(f"unexpected YAML event {event!r}")
        anchor, tag = event.anchor, event.tag
        if self.by_libyaml and (anchor is not None or tag is not None):
            raise UnreadableError  # libyaml accepts other names of anchors
        if anchor is not None:
            self.anchors[anchor] = None
        node: Node
        if depth > MAX_DEPTH:
            self.report(span, "lists and mappings are nested too deeply", f"use at most {MAX_DEPTH} levels")
            raise UnreadableError
        if isinstance(event, ScalarEvent):
            node = self.scalar(event, span)
        elif isinstance(event, MappingStartEvent):
            node = self.mapping(span, depth)
        else:
            node = self.sequence(span, depth)
        if tag is not None:
            self.report(
                span,
                f"the YAML tag {quote(self.source.word_at(span))} is not permitted",
                "remove the tag, or put text that starts with ! in quotes",
            )
            node = Scalar(span, Absent.BROKEN, "")
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def alias(self, event: AliasEvent, span: Span) -> Node:
        if self.by_libyaml:
            raise UnreadableError  # libyaml ends the name of an alias at a different character
        name = str(event.anchor)
        target = self.anchors.get(name)
        if target is None:
            if name in self.anchors:
                message, help_ = f"alias *{name} contains itself", "write the value instead of the alias"
            else:
                message = f"unquoted {quote('*' + name)} is a YAML alias, but no anchor has this name"
                help_ = f"a glob needs quotes: {quote('*' + name)}"
            self.report(span, message, help_)
            return Scalar(span, Absent.BROKEN, "")
        self.expanded += _size(target)
        if self.expanded > MAX_EXPANDED:
            self.report(
                span,
                f"the YAML aliases of this file stand for more than {MAX_EXPANDED:,} values",
                "use sets and path_sets instead of YAML aliases",
            )
            raise UnreadableError
        return target

    def sequence(self, span: Span, depth: int) -> Items:
        items = []
        event = next(self.events)
        while not isinstance(event, CollectionEndEvent):
            items.append(self.node(event, depth + 1))
            event = next(self.events)
        return Items(_through(span, event), tuple(items), 1 + sum(map(_size, items)))

    def mapping(self, span: Span, depth: int) -> Mapping:
        pairs: dict[str, tuple[Scalar, Node]] = {}
        size = 1
        event = next(self.events)
        while not isinstance(event, CollectionEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            size += _size(key) + _size(value)
            sound = self.sound_key(key, pairs)
            if sound is not None:
                pairs[sound.raw] = (sound, value)
            event = next(self.events)
        return Mapping(_through(span, event), tuple(pairs.values()), size)

    def sound_key(self, key: Node, pairs: dict[str, tuple[Scalar, Node]]) -> Scalar | None:
        """Return the key if the mapping accepts it beside *pairs*, or report an error and return None."""
        if not isinstance(key, Scalar):
            help_ = 'a glob with braces needs quotes: "/{a,b}/**"'
            self.report(key.span, "a list or mapping cannot be a key", help_)
            return None
        if key.value is Absent.BROKEN:
            pass
        elif key.value is Absent.NULL:
            self.report(key.span, "a key is missing before the colon", 'write "key: value"')
        elif not isinstance(key.value, str):
            help_ = f"put it in quotes: {quote(key.raw)}"
            self.report(key.span, f"YAML does not read the key {key.raw} as text", help_)
        elif isinstance(key.value, Unquoted) and key.raw == "<<":
            self.report(key.span, "a YAML merge key (<<) is not permitted", "write the keys themselves")
        elif key.raw in pairs:
            first = pairs[key.raw][0].span.line
            self.report(
                key.span,
                f"key {quote(key.raw)} is given twice, first on line {first}",
                "keep one of them; where a key may have several values, write a list",
            )
        else:
            return key
        return None

    def scalar(self, event: ScalarEvent, span: Span) -> Scalar:
        raw = str(event.value)
        odd = _NOT_TEXT.search(raw) if event.style == '"' else None  # only an escape can name such characters
        if odd is not None:
            message = f"the text contains U+{ord(odd.group()):04X}, which no name can contain"
            self.report(span, message, "remove the escape")
            return Scalar(span, Absent.BROKEN, "")
        if event.style:  # an unquoted text has the style None, with libyaml ""
            return Scalar(span, raw, raw)
        if not raw and self.by_libyaml:
            raise UnreadableError  # libyaml reports a different place for an absent value
        if raw[:1] not in _NUMERIC:
            return Scalar(span, _plain_text(raw, event), raw)
        if _OLD_OCTAL.fullmatch(raw):
            digits = raw.lstrip("+-0") or "0"
            self.report(
                span,
                f"number {raw} starts with 0",
                f"write {digits}, or 0o{digits} for an octal number",
            )
            return Scalar(span, Absent.BROKEN, raw)
        if _INT.fullmatch(raw):
            number = int(raw, 0 if raw[:2] in ("0o", "0x") else 10) if len(raw) < 40 else 10**40
            return Scalar(span, number, raw)
        if _FLOAT.fullmatch(raw):
            return Scalar(span, float(raw.lower().replace(".inf", "inf").replace(".nan", "nan")), raw)
        return Scalar(span, _plain_text(raw, event), raw)


def _plain_text(raw: str, event: ScalarEvent) -> Value:
    """Return the value of a text without quotes that is no number, by YAML 1.2's core schema."""
    if raw in _WORDS:
        return _WORDS[raw]
    return Unquoted(raw) if event.start_mark.line == event.end_mark.line else Folded(raw)


def _size(node: Node) -> int:
    return 1 if isinstance(node, Scalar) else node.size


def _span(event: Event) -> Span:
    start, end = event.start_mark, event.end_mark
    line, column = start.line, start.column
    width = end.column - column if end.line == line else 1
    return Span(line + 1, column + 1, width or 1)


def _through(span: Span, end: Event) -> Span:
    """Return the place from *span* to the end of *end*, or of one character if it is on several lines."""
    if end.end_mark.line + 1 != span.line:
        return Span(span.line, span.column, 1)
    return Span(span.line, span.column, max(1, end.end_mark.column + 1 - span.column))
