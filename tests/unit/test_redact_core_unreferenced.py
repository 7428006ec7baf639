"""Bytes of a structure that nothing refers to: which stay."""

from __future__ import annotations

import pytest

from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.unreferenced import leftovers


def marked(marks: str, signs: str) -> Extents:
    return Extents((at, at + 1) for at, mark in enumerate(marks) if mark in signs)


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
    found = leftovers(block, marked(marks, "cg"), marked(marks, "g"))
    assert [tuple(one) for one in found] == expected
