"""Searches in compressed data, in C: they find what these patterns find."""

from __future__ import annotations

import itertools
import re

import hypothesis
import hypothesis.strategies as st
import pytest

from policyfs.redact.jpeg._scan import find_boxes, find_marker
from tests.support.machine.counts import count

MARKER = {
    False: re.compile(rb"\xff[^\x00\xff]"),
    True: re.compile(rb"\xff[^\x00\xff\xd0-\xd7]"),
}
BOXES = re.compile(rb"\0\0(?:\0[\x10-\xff]|[\1-\x04].)ftyp[\x20-\x7e]{4}", re.DOTALL)

SIZES = [
    *(b"\0\0\0\x10", b"\0\0\x01\x00", b"\0\0\x02\x0f", b"\0\0\x04\xff"),
    *(b"\0\0\x05\x10", b"\0\0\0\x0f", b"\0\x01\0\x20", b"\x01\0\0\x20"),
]
BRANDS = [b"isom", b"qt  ", b"~~~~", b"iso\x1f", b"iso\x7f"]
MARKS = [b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\xd7", b"\xff\xd8", b"\xff\xcf", b"f", b"ftyp"]

BORDERS = [*range(14), *range(50, 82), *range(116, 132)]
"""So many bytes before a head: it begins and ends at each place of a block."""

heads = st.builds(
    lambda size, brand: size + b"ftyp" + brand,
    st.sampled_from(SIZES),
    st.sampled_from(BRANDS) | st.binary(max_size=4),
)
pieces = st.binary(max_size=12) | st.sampled_from(MARKS) | heads
chunks = st.lists(pieces, max_size=12).map(b"".join)
"""The search goes by blocks of 64 bytes, so matches lie anywhere in and across some of them."""
fillers = st.builds(
    lambda byte, count: byte * count, st.sampled_from([b"a", b"f", b"\xff", b"ft"]), st.integers(0, 140)
)
long_chunks = st.builds(lambda head, chunk, tail: head + chunk + tail, fillers, chunks, fillers)


def offset(found: re.Match[bytes] | None) -> int:
    """The offset of a match; -1 if there is none."""
    return -1 if found is None else found.start()


@hypothesis.given(chunks | long_chunks, st.booleans())
@hypothesis.settings(max_examples=count(200, 20_000))
def test_markers_are_those_of_the_pattern(chunk, in_scan):
    assert find_marker(chunk, in_scan) == offset(MARKER[in_scan].search(chunk))


@hypothesis.given(chunks | long_chunks)
@hypothesis.settings(max_examples=count(200, 20_000))
def test_files_of_boxes_are_those_of_the_pattern(chunk):
    assert find_boxes(chunk) == offset(BOXES.search(chunk))


def first_of_both(chunk, in_scan):
    """The offset of the first marker, or of boxes that begin before it, as two searches find it."""
    marker = offset(MARKER[in_scan].search(chunk))
    boxes = offset(BOXES.search(chunk, 0, len(chunk) if marker < 0 else marker + 12))
    return marker if boxes < 0 else boxes


@hypothesis.given(chunks | long_chunks, st.booleans())
@hypothesis.settings(max_examples=count(200, 20_000))
def test_one_pass_finds_what_begins_first(chunk, in_scan):
    assert find_marker(chunk, in_scan, True) == first_of_both(chunk, in_scan)


@pytest.mark.parametrize("in_scan", [False, True])
@pytest.mark.parametrize(
    "head", [b"\0\0\0\x18ftypmp42", b"\0\0\4\xffftypmp42", b"\0\0\1\xd3ftypmp42", b"\0\0\0\x18ftyp"]
)
def test_one_pass_finds_what_begins_first_at_each_border(head, in_scan):
    """Also a marker between the size of the first box and the word behind it."""
    for size, apart in itertools.product(BORDERS, range(-24, 25)):
        chunk = bytearray(b"a" * size + head + b"a" * 90)
        at = max(0, size + apart)
        chunk[at : at + 2] = b"\xff\xd9"
        for end in (len(chunk), size + len(head), size + len(head) + 1):
            part = bytes(chunk[:end])
            assert find_marker(part, in_scan, True) == first_of_both(part, in_scan), (size, apart)


def test_a_head_at_the_very_end_is_found_and_a_part_of_it_is_not():
    head = b"\0\0\0\x18ftypmp42"
    for size in BORDERS:
        assert find_boxes(b"\xff" * size + head) == size
        assert find_boxes(b"\xff" * size + head[:-1]) == -1, size


@pytest.mark.parametrize("chunk", [b"", b"\xff", b"\xff\xff", b"\xff\x00"])
def test_a_marker_has_two_bytes(chunk):
    assert find_marker(chunk, False) == -1
    assert find_marker(chunk, True) == -1


@pytest.mark.parametrize("search", [lambda: find_marker("text", True), lambda: find_boxes(None)])
def test_only_bytes_are_searched(search):
    with pytest.raises(TypeError):
        search()


@pytest.mark.parametrize("in_scan", [False, True])
@pytest.mark.parametrize("filler", [b"\xff\x00", b"\xff", b"a"])
def test_each_second_byte_is_judged_in_a_block_as_alone(filler, in_scan):
    for size, code in itertools.product([*range(60, 70), *range(124, 134)], range(256)):
        chunk = (filler * size)[:size] + bytes([0xFF, code])
        assert find_marker(chunk, in_scan) == offset(MARKER[in_scan].search(chunk))
        chunk += filler * 64
        assert find_marker(chunk, in_scan) == offset(MARKER[in_scan].search(chunk))
