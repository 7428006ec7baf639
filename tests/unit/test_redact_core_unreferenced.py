"""Bytes of a structure that nothing refers to: which stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.unreferenced import either, leftovers


def masked(marks: str, sign: str) -> bytes:
    return bytes(0xFF if mark == sign else 0 for mark in marks)


@pytest.mark.parametrize(
    ("block", "marks", "expected"),
    [
        # c: claimed, g: claimed and gone, .: not claimed
        (b"head" + b"Zirbelstadt", "cccc...........", [(4, 15, False)]),
        (b"Zirbelstadt" + b"tail", "...........cccc", [(0, 11, False)]),
        (b"head" + b"abc" + b"tail", "cccc...cccc", [(4, 7, True)]),
        (b"head" + b"abcd" + b"tail", "cccc....cccc", [(4, 8, False)]),
        (b"head" + b"abc" + b"tail", "cccg...cccc", [(4, 7, False)]),
        (b"head" + b"abc" + b"tail", "cccc...gccc", [(4, 7, False)]),
        (b"head" + b"abc" + b"tail", "ccgc...cgcc", [(4, 7, True)]),
        (b"head" + bytes(3) + b"tail", "cccg...cccc", []),
        (b"a" + b"xy" + b"b" + b"Zirbelstadt", "c..c...........", [(1, 3, True), (4, 15, False)]),
        (b"all claimed", "ccccccccccc", []),
        (b"", "", []),
        (b"abc", "...", [(0, 3, True)]),
    ],
)
def test_what_says_nothing_stays_unless_it_is_beside_what_goes(block, marks, expected):
    claimed = bytes(0 if mark == "." else 0xFF for mark in marks)
    assert [tuple(found) for found in leftovers(block, claimed, masked(marks, "g"))] == expected


@given(st.lists(st.binary(min_size=7, max_size=7), min_size=1, max_size=4))
def test_either_is_the_bytewise_or(masks):
    whole = either(*masks)
    assert len(whole) == 7
    for at, byte in enumerate(whole):
        expected = 0
        for mask in masks:
            expected |= mask[at]
        assert byte == expected


def test_no_bytes():
    assert either(b"", b"") == b""
