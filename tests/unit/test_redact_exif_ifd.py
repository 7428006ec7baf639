"""The one reader of TIFF headers and directories."""

from __future__ import annotations

import struct

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.exif.ifd import Frame, directory_shape, read_directory, read_entries, read_header
from policyfs.redact.exif.tags import TYPE_SIZES
from tests.support.samples.jpegs import ifd, pack, text, tiff

HEADS = {"II": (b"II*\0", "<"), "MM": (b"MM\0*", ">")}


@pytest.mark.parametrize("order", HEADS)
def test_a_header_tells_order_and_first_directory(order):
    mark, letter = HEADS[order]
    header = read_header(MemorySource(mark + pack(order, 0x12345) + bytes(8)))
    assert header is not None
    assert (header.frame.order, header.frame.big, header.magic) == (letter, False, 42)
    assert (header.first, header.size) == (0x12345, 8)


@pytest.mark.parametrize("order", HEADS)
def test_a_bigtiff_has_eight_bytes_for_it(order):
    letter = HEADS[order][1]
    header = read_header(MemorySource(order.encode() + struct.pack(letter + "HHHQ", 43, 8, 0, 1 << 40)))
    assert header is not None
    assert (header.frame.big, header.first, header.size) == (True, 1 << 40, 16)


@pytest.mark.parametrize("data", [b"", b"II*\0\x08\0\0", b"IM*\0\x08\0\0\0", b"XX*\0\x08\0\0\0"])
def test_no_header(data):
    assert read_header(MemorySource(data)) is None


def test_odd_offsets_in_a_bigtiff_are_told_by_its_number():
    header = read_header(MemorySource(b"II+\0\x04\0\0\0" + bytes(8)))
    assert header is not None
    assert (header.frame.big, header.magic) == (False, 43)


@pytest.mark.parametrize("at", [-1, 0x100, 0xFF, 1 << 40])
def test_no_directory_outside_of_the_source(at):
    assert directory_shape(MemorySource(bytes(0x100)), at, Frame("<"), chained=True) is None


@pytest.mark.parametrize(("cut", "chained"), [(0, True), (1, False), (4, False)])
def test_the_last_pointer_may_be_missing(cut, chained):
    block = tiff("II", (8, ifd("II", 8, [(0x0112, 3, 1, b"\6\0")])))
    source = MemorySource(block[: len(block) - cut])
    shape = directory_shape(source, 8, Frame("<"), chained=True)
    assert shape is not None
    assert (shape.entries, shape.end, shape.chained) == (1, 22 + 4 * chained, chained)
    assert directory_shape(MemorySource(block[:21]), 8, Frame("<"), chained=True) is None


@pytest.mark.parametrize("order", HEADS)
def test_entries_and_their_values(order):
    source = MemorySource(
        tiff(order, (8, ifd(order, 8, [text(0x010F, "Testmaker"), text(0x0110, "M7")], 0x80)))
    )
    frame = Frame(HEADS[order][1])
    shape = directory_shape(source, 8, frame, chained=True)
    assert shape is not None
    read = read_directory(source, 8, frame, "IFD", shape)
    long, short = read.entries
    assert (long.inline, source.read(long.start, long.size)) == (False, b"Testmaker\0")
    assert (short.inline, source.read(short.start, short.size), short.room) == (True, b"M7\0", b"M7\0\0")
    assert (read.following, read.end) == (0x80, 8 + 2 + 24 + 4)
    assert [entry.directory for entry in read.entries] == [read, read]
    for entry in read.entries:
        entry.keep = True
    assert read.rebuilt()[:-4] == read.old[:-4]  # the directory behind it was not opened
    long.keep = False
    assert read.rebuilt() == pack(order, 1, size=2) + short.raw + bytes(16)
    assert read.new_size == 2 + 12 + 4


@pytest.mark.parametrize(
    ("most", "room", "expected"), [(9, 36, 3), (2, 36, 2), (9, 35, 2), (9, 11, 0), (0, 36, 0)]
)
def test_entries_are_read_as_far_as_there_are_any(most, room, expected):
    source = MemorySource(b"\3\0" + bytes(room))
    assert len(read_entries(source, 0, Frame("<"), most)) == expected
    assert read_entries(source, 1000, Frame("<"), most) == []


def test_types_of_bigtiff_are_no_types_of_exif():
    source = MemorySource(b"\1\0" + struct.pack("<HHII", 1, 16, 2, 99))
    for sizes, size in ((TYPE_SIZES, 0), (Frame("<").sizes, 16)):
        assert read_entries(source, 0, Frame("<", sizes=sizes), 1)[0].size == size
