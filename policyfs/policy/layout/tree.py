"""A YAML file as a tree of entries, each with its place in the text. comments.py adds the comments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)


class Comment(NamedTuple):
    """A comment. gap: True if a blank line stands above it."""

    text: str
    gap: bool


class Scalar(NamedTuple):
    """A single value. plain: True without quotes: it can be a number. style: ``|``, ``>``, a quote, None."""

    text: str
    plain: bool
    style: str | None
    anchor: str | None
    start: int
    end: int


class Alias(NamedTuple):
    """A reference to an anchor, such as ``*name``."""

    name: str
    start: int
    end: int


@dataclass(slots=True)
class Collection:
    """A mapping (keyed) or a list. flow: True in brackets. footer: comments below the last entry."""

    keyed: bool
    flow: bool
    anchor: str | None
    start: int
    end: int = 0
    column: int = 0
    entries: list[Entry] = field(default_factory=list)
    footer: list[Comment] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """A key with its value, or an item of a list.

    head: the index behind the colon or dash. leading, header, trailing: comments above, beside the key if the
    value begins on a later line, and beside the entry. gap: True below a blank line.
    """

    key: Scalar | None
    value: Node
    start: int
    head: int
    end: int
    column: int
    leading: list[Comment] = field(default_factory=list)
    header: list[Comment] = field(default_factory=list)
    trailing: list[Comment] = field(default_factory=list)
    gap: bool = False


Node = Scalar | Alias | Collection


def read_tree(text: str) -> tuple[Collection, list[tuple[int, int]]]:
    """Return the top mapping of a valid file, and the places of all single values in the text."""
    reader = _Reader(text)
    return reader.top(), reader.spans


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._events: Iterator[Event] = iter(YAML(typ="safe", pure=True).parse(text))
        self.spans: list[tuple[int, int]] = []

    def top(self) -> Collection:
        for event in self._events:
            if isinstance(event, MappingStartEvent):
                return self._collection(event)
        raise ValueError("the file has no mapping")

    def _node(self, event: Event) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, AliasEvent):
            return Alias(str(event.anchor), start, end)
        if isinstance(event, ScalarEvent):
            end = start + len(self._text[start:end].rstrip())
            self.spans.append((start, end))
            plain = event.style is None or event.style == ""
            return Scalar(event.value, plain, event.style, event.anchor, start, end)
        if not isinstance(event, NodeEvent):
            raise TypeError(f"no node: {event}")
        return self._collection(event)

    def _collection(self, event: NodeEvent) -> Collection:
        keyed = isinstance(event, MappingStartEvent)
        if not isinstance(event, MappingStartEvent | SequenceStartEvent):
            raise TypeError(f"no collection: {event}")
        made = Collection(keyed, bool(event.flow_style), event.anchor, event.start_mark.index)
        at = event.end_mark.index if made.flow else event.start_mark.index
        for inner in self._events:
            if not isinstance(inner, NodeEvent):  # the end
                last = made.entries[-1].end if made.entries else at
                made.end = inner.end_mark.index if made.flow else last
                break
            entry = self._pair(inner) if keyed else self._item(inner, made, at)
            made.entries.append(entry)
            at = entry.end
        if made.entries:
            made.column = made.entries[0].column
        return made

    def _pair(self, event: Event) -> Entry:
        key = self._node(event)
        if not isinstance(key, Scalar):
            raise TypeError("a key that is not text")
        value = self._node(next(self._events))
        head = self._text.index(":", key.end) + 1
        return Entry(key, value, key.start, head, max(value.end, head), self._column(key.start))

    def _item(self, event: Event, made: Collection, at: int) -> Entry:
        value = self._node(event)
        start = value.start
        if not made.flow:
            start = self._dash(at, value.start)
        return Entry(None, value, start, start + (not made.flow), max(value.end, start), self._column(start))

    def _dash(self, at: int, before: int) -> int:
        while at < before:
            char = self._text[at]
            if char == "#":
                at = self._text.index("\n", at)
            elif char == "-":
                return at
            at += 1
        return before

    def _column(self, index: int) -> int:
        return index - (self._text.rfind("\n", 0, index) + 1)
