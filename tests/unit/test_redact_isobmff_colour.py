"""Colour descriptions in boxes: numbers, or a profile of the size that it states."""

from __future__ import annotations

import pytest

from policyfs.redact.isobmff.colour import is_colour
from tests.support.samples.inners import Plain


def profile(size: int, stated: int | None = None, mark: bytes = b"acsp") -> bytes:
    head = (size if stated is None else stated).to_bytes(4) + bytes(32) + mark
    return head.ljust(size, b"p")


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (b"nclx" + bytes(7), True),
        (b"nclx" + bytes(8), False),
        (b"nclc" + bytes(6), True),
        (b"nclc", True),
        (b"prof", True),
        (b"rICC", True),
        (b"prof" + profile(128), True),
        (b"rICC" + profile(500), True),
        (b"prof" + profile(127), False),
        (b"prof" + profile(200, 201), False),
        (b"prof" + profile(200, 196), True),  # up to four bytes of padding
        (b"prof" + profile(200, 195), False),
        (b"prof" + profile(200, mark=b"acsq"), False),
        (b"prof" + b"\0\0\0\x80", False),
        (b"what" + profile(200), False),
        (b"", False),
    ],
)
def test_what_is_a_colour_description(data: bytes, colour: bool) -> None:
    assert is_colour(data, Plain()) is colour
