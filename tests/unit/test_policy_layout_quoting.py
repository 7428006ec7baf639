"""Quotes and blocks."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from policyfs.policy.layout.quoting import block, quoted, scalar
from policyfs.policy.layout.tree import Scalar


def made(text: str, *, plain: bool = False) -> Scalar:
    return Scalar(text, plain, None, None, 0, 0)


@pytest.mark.parametrize(
    ("text", "plain", "expected"),
    [
        ("word", False, "word"),
        ("10010", True, "10010"),
        ("10010", False, '"10010"'),
        ("true", True, "true"),
        ("true", False, '"true"'),
        ("No", False, '"No"'),
        ("10100-10199", False, '"10100-10199"'),
        ("a: b", False, '"a: b"'),
        ("a #b", False, '"a #b"'),
        ("a:", False, '"a:"'),
        ("", False, '""'),
        ("@set", False, '"@set"'),
        ("a\\b", False, "a\\b"),
        ("-x\\y", False, "'-x\\y'"),
        ("tab\t", False, '"tab\\t"'),
    ],
)
def test_scalars(text: str, plain: bool, expected: str):
    assert scalar(made(text, plain=plain), glob=False, flow=False) == expected


@pytest.mark.parametrize(
    "text", ["a", "'", '"', "\\", "'\\\"", "\n", "\x07", "é", "\U0001f600", "\u200b", "a\nb\n"]
)
def test_quoted_text_reads_as_itself(text: str):
    assert YAML(typ="safe", pure=True).load(quoted(text)) == text


def test_globs_and_flow():
    assert scalar(made("/x", plain=True), glob=True, flow=False) == '"/x"'
    assert scalar(made("/a\\*"), glob=True, flow=False) == "'/a\\*'"
    assert scalar(made("a, b"), glob=False, flow=False) == "a, b"
    assert scalar(made("a, b"), glob=False, flow=True) == '"a, b"'


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\nb\n", "one " * 60 + "end", "one " * 60 + "end\n", "a\n\n  b\n", "a # b: c " * 20 + "d"],
)
def test_blocks_read_as_their_text(text: str):
    lines = block(made(text), "  ", 0)
    assert lines is not None
    assert all(len(line) <= 100 for line in lines)
    assert YAML(typ="safe", pure=True).load("x: " + "\n".join(lines) + "\n") == {"x": text}


@pytest.mark.parametrize("text", [" a\nb", "a\n\n", "a \nb", "\nb", "a\x07\nb", "one  two " * 30])
def test_what_no_block_can_hold(text: str):
    assert block(made(text), "  ", 0) is None
    assert block(made("short"), "  ", 80) is None
