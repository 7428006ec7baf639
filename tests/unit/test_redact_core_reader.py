"""Reading one number or text after another, up to the end of the bytes and no further."""

from __future__ import annotations

import pytest

from policyfs.redact.core.reader import Fields


def test_numbers_are_big_endian_and_follow_each_other():
    fields = Fields(b"\x01\x02\x03\x04\x05")
    assert [fields.number(1), fields.number(2), fields.number(0), fields.number(2)] == [1, 0x203, 0, 0x405]
    assert fields.at == 5


def test_the_last_byte_is_read_and_one_more_is_an_error_that_moves_nothing():
    fields = Fields(b"abc", at=1)
    with pytest.raises(ValueError, match="short"):
        fields.take(3)
    assert fields.take(2) == b"bc"
    with pytest.raises(ValueError, match="short"):
        fields.number(1)
    assert fields.take(0) == b""


@pytest.mark.parametrize(
    ("data", "text", "at"),
    [
        (b"name\0rest", b"name", 5),
        (b"\0rest", b"", 1),
        (b"open", b"open", 4),
        (b"", b"", 0),
        (b"name\0", b"name", 5),
    ],
)
def test_a_text_ends_at_a_zero_or_with_the_data(data, text, at):
    fields = Fields(data)
    assert fields.string() == text
    assert fields.at == at


def test_what_was_not_read_becomes_zeros():
    fields = Fields(b"head Zirbelstadt")
    assert fields.kept() == bytes(16)
    fields.take(4)
    assert fields.kept() == b"head" + bytes(12)
    fields.take(12)
    assert fields.kept() == b"head Zirbelstadt"
