"""Starts of blocks of metadata, in every encoding of text; and numbers, which only look like them."""

from __future__ import annotations

import pytest

from policyfs.redact.core import block_starts
from policyfs.redact.core.block_starts import PLACE_MARKS, holds_metadata
from tests.support.samples.plants import PLANTS, packet

BLOCKS = ("manifest", "XMP", "XMP in UTF-16", "EXIF")


@pytest.mark.parametrize("name", PLANTS)
def test_blocks_are_found_and_texts_are_none(name):
    assert holds_metadata(PLANTS[name]) == (name in BLOCKS)
    assert holds_metadata(PLANTS[name], numbers=True) == (name in BLOCKS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_packet_is_found_in_every_encoding(encoding):
    assert holds_metadata(b"\x81" + packet().decode().encode(encoding))


@pytest.mark.parametrize("mark", block_starts._MARKS)
@pytest.mark.parametrize("before", [b"", b"a", b"\0"])
@pytest.mark.parametrize("behind", [b"", b"a", b"\0", b"\0a"])
def test_each_start_is_found_at_each_place(mark, before, behind):
    assert holds_metadata(before + mark + behind)
    assert holds_metadata(before + mark + behind, numbers=True) == (mark in block_starts._LONG_MARKS)
    shorter = any(other in mark[:-1] for other in block_starts._MARKS)
    assert holds_metadata(before + mark[:-1]) == shorter


@pytest.mark.parametrize("mark", PLACE_MARKS)
def test_the_shortest_starts_do_not_count_among_numbers(mark):
    data = bytes(range(50)) + mark + bytes(range(50))
    assert holds_metadata(data)
    assert holds_metadata(data, numbers=True) == (len(mark) > 4)
