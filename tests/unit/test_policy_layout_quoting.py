"""Quotes, and values on one line."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from policyfs.policy.layout.quoting import flow, name_text, quoted

ODD = ["a", "'", '"', "\\", "'\\\"", "\n", "\x07", "é", "\U0001f600", "\u200b", "a\nb\n"]
ODD += ["", "~", "No", "true", "1e5"]
ODD += ["a: b", "a #b", "a, b", "[a", "10100-10199", "@set", "image/*", "/D/{a,b}/**"]
ODD += ["tab\t", "2026-01-01", "-", "?"]


def read(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("text", ODD)
def test_text_reads_as_itself(text: str):
    assert read(quoted(text)) == text
    assert read(flow(text)) == text
    assert read(flow({"a": [text, text], "b": {"c": text}})) == {"a": [text, text], "b": {"c": text}}


def test_what_needs_no_quotes_has_none():
    value = {"uid": ["7-9", 20], "mode": "monitor", "ignore_case": True, "type": "image/png", "none": []}
    assert flow(value) == '{uid: ["7-9", 20], mode: monitor, ignore_case: true, type: image/png, none: []}'


@pytest.mark.parametrize(("text", "told"), [("a.b", "a.b"), ("no", '"no"'), ("01", '"01"')])
def test_names(text: str, told: str):
    assert name_text(text) == told
