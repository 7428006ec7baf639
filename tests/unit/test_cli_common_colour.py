"""Colours are for terminals, and for people who have not refused them."""

from __future__ import annotations

import io

import pytest

from policyfs.cli.common.colour import GREEN, paint, wanted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_no_color_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wanted(Terminal()) is coloured
    assert not wanted(io.StringIO())


def test_a_painted_text() -> None:
    assert paint("s", GREEN) == "\x1b[32ms\x1b[0m"
