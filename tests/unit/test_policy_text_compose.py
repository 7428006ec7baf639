"""From bytes to a tree of nodes: what YAML allows and a policy does not."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyError
from policyfs.policy.text.compose import MAX_DEPTH, MAX_EXPANDED, UnreadableError, compose, decode
from policyfs.policy.text.nodes import Absent, Folded, Source, Unquoted, data_of


def read(text: str) -> tuple[object, list[str]]:
    """The data, and what is wrong; the data is None if it cannot be read."""
    errors: list[PolicyError] = []
    try:
        data = data_of(compose(Source("a.yaml", text), errors))
    except UnreadableError:
        data = None
    return data, [error.message for error in errors]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-7", -7), ("+7", 7), ("0", 0), ("0o17", 15), ("0xFf", 255), ("1.5", 1.5),
        ("-1e3", -1000.0), (".5", 0.5), (".inf", float("inf")), ("-.INF", float("-inf")),
        ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"), ("yes", "yes"),
        ("no", "no"), ("on", "on"),
        ("~", Absent.NULL), ("null", Absent.NULL), ("''", ""), ("'7'", "7"), ('"true"', "true"), ("7x", "7x"),
        ("1_000", "1_000"), ("12:30", "12:30"), ("2024-05-17", "2024-05-17"),
        ("0b1", "0b1"), ("9" * 50, 10**40),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text, value):
    assert read(f"k: {text}") == ({"k": value}, [])


def test_text_knows_how_it_was_written():
    data, _ = read("a: one\nb: 'one'\nc: one\n  two\n")
    assert isinstance(data, dict)
    assert type(data["a"]) is Unquoted
    assert type(data["b"]) is str
    assert type(data["c"]) is Folded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# no more\n", "the file is empty"),
        ("a: 1\n---\nb: 2\n", "the file has a second YAML document"),
        ("a: &x [*x]", "alias *x contains itself"),
        ("a: *x", 'unquoted "*x" is a YAML alias, but no anchor has this name'),
        ("a: !!str b", 'the YAML tag "!!str" is not permitted'),
        ("a: 1\na: 2", 'key "a" is given twice, first on line 1'),
        ("<<: {a: 1}", "a YAML merge key (<<) is not permitted"),
        ("7: a", "YAML does not read the key 7 as text"),
        ("? [a]\n: b", "a list or mapping cannot be a key"),
        (": b", "a key is missing before the colon"),
        ("a: 0755", "number 0755 starts with 0"),
        ("a: 00", "number 00 starts with 0"),
        ('a: "\\0"', "the text contains U+0000, which no name can contain"),
        ('a: "\\ud800"', "the text contains U+D800, which no name can contain"),
    ],
)
def test_what_a_policy_has_not(text, message):
    _, errors = read(text)
    assert errors == [message]


def test_a_sound_key_named_like_a_merge():
    assert read("'<<': a") == ({"<<": "a"}, [])


def test_depth_is_bounded():
    deepest = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert read(deepest)[1] == []
    assert read("[" + deepest + "]") == (None, ["lists and mappings are nested too deeply"])


def test_aliases_are_bounded_by_what_they_stand_for():
    size = 100
    base = f"- &a [{', '.join('1' * (size - 1))}]\n"
    assert read(base + "- *a\n" * (MAX_EXPANDED // size))[1] == []
    assert read(base + "- *a\n" * (MAX_EXPANDED // size + 1)) == (
        None,
        [f"the YAML aliases of this file stand for more than {MAX_EXPANDED:,} values"],
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        (b"a: b\nc: \xff", 2, 4, "byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfa: \xe9", 1, 4, "byte 0xe9 is not UTF-8"),
        (b"a: b\x07", 1, 5, "the file contains the control character U+0007"),
        ("a\n: \u2028".encode(), 2, 3, "the file contains the control character U+2028"),
        (b"a: 1\n%YAML 1.1\n", 2, 1, 'the YAML directive "%YAML" is not permitted'),
    ],
)
def test_bytes_that_are_no_text(text, line, column, message):
    errors: list[PolicyError] = []
    with pytest.raises(UnreadableError):
        decode("a.yaml", text, errors)
    (error,) = errors
    assert (error.where.line, error.where.column, error.message) == (line, column, message)


@pytest.mark.parametrize("text", ["a: \t b", "a: \u00a0", "a: é\U0001f600", "a: \u0085"])
def test_bytes_that_are_text(text):
    errors: list[PolicyError] = []
    if text.endswith("\u0085"):
        with pytest.raises(UnreadableError):
            decode("a.yaml", text.encode(), errors)
    else:
        assert decode("a.yaml", b"\xef\xbb\xbf" + text.encode(), errors).text == text
        assert errors == []
