"""Queries of events as trees, and the text of these trees (pure).

The parser (parser.py) makes the same tree from this text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BARE: Final = re.compile(r'(?:\\.|\{[^{}\s"]*\}|[^\s(),"\\])+', re.DOTALL)
"""A pattern for values that need no quotes."""

GLOB_FIELDS: Final = frozenset({"path"})
"""Fields whose values are globs even in quotes. In other fields a quoted value has no wildcards."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a term. literal: True if it has no wildcards. at: its place in the query's text."""

    text: str
    literal: bool = False
    at: Span = dataclasses.field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Term:
    """A condition on one field. relation: ``=`` (one of the values), ``>``, ``>=``, ``<``, ``<=``, or ``..``.

    ``..`` is the range from the first value to the second. An empty value means no limit.
    """

    field: str
    values: tuple[Value, ...]
    relation: str = "="
    at: Span = dataclasses.field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """A condition that holds if all parts hold. Without parts it always holds."""

    parts: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """A condition that holds if at least one part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that holds if its part does not hold."""

    part: Expression


Expression = Term | And | Or | Not


def all_of(*parts: Expression) -> Expression:
    """Join parts by `and`. The parts of a nested `and` become parts of the result."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, And) else (part,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(*parts: Expression) -> Expression:
    """Join parts by `or`. The parts of a nested `or` become parts of the result."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, Or) else (part,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def terms(tree: Expression) -> Iterator[Term]:
    """Yield all terms of a tree."""
    if isinstance(tree, Term):
        yield tree
    elif isinstance(tree, Not):
        yield from terms(tree.part)
    else:
        for part in tree.parts:
            yield from terms(part)


def conjuncts(tree: Expression) -> Iterator[Term]:
    """Yield the terms that hold for every event for which the tree holds."""
    if isinstance(tree, Term):
        yield tree
    elif isinstance(tree, And):
        for part in tree.parts:
            yield from conjuncts(part)


def text_of(tree: Expression) -> str:
    """Return the text of a tree, in the query language."""
    if isinstance(tree, Term):
        return _term(tree)
    if isinstance(tree, Not):
        return f"not {_within(tree.part, (And, Or))}"
    if isinstance(tree, And):
        return " ".join(_within(part, (And, Or)) for part in tree.parts)
    return " or ".join(_within(part, (Or,)) for part in tree.parts)


def _within(tree: Expression, wrapped: tuple[type[And | Or], ...]) -> str:
    return f"({text_of(tree)})" if isinstance(tree, wrapped) else text_of(tree)


def _term(term: Term) -> str:
    values = [_value(value, term.field) for value in term.values]
    if term.relation == "..":
        return f"{term.field}:{values[0]}..{values[1]}"
    return f"{term.field}:{'' if term.relation == '=' else term.relation}{','.join(values)}"


def _value(value: Value, name: str) -> str:
    if not value.literal and (BARE.fullmatch(value.text) or (not value.text and name not in GLOB_FIELDS)):
        return value.text
    escaped = value.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
