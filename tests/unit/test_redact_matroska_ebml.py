"""Headers of elements, numbers of variable width, and Void elements of any length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.matroska.ebml import (
    VOID,
    Head,
    head_at,
    head_before,
    number_at,
    void,
    void_head,
    void_patches,
    zero_patches,
)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"\xec\x80", Head(0xEC, 2, 0)),
        (b"\xec\x85", Head(0xEC, 2, 5)),
        (b"\x42\x86\x81", Head(0x4286, 3, 1)),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f", Head(0x1A45DFA3, 12, 31)),
        (b"\xec\x40\x7f", Head(0xEC, 3, 127)),
        (b"\xec\xff", Head(0xEC, 2, None)),
        (b"\xec\x7f\xff", Head(0xEC, 3, None)),
        (b"\xec\x01\xff\xff\xff\xff\xff\xff\xff", Head(0xEC, 9, None)),
        (b"\xec\x01\xff\xff\xff\xff\xff\xff\xfe", Head(0xEC, 9, (1 << 56) - 2)),
        (b"", None),
        (b"\xec", None),
        (b"\x42\x86", None),
        (b"\xec\x40", None),
        (b"\xec\x00\0\0\0\0\0\0\0\0", None),
        (b"\x08\0\0\0\0\x80", None),
        (b"\0\x80", None),
    ],
)
def test_headers(data, head):
    assert head_at(data) == head
    assert head_at(b"ab" + data, 2) == head
    if head is not None:
        assert head_at(data[: head.length - 1]) is None


def test_a_header_is_whole_before_the_end_of_its_parent():
    source = MemorySource(b"ab\x42\x86\x81c")
    assert head_before(source, 2, 5) == Head(0x4286, 3, 1)
    assert head_before(source, 2, 4) is None
    assert head_before(source, 2, 2) is None


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"\x81", (1, 1)),
        (b"\xff", (127, 1)),
        (b"\x40\x02x", (2, 2)),
        (b"\x01\0\0\0\0\0\1\0", (256, 8)),
        (b"\x40", None),
        (b"\0", None),
        (b"", None),
    ],
)
def test_numbers(data, number):
    assert number_at(data) == number
    assert number_at(b"x" + data, 1) == number


@given(st.integers(0, 70_000))
def test_a_void_element_takes_exactly_its_room(size):
    made = void(size)
    assert len(made) == size
    head = head_at(made)
    if size < 2:
        assert head is None
    else:
        assert head is not None
        assert (head.ident, head.size) == (VOID, size - head.length)
        assert made.startswith(void_head(size))
        assert not made[head.length :].strip(b"\0")


@given(st.binary(max_size=300), st.integers(0, 100), st.integers(0, 200))
def test_void_patches(data, start, size):
    start = min(start, len(data))
    end = min(start + size, len(data))
    out = apply(data, void_patches(MemorySource(data), start, end))
    assert out == data[:start] + void(end - start) + data[end:]
    assert not list(void_patches(MemorySource(out), start, end))


@pytest.mark.parametrize("lead", [0, 3, 1 << 20, (1 << 20) + 7])
def test_zeros_before_the_first_other_byte_are_no_patch(lead):
    source = MemorySource(bytes(lead) + b"x" + bytes(9) + b"y")
    assert [(patch.offset, patch.end) for patch in zero_patches(source, 0, source.size)] == [
        (lead, source.size)
    ]
    assert not list(zero_patches(source, 0, lead))
    assert not list(zero_patches(source, source.size, source.size + 50))
