"""Indices at the top of a file: as many entries as they state, zeros behind."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.box_rules import clean_children
from policyfs.redact.isobmff.sidx import INDEX_RULES
from tests.support.samples.inners import PLACES
from tests.support.samples.movies import box, full, u16, u32

SECRET = b"secret"
NONE = bytes(len(SECRET))


def cleaned(data: bytes) -> bytes:
    block = Block(data, 0, PLACES)
    clean_children(block, 0, len(data), INDEX_RULES, "file")
    return apply(data, block.found.patches)


def sidx(count: int, *entries: bytes, version: int = 0, behind: bytes = b"") -> bytes:
    head = u32(1, 1000) + (u32(5, 6) if version == 0 else u32(0, 5, 0, 6))
    return full(b"sidx", head, u16(0, count), *entries, behind, version=version)


def tfra(widths: int, count: int, *entries: bytes, version: int = 0, behind: bytes = b"") -> bytes:
    return box(b"mfra", full(b"tfra", u32(1, widths, count), *entries, behind, version=version))


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_ends_behind_its_last_reference(version: int) -> None:
    for entries in (b"", b"abcdefghijkl", b"abcdefghijkl" * 3):
        made = sidx(len(entries) // 12, entries, version=version, behind=SECRET)
        assert cleaned(made) == sidx(len(entries) // 12, entries, version=version, behind=NONE)
    assert cleaned(sidx(9, version=version)) == sidx(9, version=version)


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_that_is_too_short_goes(version: int) -> None:
    body = sidx(0, version=version)[8:-1]
    assert cleaned(box(b"sidx", body)) == box(b"free", bytes(len(body)))
    assert cleaned(box(b"sidx", body + b"\0")) == box(b"sidx", body + b"\0")


@pytest.mark.parametrize(
    ("version", "widths", "size"),
    [(0, 0, 11), (1, 0, 19), (0, 0b111111, 20), (1, 0b010010, 22), (0, 0b110000, 14), (0, 0xC0, 11)],
)
def test_an_index_of_key_frames_has_entries_of_stated_widths(version: int, widths: int, size: int) -> None:
    entries = b"e" * (2 * size)
    made = tfra(widths, 2, entries, version=version, behind=SECRET)
    assert cleaned(made) == tfra(widths, 2, entries, version=version, behind=NONE)


def test_an_index_of_key_frames_that_is_too_short_goes() -> None:
    assert cleaned(box(b"mfra", box(b"tfra", b"\0" * 14 + b"x"))) == box(b"mfra", box(b"free", bytes(15)))
    assert cleaned(tfra(0, 9, b"e" * 11)) == tfra(0, 9, b"e" * 11)


def test_its_length_at_the_end_stays_and_unknown_boxes_go() -> None:
    made = box(b"mfra", full(b"mfro", u32(24), SECRET), box(b"what", SECRET))
    assert cleaned(made) == box(b"mfra", full(b"mfro", u32(24), NONE), box(b"free", NONE))
