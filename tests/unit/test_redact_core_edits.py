"""Collected changes: patches exactly where bytes differ, and a note for each removed thing."""

from __future__ import annotations

import re

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, Cleaned, Note, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource, apply
from tests.support.samples.inners import Plain


class Poor(Plain):
    """May search so many bytes."""

    def __init__(self, searched: int) -> None:
        super().__init__()
        self._budget = Budget(10, searched)


def edits_of(data: bytes, searched: int = 1 << 30) -> Edits:
    return Edits(MemorySource(data), Poor(searched), "BOX")


def test_what_is_put_is_patched_only_where_it_differs():
    edits = edits_of(b"head old tail")
    assert not edits.put(5, b"old", b"old")
    assert not edits.found.patches
    assert edits.put(5, b"old", b"odd")
    assert apply(b"head old tail", edits.found.patches) == b"head odd tail"
    assert [(patch.offset, patch.size) for patch in edits.found.patches] == [(6, 1)]
    assert not edits.found.notes


def test_zeroed_bytes_are_noted_once():
    edits = edits_of(b"head Zirbelstadt")
    edits.zero(5, 99, "City", Tells.LOCATION, broken=True)
    assert edits.found.notes == [Note(5, 11, "BOX", "City", Tells.LOCATION, True)]
    assert apply(b"head Zirbelstadt", edits.found.patches) == b"head " + bytes(11)


@pytest.mark.parametrize(("start", "end"), [(2, 6), (6, 6), (7, 3), (6, 40), (40, 50)])
def test_zeros_and_no_bytes_are_no_change(start, end):
    edits = edits_of(b"ab" + bytes(5))
    edits.zero(start, end, "padding")
    assert (edits.found.patches, edits.found.notes) == ([], [])


@pytest.mark.parametrize(
    ("behind", "broken", "goes"),
    [(b"abc", False, False), (b"abcd", False, True), (b"abc", True, True), (b"", True, False)],
)
def test_filler_behind_a_picture_stays_unless_it_is_broken(behind, broken, goes):
    edits = edits_of(b"picture" + behind)
    edits.trailer(7, 7 + len(behind) + 5, broken=broken)
    assert bool(edits.found.patches) == goes
    assert [note.broken for note in edits.found.notes] == [broken] * goes


def test_notes_of_a_block_get_the_offsets_of_the_file():
    edits = edits_of(b"....block")
    edits.block(4, b"block", Cleaned(b"bl\0ck", (Note(2, 1, "IFD", "o"),)))
    assert [(note.offset, note.tag) for note in edits.found.notes] == [(6, "o")]


def test_a_block_that_stays_is_not_noted():
    edits = edits_of(b"block")
    edits.block(0, b"block", Cleaned(b"block", (Note(2, 1, "IFD", "o"),)))
    assert not edits.found.notes


@pytest.mark.parametrize("at", [0, 7, CHUNK_BYTES - 4, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 90])
def test_a_match_is_found_wherever_it_lies(at):
    data = bytes(at) + b"mark" + bytes(100)
    assert edits_of(data).search(re.compile(b"mark"), 0, len(data), 4) == at
    assert edits_of(data).search(re.compile(b"mark"), at, len(data) + 9, 4) == at
    assert edits_of(data).search(re.compile(b"mark"), at + 1, len(data), 4) is None
    assert edits_of(data).search(re.compile(b"mark"), 0, at + 3, 4) is None


def test_a_search_is_paid_for():
    data = bytes(100)
    assert edits_of(data, 100).search(re.compile(b"x"), 0, 500, 1) is None
    assert edits_of(data, 0).search(re.compile(b"x"), 100, 50, 1) is None
    with pytest.raises(TooMuchError):
        edits_of(data, 99).search(re.compile(b"x"), 0, 100, 1)
