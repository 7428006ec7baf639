"""Queries for events as trees of conditions (pure). The parser makes a tree from a text, text_of() a text
from a tree."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BARE: Final = re.compile(r'(?:\\.|\{[^{}\s"]*\}|[^\s(),"\\])+', re.DOTALL)
"""A pattern for values that need no quotes in the text of a query."""

GLOB_FIELDS: Final = frozenset({"path"})
"""Fields in which a value in quotes is a glob, too. In other fields a value in quotes has no wildcards."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Value:
    """One value in a condition, such as ``gallery`` in ``app:gallery``. literal: ``*`` and so on are plain
    characters. at: its place in the query's text."""

    text: str
    literal: bool = False
    at: Span = dataclasses.field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Term:
    """A condition on one field, such as ``app:gallery,maps`` or ``size:>1M``. relation: ``=`` (one of the
    values), ``>``, ``>=``, ``<``, ``<=``, or ``..`` (from the first value to the second; empty: no limit).
    at: its place in the query's text."""

    field: str
    values: tuple[Value, ...]
    relation: str = "="
    at: Span = dataclasses.field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """A condition that is true if all its parts are true. Without parts it is always true."""

    parts: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """A condition that is true if at least one of its parts is true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that is true if its part is false."""

    part: Expression


Expression = Term | And | Or | Not


def all_of(*parts: Expression) -> Expression:
    """Return a condition that joins *parts* by `and`. If a part is an And, join the inner parts instead."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, And) else (part,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(*parts: Expression) -> Expression:
    """Return a condition that joins *parts* by `or`. If a part is an Or, join the inner parts instead."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, Or) else (part,))]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def terms(tree: Expression) -> Iterator[Term]:
    """Yield all terms (conditions on one field) of a query's tree."""
    if isinstance(tree, Term):
        yield tree
    elif isinstance(tree, Not):
        yield from terms(tree.part)
    else:
        for part in tree.parts:
            yield from terms(part)


def conjuncts(tree: Expression) -> Iterator[Term]:
    """Yield the terms that each matching event must meet: those that no `or` or `not` contains."""
    if isinstance(tree, Term):
        yield tree
    elif isinstance(tree, And):
        for part in tree.parts:
            yield from conjuncts(part)


def text_of(tree: Expression) -> str:
    """Return a query's tree as text in the query language."""
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
