"""ASCII85: what is encoded is decoded, and what is malformed is told."""

from __future__ import annotations

import base64

import pytest

from policyfs.redact.pdf.ascii85 import decoded, encoded, tidied


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 400, 401, 402, 403])
@pytest.mark.parametrize("zeros", [0, 1, 4, 9])
def test_bytes_are_as_they_were(size: int, zeros: int) -> None:
    data = bytes(n * 91 % 256 for n in range(size)) + bytes(zeros)
    text = base64.a85encode(data) + b"~>"
    assert decoded(text) == decoded(b" \n".join(text[n : n + 1] for n in range(len(text) - 1)) + b">") == data
    assert encoded(data, len(text)) == text
    wider = encoded(data, len(text) + 7)
    assert wider is not None
    assert len(wider) == len(text) + 7
    assert decoded(wider) == data
    assert encoded(data, len(text) - 1) is None


@pytest.mark.parametrize(
    "text",
    [
        b"abc",
        b"",
        b"a~>",
        b"abcdea~>",
        b"abzcde~>",
        b"az~>",
        b's8W-"~>',
        b"uuuuu~>",
        b"ab\xff~>",
        b"v!!!!~>",
        b"uu~>",
    ],
)
def test_what_is_malformed(text: bytes) -> None:
    assert decoded(text) is None


def test_the_largest_number() -> None:
    assert decoded(b"s8W-!~>") == b"\xff" * 4


def test_bytes_behind_the_end_become_blanks() -> None:
    assert tidied(b"abc~>\r\n") == b"abc~>\r\n"
    assert tidied(b"abc~>Rosa~>\n") == b"abc~>      \n"
