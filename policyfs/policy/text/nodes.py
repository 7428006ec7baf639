"""A policy file as a tree of YAML nodes, each with its place in the text, from ruamel.yaml's events.

The strict checks need details that the usual loader drops: quotes, repeated keys, tags, aliases.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from policyfs.policy.errors import PolicyError
from policyfs.policy.model import Where


class Span(NamedTuple):
    """The place of a node: line and column from 1; width in characters, 1 if it is on several lines."""

    line: int
    column: int
    width: int


class Absent(enum.Enum):
    """A placeholder for a value that is missing or wrong."""

    NULL = "no value"
    BROKEN = "reported already"


class Unquoted(str):
    """Text that has no quotes in the file."""

    __slots__ = ()


class Folded(Unquoted):
    """Text without quotes that goes over several lines in the file."""

    __slots__ = ()


Value = str | int | float | bool | Absent


class Scalar(NamedTuple):
    """A single value. raw: the text of the value, before it was converted (for example to a number)."""

    span: Span
    value: Value
    raw: str


class Items(NamedTuple):
    """A YAML sequence. size: its nodes, with itself; an alias counts as the nodes it refers to."""

    span: Span
    items: tuple[Node, ...]
    size: int


class Mapping(NamedTuple):
    """A YAML mapping. Its keys are text, and no key occurs twice. size: as in Items."""

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
"""A path in a tree of nodes: keys of mappings and indices of sequences."""


def node_at(node: Node, loc: Loc) -> Node:
    """Return the node at the end of a path, or the last one that exists. Other nodes ignore an index."""
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
    """Return a tree of nodes as plain data: dict, list, single values (``Absent`` for a missing value)."""
    if isinstance(node, Mapping):
        return {key.raw: data_of(value) for key, value in node.pairs}
    if isinstance(node, Items):
        return [data_of(item) for item in node.items]
    return node.value


_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")
_ESCAPE_LENGTH: Final = {"x": 4, "u": 6, "U": 10}


class Source:
    """The decoded text of one file. It makes the errors that name a place in the text."""

    __slots__ = ("lines", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines: list[str] = _LINE_BREAK.split(text) if "\r" in text else text.split("\n")

    def where(self, span: Span) -> Where:
        """Return a place in the text as file, line and column."""
        return Where(self.name, span.line, span.column)

    def error(self, span: Span, message: str, help_: str) -> PolicyError:
        """Return an error at a place in the text, with the source line."""
        line = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        return PolicyError(self.where(span), message, help_, line, span.width)

    def span_of_index(self, index: int) -> Span:
        """Return the place of one character. index: its index in the text."""
        lines = _LINE_BREAK.split(self.text[:index])
        return Span(len(lines), len(lines[-1]) + 1, 1)

    def word_at(self, span: Span) -> str:
        """Return the text from a place to the next blank, as it is written in the file."""
        return self.lines[span.line - 1][span.column - 1 :].split(maxsplit=1)[0]

    def inside(self, scalar: Scalar, offset: int) -> Span:
        """Return the place of one character of a value, by its index; of the whole value if it is unknown."""
        raw = self.lines[scalar.span.line - 1][scalar.span.column - 1 :]
        at = _offset_in_source(raw, scalar.raw, offset)
        if at is None:
            return scalar.span
        return Span(scalar.span.line, scalar.span.column + at, 1)


def _offset_in_source(raw: str, value: str, offset: int) -> int | None:
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
