"""Trees of YAML nodes, and places in their text."""

from __future__ import annotations

import pytest

from policyfs.policy.text.compose import compose
from policyfs.policy.text.nodes import Absent, Mapping, Node, Scalar, Source, Span, data_of, node_at


def tree(text: str) -> Node:
    errors: list[object] = []
    root = compose(Source("a.yaml", text), errors)
    assert errors == []
    return root


TEXT = "apps:\n  - one\n  - {name: two, uid: 7}\nnone:\n"


@pytest.mark.parametrize(
    ("loc", "data"),
    [
        ((), {"apps": ["one", {"name": "two", "uid": 7}], "none": Absent.NULL}),
        (("apps", 0), "one"),
        (("apps", 1, "uid"), 7),
        (("apps", 2), ["one", {"name": "two", "uid": 7}]),
        (("apps", 0, "name"), "one"),
        (("apps", 0, 0), "one"),
        (("none", 0), Absent.NULL),
        (("else", "name"), {"apps": ["one", {"name": "two", "uid": 7}], "none": Absent.NULL}),
    ],
)
def test_the_last_node_on_a_path(loc, data):
    assert data_of(node_at(tree(TEXT), loc)) == data


def test_keys_and_values_of_a_mapping():
    root = tree(TEXT)
    assert isinstance(root, Mapping)
    key = root.key("none")
    assert key is not None
    assert key.span == Span(4, 1, 4)
    assert root.get("none") is not None
    assert root.get("else") is None
    assert root.key("else") is None


@pytest.mark.parametrize(
    ("index", "span"),
    [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (3, 1)), (8, (4, 1)), (9, (4, 2)), (99, (4, 3))],
)
def test_lines_end_with_any_line_break(index, span):
    source = Source("a", "ab\nc\rd\r\nef")
    assert source.lines == ["ab", "c", "d", "ef"]
    assert source.span_of_index(index) == Span(*span, 1)


def test_an_error_shows_its_line():
    source = Source("a.yaml", "one\ntwo")
    assert source.error(Span(2, 1, 3), "m", "h").line == "two"
    assert source.error(Span(3, 1, 1), "m", "h").line == ""
    assert source.where(Span(2, 5, 1)).column == 5


@pytest.mark.parametrize(
    ("text", "offset", "column"),
    [
        ("k: value", 2, 6),
        ("k: 'va''l'", 2, 7),
        ("k: 'va''l'", 3, 9),
        ('k: "a\\nb"', 1, 6),
        ('k: "a\\nb"', 2, 8),
        ('k: "\\x41b"', 1, 9),
        ('k: "\\u0041b"', 1, 11),
        ('k: "\\U00000041b"', 1, 15),
        ("k: 'ab'", 2, 7),
        ("k: 'ab'", 3, 4),
        ("k: &x value", 2, 4),
        ("k: 'ab'", 9, 4),
    ],
)
def test_a_character_of_a_value_has_its_place_as_written(text, offset, column):
    source = Source("a", text)
    root = tree(text)
    assert isinstance(root, Mapping)
    value = root.get("k")
    assert isinstance(value, Scalar)
    assert source.inside(value, offset).column == column


def test_a_word_ends_at_a_blank():
    assert Source("a", "k: !tag value").word_at(Span(1, 4, 1)) == "!tag"
    assert Source("a", "k: !tag").word_at(Span(1, 4, 1)) == "!tag"
