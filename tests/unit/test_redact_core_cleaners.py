"""Work allowed on one file: the last unit is allowed, one more is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyfs.domain import Patch
from policyfs.redact.core.cleaners import (
    MAX_PARTS,
    MAX_SEARCHED_BYTES,
    SEARCH_FLOOR_BYTES,
    Budget,
    Found,
    Note,
    TooMuchError,
    budget_for,
    shifted,
)
from policyfs.redact.core.patches import MemorySource

COUNTERS: dict[str, Callable[[Budget, int], None]] = {
    "parts": Budget.part,
    "searched": Budget.search,
    "extents": Budget.extent,
    "inflated": Budget.inflate,
}


@pytest.mark.parametrize("name", COUNTERS)
def test_all_of_a_budget_may_be_used_and_no_more(name):
    spend = COUNTERS[name]
    budget = Budget(100, 100, 100, 100, 100)
    spend(budget, 60)
    spend(budget, 40)
    assert {getattr(budget, other) for other in COUNTERS if other != name} == {100}
    spend(budget, 0)
    with pytest.raises(TooMuchError):
        spend(budget, 1)


def test_a_part_is_one():
    budget = Budget(1, 0)
    budget.part()
    with pytest.raises(TooMuchError):
        budget.part()


def test_text_beyond_the_budget_is_not_looked_into_and_costs_nothing():
    budget = Budget(0, 0, texts=10)
    assert budget.look(6)
    assert not budget.look(5)
    assert budget.look(4)
    assert not budget.look(1)
    assert budget.look(0)


@pytest.mark.parametrize(("chunk", "cost", "searched"), [(bytes(10), 20, False), (b"\0\1" * 5, 10, True)])
def test_zeros_cost_twice_and_are_not_searched(chunk, cost, searched):
    budget = Budget(0, cost)
    assert budget.search_chunk(chunk) is searched
    assert budget.searched == 0
    with pytest.raises(TooMuchError):
        Budget(0, cost - 1).search_chunk(chunk)


class Claimed(MemorySource):
    """A file that claims to be a terabyte."""

    @property
    def size(self) -> int:
        return 1 << 40


def test_a_budget_grows_with_the_file_up_to_a_bound():
    small = budget_for(MemorySource(b""))
    assert (small.parts, small.searched, small.extents) == (MAX_PARTS, *2 * [SEARCH_FLOOR_BYTES])
    some = budget_for(MemorySource(bytes(1000)))
    assert some.searched == SEARCH_FLOOR_BYTES + 4000
    assert some.extents == SEARCH_FLOOR_BYTES + 2000
    assert budget_for(Claimed(b"")).searched == MAX_SEARCHED_BYTES


def test_changes_of_an_embedded_file_move_with_it():
    inner = Found([Patch(3, b"x"), Patch(9, zeros=2)], [Note(3, 1, "IFD", "a", broken=True)])
    outer = Found([Patch(1, b"y")], [Note(0, 1, "JPEG", "b")])
    outer.add(inner, 100)
    assert [(patch.offset, patch.end) for patch in outer.patches] == [(1, 2), (103, 104), (109, 111)]
    assert [(note.offset, note.tag, note.broken) for note in outer.notes] == [
        (0, "b", False),
        (103, "a", True),
    ]
    assert inner.patches[0].offset == 3


def test_shifted_notes_keep_all_but_their_offset():
    note = Note(5, 2, "IFD", "Make", broken=True, bare=True)
    assert shifted([note], 7) == (note._replace(offset=12),)
    assert shifted([], 7) == ()
