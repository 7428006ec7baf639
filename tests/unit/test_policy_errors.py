"""Errors for people: excerpts that fit and carets below the fault; nothing steers a terminal."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyError, PolicyErrors, did_you_mean, harmless, listed, quote
from policyfs.policy.model import Where


def shown(line: str, column: int, width: int) -> tuple[str, str]:
    """The excerpt and the carets, without what is before them."""
    text = str(PolicyError(Where("a.yaml", 7, column), "wrong", "mend it", line, width)).split("\n")
    assert text[0] == f"a.yaml:7:{column}: wrong"
    assert text[3] == "help: mend it"
    assert text[1].startswith("    7 |")
    return text[1][8:], text[2][8:]


@pytest.mark.parametrize(
    ("line", "column", "width", "marked"),
    [("key: value", 6, 5, "value"), ("key: value", 6, 99, "value"), ("key", 1, 0, "k"), ("key", 3, 1, "y")],
)
def test_carets_are_below_the_fault(line, column, width, marked):
    text, carets = shown(line, column, width)
    assert text == line
    assert text[carets.index("^") : carets.index("^") + carets.count("^")] == marked


@pytest.mark.parametrize(("line", "column"), [("", 1), ("key", 4), ("key", 99)])
def test_a_fault_behind_the_line_has_one_caret(line, column):
    assert shown(line, column, 5)[1].strip() == "^"


def test_wide_and_combining_characters_take_their_columns():
    assert shown("日本x", 3, 1)[1] == "    ^"
    assert shown("日本x", 1, 2)[1] == "^^^^"
    assert shown("e\u0301x", 3, 1)[1] == " ^"
    assert shown("\tx", 2, 1)[1] == "\t^"


@pytest.mark.parametrize("column", [1, 40, 150, 299, 300])
def test_a_long_line_is_cut_around_the_fault(column):
    line = "".join(chr(ord("a") + number % 26) for number in range(300))
    text, carets = shown(line, column, 1)
    assert len(text) <= 106
    assert text[carets.index("^")] == line[column - 1]
    assert text.startswith("...") == (column > 34)
    assert text.endswith("...") == (column < 233)


def test_a_line_of_100_characters_is_whole():
    assert shown("x" * 100, 100, 1)[0] == "x" * 100


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\u202e", "\u2028", "\u200b", "\ud800", "\n"])
def test_no_character_steers_a_terminal(char):
    assert harmless(f"a{char}b") == "a\ufffdb"
    assert char not in quote(f"a{char}b")
    assert char not in listed([f"a{char}"])
    assert char not in shown(f"a{char}b", 1, 1)[0]


def test_quotes_are_bounded():
    assert quote("x" * 60) == f'"{"x" * 60}"'
    assert quote("x" * 61) == f'"{"x" * 57}..."'


def test_words_are_listed_sorted_and_at_most_twelve():
    assert listed([]) == "none"
    assert listed([], none="nobody") == "nobody"
    assert listed(["b", "a"]) == "a, b"
    letters = "abcdefghijklm"
    assert listed(letters[:12]) == ", ".join(letters[:12])
    assert listed(letters) == ", ".join(letters[:12]) + ", ..."


def test_a_near_word_is_offered():
    assert did_you_mean("alow", ["allow", "deny"]) == 'did you mean "allow"? '
    assert did_you_mean("quince", ["allow", "deny"]) == ""
    assert did_you_mean("allow", []) == ""


def error(file: str, line: int, message: str = "wrong") -> PolicyError:
    return PolicyError(Where(file, line, 1), message, "mend it", "x", 1)


def test_errors_are_sorted_and_each_is_told_once():
    errors = PolicyErrors(
        [error("b", 1), error("a", 10), error("a", 2), error("a", 2), error("a", 2, "also")]
    )
    assert [(one.where.file, one.where.line, one.message) for one in errors.errors] == [
        ("a", 2, "also"), ("a", 2, "wrong"), ("a", 10, "wrong"), ("b", 1, "wrong"),
    ]  # fmt: skip
    assert str(errors).startswith("the policy does not compile: 4 errors in 2 files\n")
    assert str(PolicyErrors([error("a", 1)])).startswith("the policy does not compile: 1 error\n")
