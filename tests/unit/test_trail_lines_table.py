"""Text for terminals: no name can do harm, nothing wider than the screen."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.lines.line import INVISIBLE
from policyfs.trail.lines.table import (
    fit,
    human,
    pad,
    sheet,
    shown,
    shown_path,
    table,
    width,
    word,
    words,
    wrap,
)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("IMG_1.jpg", "IMG_1.jpg"),
        ("Käse 猫", "Käse 猫"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x7f\x9b31m", "\\x7f\\u009b31m"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\u200b\u2060\ufeffb", "a\\u200b\\u2060\\ufeffb"),
        ("\u3164\U000e0041", "\\u3164\\U000e0041"),
        ("a\\x1bb", "a\\\\x1bb"),
        ("\u2028", "\\u2028"),
    ],
)
def test_shown(text: str, harmless: str) -> None:
    assert shown(text) == harmless


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("text", ["a", "", "it's", "/a b/Käse", "a\n\x1b[2J'\\1\u202e", "\udcff$(x)\x07\x31"])
def test_words_are_harmless_and_mean_the_text(shell: str, text: str) -> None:
    assert words("echo", text).isprintable()
    said = subprocess.run([shell, "-c", f"printf %s {words(text)}"], capture_output=True, check=True).stdout
    assert said == text.encode("utf-8", "surrogateescape")
    assert word("/srv/media") == "/srv/media"


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert shown_path(b"/a\xff\xc3\x28") == "/a\\xff\\xc3("


@given(st.binary(max_size=50))
def test_any_path_is_harmless_and_no_two_look_alike(path: bytes) -> None:
    text = shown_path(path)
    assert text.isprintable()
    assert not INVISIBLE.search(text)
    other = path + b"\x00"
    assert shown_path(other) != text


@given(st.lists(st.text(alphabet="a\\x1b\x1b\u202e猫", max_size=6), min_size=2, max_size=2, unique=True))
def test_different_names_are_shown_differently(names: list[str]) -> None:
    assert shown(names[0]) != shown(names[1])


@given(st.text(max_size=40).map(shown), st.integers(1, 30))
def test_fit_is_never_wider_than_asked(text: str, columns: int) -> None:
    assert width(fit(text, columns)) <= columns
    assert fit(text, 1000) == text


def test_fit_keeps_both_ends() -> None:
    assert fit("/DCIM/Camera/2026/IMG_0001.jpg", 16) == "/DCIM…G_0001.jpg"


def test_width_counts_columns() -> None:
    assert (width("abc"), width("猫"), width("e\u0301")) == (3, 2, 1)
    assert pad("猫", 4) == "猫  "


def test_a_table_is_aligned_and_gives_way_in_its_flexible_column() -> None:
    rows = [("12", "/a"), ("3", "/a/very/long/path/to/a/file.jpg")]
    assert table(("N", "PATH"), rows, right=frozenset({0})) == [
        " N  PATH",
        "12  /a",
        " 3  /a/very/long/path/to/a/file.jpg",
    ]
    narrow = table(("N", "PATH"), rows, columns=20, flexible=1, right=frozenset({0}))
    assert max(map(width, narrow)) == 20
    assert table(("A", "B"), []) == ["A  B"]


def test_a_sheet_is_aligned() -> None:
    assert sheet([("a", "1"), ("bcd", "")]) == ["a    1", "bcd"]
    assert sheet([]) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("columns", [-4, 0, 1, 2])
def test_a_text_is_wrapped_on_the_narrowest_terminal(columns: int) -> None:
    assert wrap("abc \u65e5\u672c de", columns) == ["ab", "c", "\u65e5", "\u672c", "de"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert human(number) == text
