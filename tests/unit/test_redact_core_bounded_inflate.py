"""Deflated text: read with a bound on the work, written to an exact length."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.bounded_inflate import blank, deflated_to
from policyfs.redact.core.bounded_inflate import inflated as inflated_within
from policyfs.redact.core.cleaners import MAX_INFLATED_BYTES, Budget, TooMuchError

WORDS = b"some words and some more words"


def inflated(data: bytes) -> tuple[bytes, bytes] | None:
    return inflated_within(data, Budget(0, 0))


def test_what_is_inflated_counts_for_the_whole_file():
    one = zlib.compress(bytes(1 << 20))
    budget = Budget(0, 0)
    for _ in range(MAX_INFLATED_BYTES >> 20):
        assert inflated_within(one, budget) is not None
    with pytest.raises(TooMuchError):
        inflated_within(one, budget)


def test_a_stream_counts_as_far_as_it_is_whole():
    """Otherwise streams that break at their end would be read for nothing, one after another."""
    packer = zlib.compressobj(9)
    broken = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) + b"\7\7\7"
    budget = Budget(0, 0)
    with pytest.raises(TooMuchError):
        for _ in range(1 + (MAX_INFLATED_BYTES >> 20)):
            assert inflated_within(broken, budget) is None


def test_a_short_stream_that_is_broken_costs_little():
    budget = Budget(0, 0)
    assert inflated_within(b"no stream", budget) is None
    assert budget.inflated > MAX_INFLATED_BYTES - (1 << 17)


@pytest.mark.parametrize("size", [0, 1, 0xFFFF, 0x10000, 0x10001, 300_000])
def test_the_limit_is_the_last_length_that_is_read(size):
    plain = hashlib.sha256(b"noise").digest() * (size // 32 + 1)
    packed = zlib.compress(plain[:size])
    assert inflated_within(packed, Budget(0, 0), size) == (plain[:size], b"")
    if size:
        assert inflated_within(packed, Budget(0, 0), size - 1) is None


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_stream_cut_off_is_none(cut):
    assert inflated(zlib.compress(WORDS)[:-cut]) is None


def test_a_stream_with_a_wrong_checksum_is_none():
    assert inflated(zlib.compress(WORDS)[:-1] + b"?") is None


def test_what_is_behind_a_stream_is_given_back():
    assert inflated(zlib.compress(WORDS) + b"Zirbelstadt") == (WORDS, b"Zirbelstadt")
    long = zlib.compress(bytes(200_000))
    assert inflated(long + b"Zirbelstadt") == (bytes(200_000), b"Zirbelstadt")


@pytest.mark.parametrize("size", range(40, 75))
def test_a_stream_of_any_length(size):
    plain = b"some words and some more words"
    packed = deflated_to(plain, size)
    if packed is None:
        assert size < 60
    else:
        assert len(packed) == size
        assert inflated(packed) == (plain, b"")


def test_digits_fit_into_the_room_that_they_had():
    """Profiles of ImageMagick are hexadecimal digits, deflated as well as zlib can by default: what is left
    has not a byte to spare."""
    digits = b"".join(hashlib.sha256(bytes((i,))).digest() for i in range(60)).hex().encode()
    fewer = digits.replace(digits[100:124], b"0" * 24)
    packed = deflated_to(fewer, len(zlib.compress(fewer, 9)) + 1)
    assert packed is not None
    assert inflated(packed) == (fewer, b"")


@given(st.binary(max_size=400), st.integers(-20, 60))
def test_what_fits_has_the_length_asked_for(plain, more):
    size = max(0, len(zlib.compress(plain, 9)) + more)
    packed = deflated_to(plain, size)
    if packed is None:
        assert more < 20
    else:
        assert len(packed) == size
        assert inflated(packed) == (plain, b"")


@pytest.mark.parametrize("size", [11, 12, 100, 65545, 65546, 65547, 70000, 200_000])
def test_a_blank_stream_of_any_length(size):
    made = blank(size, b" ")
    assert len(made) == size
    whole = inflated(made)
    assert whole is not None
    said, rest = whole
    assert not said.strip(b" ")
    assert not rest.strip(b"\0")


def test_deflating_into_a_length():
    text = b"abc" * 100
    made = deflated_to(text, 50, padded=True)
    assert made is not None
    assert len(made) == 50
    whole = inflated(made)
    assert whole is not None
    assert whole[0] == text
    assert deflated_to(bytes(range(256)), 50, padded=True) is None


@given(st.binary(max_size=300), st.integers(0, 80))
def test_what_fits_has_the_length_asked_for_with_padding(data, more):
    least = len(zlib.compress(data, 9))
    made = deflated_to(data, least + more, padded=True)
    assert made is not None
    assert len(made) == least + more
    whole = inflated(made)
    assert whole is not None
    said, rest = whole
    assert said == data
    assert not rest.strip(b"\0")


@pytest.mark.parametrize("size", range(11))
def test_no_stream_is_shorter_than_eleven_bytes(size):
    assert blank(size) == bytes(size)
