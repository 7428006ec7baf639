"""Rules for boxes: what is allowed where, and how much of it stays."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.box_rules import clean_children, container, fixed_size, rules, table
from tests.support.samples.inners import PLACES
from tests.support.samples.movies import box, full, u32

RULES = rules(
    head=fixed_size(8, 12),
    tabl=table(8, 4, 6),
    hold=container(rules(head=fixed_size(4)), skip=2),
)


def cleaned(data: bytes) -> bytes:
    block = Block(data, 0, PLACES)
    clean_children(block, 0, len(data), RULES, "test")
    assert bool(block.found.patches) == bool(block.found.notes)
    return apply(data, block.found.patches)


NONE = bytes(6)


def free(size: int) -> bytes:
    return box(b"free", bytes(size))


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (box(b"what", b"secret"), free(6)),
        (full(b"head", u32(1), b"secret"), full(b"head", u32(1), NONE)),
        (full(b"head", u32(1, 2), b"secret", version=1), full(b"head", u32(1, 2), NONE, version=1)),
        (box(b"head"), box(b"head")),
        (full(b"tabl", u32(2, 7, 8), b"secret"), full(b"tabl", u32(2, 7, 8), NONE)),
        (
            full(b"tabl", u32(1), b"123456secret", version=1),
            full(b"tabl", u32(1), b"123456", NONE, version=1),
        ),
        (full(b"tabl", u32(9, 7)), full(b"tabl", u32(9, 7))),
        (box(b"tabl", b"short"), free(5)),
        (box(b"hold", b"ab", box(b"head", b"1234secret")), box(b"hold", b"ab", box(b"head", b"1234" + NONE))),
        (box(b"hold", b"ab", box(b"hold", b"x")), box(b"hold", b"ab", free(1))),
        (box(b"free", b"secret"), free(6)),
        (box(b"head", b"12345678") + b"\0\0\1\0head", box(b"head", b"12345678") + b"\0\0\0\x08free"),
    ],
)  # fmt: skip
def test_what_stays_of_a_box(data, out):
    assert cleaned(data) == out
    assert cleaned(out) == out
