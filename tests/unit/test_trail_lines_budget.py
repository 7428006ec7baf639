"""Budgets in bytes a second: filled by time, overdrawn and paid back."""

from __future__ import annotations

import pytest

from policyfs.trail.lines.budget import Budget

SECOND = 1_000_000_000


def test_all_may_be_spent_at_once_after_a_silence():
    budget = Budget(rate=10, burst=100, now_ns=0)
    assert budget.left(0) == 100
    assert budget.is_full(0)
    assert budget.spend(100, 0) == 0
    assert budget.left(0) == 0
    assert not budget.is_full(0)


@pytest.mark.parametrize(
    ("after", "left"), [(0, 0), (SECOND // 2, 5), (SECOND, 10), (10 * SECOND, 100), (99 * SECOND, 100)]
)
def test_it_fills_with_time_and_never_over_its_burst(after, left):
    budget = Budget(10, 100, 7)
    budget.spend(100, 7)
    assert budget.left(7 + after) == left
    assert budget.is_full(7 + after) == (left == 100)


def test_what_is_overdrawn_is_paid_back_first():
    budget = Budget(10, 100, 0)
    assert budget.spend(130, 0) == 3
    assert budget.left(SECOND) == -20
    assert budget.spend(5, SECOND) == 2.5
    assert budget.left(int(3.5 * SECOND)) == 0


def test_a_clock_that_stands_or_goes_back_adds_nothing():
    budget = Budget(10, 100, 5 * SECOND)
    budget.spend(50, 5 * SECOND)
    assert budget.left(5 * SECOND) == 50
    assert budget.left(0) == 50
    assert budget.left(6 * SECOND) == 60


def test_often_asked_it_is_no_richer():
    budget = Budget(10, 100, 0)
    budget.spend(100, 0)
    for at in range(0, SECOND + 1, SECOND // 100):
        budget.left(at)
    assert budget.left(SECOND) == pytest.approx(10)
