"""Words for numbers, sizes and ages: what is accepted, and what is told otherwise."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from policyfs.cli.common.quantities import age, count, identity, number, segment_size, size


@pytest.mark.parametrize(
    ("parse", "word", "value"),
    [
        (size, "0", 0),
        (size, "500K", 500 << 10),
        (segment_size, "4K", 4096),
        (age, "36h", 36 * 3600),
        (count, "1", 1),
        (number, "0", 0),
        (number, "999999999", 999_999_999),
        (identity, "0", 0),
        (identity, "4294967294", 2**32 - 2),
    ],
)
def test_a_word_has_its_value(parse: Callable[[str], int], word: str, value: int) -> None:
    assert parse(word) == value


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        (size, "-1"),
        (size, "\u0663"),
        (size, "1\n"),
        (segment_size, "4095"),
        (segment_size, "0"),
        (age, "0d"),
        (count, "0"),
        (number, "-1"),
        (number, "1\n"),
        (identity, "4294967295"),
        (identity, "-1"),
    ],
)
def test_any_other_word_is_told_with_a_remedy(parse: Callable[[str], int], word: str) -> None:
    with pytest.raises(ArgumentTypeError, match="; write "):
        parse(word)
