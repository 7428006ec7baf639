"""Range arithmetic: patches never change a size, never overlap, and cost what they must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Patch
from policyfs.redact.core.patches import (
    CHUNK_BYTES,
    MemorySource,
    SliceSource,
    apply,
    difference,
    in_order,
    is_blank,
    mask,
    skip_zeros,
    uniform_difference,
    xor,
    zeros,
)


@given(st.binary(max_size=200), st.data())
def test_difference_turns_old_into_new(old, data):
    new = bytearray(old)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=20)):
        if at < len(new):
            new[at] = value
    patches = in_order(difference(7, old, bytes(new)), 7 + len(old))
    assert apply(b"-" * 7 + old, patches) == b"-" * 7 + bytes(new)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_uniform_difference_has_one_byte_in_each_patch(old, new):
    size = min(len(old), len(new))
    old, new = old[:size], new[:size]
    patches = in_order(uniform_difference(7, old, new), 7 + size)
    assert all(len(set(patch.data)) == 1 for patch in patches)
    assert apply(b"-" * 7 + old, patches) == b"-" * 7 + new


def test_difference_joins_near_runs_and_keeps_far_ones_apart():
    new = bytearray(100)
    new[10] = new[20] = new[60] = 1
    assert [(p.offset, len(p.data)) for p in difference(0, bytes(100), bytes(new))] == [(10, 11), (60, 1)]


def test_a_size_never_changes():
    with pytest.raises(ValueError, match="size"):
        list(difference(0, b"a", b"ab"))


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_zeros(data, start, length):
    end = min(len(data), start + length)
    out = apply(data, zeros(MemorySource(data), start, end))
    assert out == data[:start] + bytes(max(0, end - start)) + data[max(start, end) :]
    assert not list(zeros(MemorySource(out), start, end))


def test_zeros_of_much_hold_no_bytes():
    data = b"x" * (3 * CHUNK_BYTES + 5)
    patches = list(zeros(MemorySource(data), 0, len(data)))
    assert [(p.data, p.zeros) for p in patches] == [(b"", CHUNK_BYTES)] * 3 + [(b"", 5)]


@given(st.binary(min_size=8, max_size=30), st.integers(0, 5), st.integers(1, 10))
def test_a_part_of_a_file_is_a_file(data, start, size):
    part = SliceSource(MemorySource(data), start, size)
    assert part.size == min(size, len(data) - start)
    for offset in range(size + 2):
        assert part.read(offset, 4) == data[start : start + size][offset : offset + 4]


@pytest.mark.parametrize("lead", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_skip_zeros(lead):
    assert skip_zeros(MemorySource(bytes(lead) + b"x"), 0) == lead
    assert skip_zeros(MemorySource(bytes(lead)), 0) == lead


@pytest.mark.parametrize(
    "patches", [[Patch(0, b"ab"), Patch(1, b"c")], [Patch(5, b"a"), Patch(5, b"b")], [Patch(9, b"ab")]]
)
def test_patches_that_overlap_or_leave_the_file_are_a_bug(patches):
    with pytest.raises(ValueError, match="patch"):
        in_order(patches, 10)


def test_in_order_sorts_and_drops_empty_ones():
    assert in_order([Patch(5, b"a"), Patch(3, b""), Patch(0, b"b")], 10) == (Patch(0, b"b"), Patch(5, b"a"))


def test_bitwise():
    assert xor(b"\0\xff", b"\xff\xff") == b"\xff\0"
    assert mask(b"\0abc", b"\xff\xff\0\xff") == b"\0a\0c"


def test_a_source_is_short_only_at_its_end():
    source = MemorySource(b"abc")
    assert (source.size, source.read(1, 9), source.read(5, 1)) == (3, b"bc", b"")


@pytest.mark.parametrize("size", [0, 1, 5, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_blank(size):
    assert is_blank(bytes(size))
    for at in {0, size // 2, size - 1} if size else ():
        data = bytearray(size)
        data[at] = 1
        assert not is_blank(bytes(data))
