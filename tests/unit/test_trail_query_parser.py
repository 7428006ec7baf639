"""The parser by itself; test_trail_query_selection.py has its errors, tests/property its round trip."""

from __future__ import annotations

import pytest

from policyfs.trail.query.expression import Value, terms
from policyfs.trail.query.parser import Parser, QueryError, similar


def test_places_are_those_of_the_text() -> None:
    text = ' (app:a,"b c") or size:>10'
    for term in terms(Parser(text, {"app": "app", "size": "size"}, frozenset({"size"})).parse()):
        for value in term.values:
            assert text[value.at[0] : value.at[1]].strip('"') == value.text
        assert text[term.at[0] : term.at[1]].startswith(term.field)


def test_only_numbers_have_relations() -> None:
    tree = Parser("app:>1..2", {"app": "app"}, frozenset()).parse()
    assert [term.values for term in terms(tree)] == [(Value(">1..2"),)]


def test_an_error_without_a_place_is_a_sentence() -> None:
    assert str(QueryError("wrong")) == "wrong"


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("gallry", ["gallery", "maps"], "did you mean gallery?"),
        ("x", ["gallery", "maps"], "there are gallery, maps"),
        ("x", [], "there are none"),
    ],
)
def test_similar_words(word: str, known: list[str], sentence: str) -> None:
    assert similar(word, known) == sentence
