"""Trees of queries and their text. tests/property/test_audit_queries.py makes trees at random."""

from __future__ import annotations

import pytest

from policyfs.trail.query.expression import (
    And,
    Not,
    Or,
    Term,
    Value,
    all_of,
    any_of,
    conjuncts,
    terms,
    text_of,
)

A, B, C = (Term("app", (Value(name),)) for name in "abc")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (And(), ""),
        (A, "app:a"),
        (all_of(A, any_of(B, C)), "app:a (app:b or app:c)"),
        (any_of(all_of(A, B), C), "app:a app:b or app:c"),
        (Not(all_of(A, B)), "not (app:a app:b)"),
        (Not(Not(A)), "not not app:a"),
        (Term("app", (Value("a b", literal=True), Value("c"))), 'app:"a b",c'),
        (Term("app", (Value('"\\', literal=True),)), 'app:"\\"\\\\"'),
        (Term("path", (Value("/a b/*"),)), 'path:"/a b/*"'),
        (Term("size", (Value("1M"),), ">="), "size:>=1M"),
        (Term("size", (Value(""), Value("2")), ".."), "size:..2"),
    ],
)
def test_text(tree: And | Or | Not | Term, text: str) -> None:
    assert text_of(tree) == text


def test_nested_parts_of_one_kind_are_one() -> None:
    assert all_of(A, all_of(B, C)) == And((A, B, C))
    assert any_of(any_of(A, B), C) == Or((A, B, C))
    assert all_of(A) == A
    assert all_of() == And()


def test_terms_and_those_that_always_hold() -> None:
    tree = all_of(A, Not(B), any_of(B, C))
    assert list(terms(tree)) == [A, B, B, C]
    assert list(conjuncts(tree)) == [A]
