"""zlib streams of an exact length."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.zlib_exact import InflateError, blank, deflate_to, inflate, stored


@pytest.mark.parametrize("size", [11, 12, 100, 65545, 65546, 65547, 70000, 200_000])
def test_a_stream_of_any_length(size):
    made = blank(size, b" ")
    assert len(made) == size
    said, rest = inflate(made, size)
    assert not said.strip(b" ")
    assert not rest.strip(b"\0")


def test_deflating_into_a_length():
    text = b"abc" * 100
    made = deflate_to(text, 50)
    assert made is not None
    assert len(made) == 50
    assert inflate(made, 1000)[0] == text
    assert deflate_to(bytes(range(256)), 50) is None


@given(st.binary(max_size=300), st.integers(0, 80))
def test_what_fits_has_the_length_asked_for(data, more):
    least = len(zlib.compress(data, 9))
    made = deflate_to(data, least + more)
    assert made is not None
    assert len(made) == least + more
    said, rest = inflate(made, len(data))
    assert said == data
    assert not rest.strip(b"\0")
    assert deflate_to(data, least - 1) is None


@pytest.mark.parametrize("size", [0, 1, 0xFFFF, 0x10000, 2 * 0xFFFF, 2 * 0xFFFF + 1])
def test_stored_blocks_hold_65535_bytes_at_most(size):
    data = hashlib.sha256(b"a").digest() * (size // 32 + 1)
    made = stored(data[:size])
    assert zlib.decompress(made) == data[:size]
    assert len(made) == 2 + 5 * max(1, -(-size // 0xFFFF)) + size + 4


@pytest.mark.parametrize("size", range(11))
def test_no_stream_is_shorter_than_eleven_bytes(size):
    assert blank(size) == bytes(size)


def test_a_limit_is_the_last_length_that_is_inflated():
    packed = zlib.compress(b"abc" * 40)
    assert inflate(packed + b"behind", 120) == (b"abc" * 40, b"behind")
    with pytest.raises(InflateError):
        inflate(packed, 119)


@pytest.mark.parametrize("data", [b"", b"x", b"not a stream", zlib.compress(b"a place")[:-1]])
def test_what_is_no_whole_stream_is_an_error(data):
    with pytest.raises(InflateError):
        inflate(data, 1000)
