"""YAML's syntax errors in words for the author of a policy, at the place of the fault."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyError
from policyfs.policy.text.compose import UnreadableError, compose
from policyfs.policy.text.nodes import Source


@pytest.mark.parametrize(
    ("text", "line", "message", "help_"),
    [
        ("a:\n\tb: c\n", 2, "YAML does not permit a tab here", "write spaces instead of the tab"),
        ("a: @photos", 1, "an unquoted value cannot start with @", 'put it in quotes: "@photos"'),
        ("a: [x, @photos]", 1, "an unquoted value cannot start with @", 'put it in quotes: "@photos"'),
        ("a: `x`", 1, "an unquoted value cannot start with `", 'put it in quotes: "`x`"'),
        ("a: %x", 1, "an unquoted value cannot start with %", 'put it in quotes: "%x"'),
        ("a: *", 1, "an unquoted * starts a YAML alias", 'a glob needs quotes: "*"'),
        ("a: b\nc: [*, x]", 2, "an unquoted * starts a YAML alias", 'a glob needs quotes: "*"'),
        ('a: "\\*"', 1, "unknown escape in double quotes", None),
        ("b: 1\na: 'x\nc: d\n", 2, "a quote is opened here and never closed", "add the closing quote"),
        ("a: b: c", 1, "a colon is not allowed here", None),
        ("a: [b, c\nd: e", 2, "the list that begins on line 1 is not closed", None),
        ("a: {b: c\nd: e", 2, None, None),
        ("a:\n- b\n c: d", 3, None, None),
        ("a: [/{b,c}]", 1, None, None),
    ],
)
def test_the_author_is_told_what_to_do(text, line, message, help_):
    errors: list[PolicyError] = []
    with pytest.raises(UnreadableError):
        compose(Source("a.yaml", text), errors)
    (error,) = errors
    assert error.where.line == line
    assert message is None or error.message == message
    assert help_ is None or error.help == help_
    assert error.help
    assert "{token}" not in error.help
    assert "{start}" not in error.message
