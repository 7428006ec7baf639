"""A policy file as a tree of YAML nodes, each with its place in the text.

ruamel.yaml scans and parses (YAML 1.2). The tree is composed here from its events, because the strict checks
need details that a loader drops: positions, quotes, repeated keys, tags, aliases.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from policyfs.policy.errors import PolicyError
from policyfs.policy.model import Where


class Span(NamedTuple):
    """The place of a node: line and column from 1; width in characters, 1 if the node is on several lines."""

    line: int
    column: int
    width: int


class Absent(enum.Enum):
    """Placeholder for a missing value."""

    NULL = "no value"
    BROKEN = "reported already"


class Unquoted(str):
    """Text without quotes in the file."""

    __slots__ = ()


class Folded(Unquoted):
    """Unquoted text over several lines."""

    __slots__ = ()


Value = str | int | float | bool | Absent


class Scalar(NamedTuple):
    """A single value. raw: the value as text, before it was converted to a number or the like."""

    span: Span
    value: Value
    raw: str


class Items(NamedTuple):
    """A YAML sequence. size: the number of its nodes with aliases expanded, itself included."""

    span: Span
    items: tuple[Node, ...]
    size: int


class Mapping(NamedTuple):
    """A YAML mapping with text keys, none repeated. size: as in Items."""

    span: Span
    pairs: tuple[tuple[Scalar, Node], ...]
    size: int

    def get(self, key: str) -> Node | None:
        """Return the value under a key, or None if the key is absent."""
        return next((value for k, value in self.pairs if k.raw == key), None)

    def key(self, key: str) -> Scalar | None:
        """Return the node of the key itself, or None if the key is absent."""
        return next((k for k, _ in self.pairs if k.raw == key), None)


Node = Scalar | Items | Mapping

Loc = tuple[int | str, ...]
"""A path into a tree: keys of mappings and indices of sequences."""


def node_at(node: Node, loc: Loc) -> Node:
    """Return the node at the end of a path, or the last node on it that exists.

    An index has no effect on a node that is not a sequence: a single value may stand for a list.
    """
    for step in loc:
        if isinstance(node, Mapping) and isinstance(step, str):
            found = node.get(step)
            if found is None:
                return node
            node = found
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
    return node


def data_of(node: Node) -> object:
    """Return a tree as plain data: dict, list, and scalar values (``Absent`` for a missing value)."""
    if isinstance(node, Mapping):
        return {key.raw: data_of(value) for key, value in node.pairs}
    if isinstance(node, Items):
        return [data_of(item) for item in node.items]
    return node.value


_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")
_ESCAPE_LENGTH: Final = {"x": 4, "u": 6, "U": 10}


class Source:
    """The decoded text of one file; makes the errors that point into it.

    plain: True only if no part of the text refers to another part by an anchor.
    """

    __slots__ = ("lines", "name", "plain", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.plain = False
        self.lines: list[str] = _LINE_BREAK.split(text) if "\r" in text else text.split("\n")

    def where(self, span: Span) -> Where:
        """Return a span as file, line and column."""
        return Where(self.name, span.line, span.column)

    def error(self, span: Span, message: str, help_: str) -> PolicyError:
        """Return an error at a span, with its source line."""
        line = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        return PolicyError(self.where(span), message, help_, line, span.width)

    def span_of_index(self, index: int) -> Span:
        """Return the span of one character, given by its index in the text."""
        lines = _LINE_BREAK.split(self.text[:index])
        return Span(len(lines), len(lines[-1]) + 1, 1)

    def word_at(self, span: Span) -> str:
        """Return the text from a span's start to the next blank, as written."""
        return self.lines[span.line - 1][span.column - 1 :].split(maxsplit=1)[0]

    def inside(self, scalar: Scalar, offset: int) -> Span:
        """Return the span of one character of a scalar's value, or the scalar's own span.

        offset: in characters of the value; an escape or a doubled quote is one character. If the place is
        unknown (several lines, an anchor before it), the result is the span of the whole scalar.
        """
        raw = self.lines[scalar.span.line - 1][scalar.span.column - 1 :]
        at = _offset_in_source(raw, scalar.raw, offset)
        if at is None:
            return scalar.span
        return Span(scalar.span.line, scalar.span.column + at, 1)


def _offset_in_source(raw: str, value: str, offset: int) -> int | None:
    """Return the index in the source text of a value's character ``offset``, or None if it is unknown."""
    style = raw[:1]
    if style not in ("'", '"'):
        return offset if raw.startswith(value) else None
    at = 1
    for _ in range(offset):
        if at >= len(raw):
            return None
        if style == '"' and raw[at] == "\\":
            at += _ESCAPE_LENGTH.get(raw[at + 1 : at + 2], 2)
        elif style == "'" and raw[at : at + 2] == "''":
            at += 2
        else:
            at += 1
    return at if at < len(raw) else None
