"""Folding of repeated denials, without a journal around it."""

from __future__ import annotations

from policyfs.trail.fold import DenialFold
from tests.support.trail import SECOND_NS, START_NS, a_denial, an_event


def test_nothing_is_a_repeat_of_what_was_not_recorded() -> None:
    assert not DenialFold(SECOND_NS).absorb(a_denial())


def test_a_repeat_within_the_window_is_absorbed_and_collected_after_it() -> None:
    fold = DenialFold(SECOND_NS)
    fold.recorded(a_denial())
    assert fold.absorb(a_denial(time_ns=START_NS + 5))
    assert fold.collect(START_NS + SECOND_NS - 1) == []
    (folded,) = fold.collect(START_NS + SECOND_NS)
    assert (folded.repeats, folded.weight, folded.since_ns) == (1, 1, START_NS)
    assert fold.collect(START_NS + 2 * SECOND_NS) == []


def test_a_denial_without_repeats_leaves_nothing_to_collect() -> None:
    fold = DenialFold(SECOND_NS)
    fold.recorded(a_denial())
    assert fold.collect(START_NS, all_of_them=True) == []


def test_a_clock_that_steps_back_ends_the_window() -> None:
    fold = DenialFold(SECOND_NS)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial(time_ns=START_NS - 1))


def test_a_window_of_zero_folds_nothing() -> None:
    fold = DenialFold(0)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial())


def test_beyond_the_limit_denials_are_recorded_in_full() -> None:
    fold = DenialFold(SECOND_NS, limit=2)
    for name in (b"/a", b"/b", b"/c"):
        fold.recorded(a_denial(name))
    assert [fold.absorb(a_denial(name)) for name in (b"/a", b"/b", b"/c")] == [True, True, False]


def test_access_never_folds() -> None:
    fold = DenialFold(SECOND_NS)
    fold.recorded(an_event())
    assert not fold.absorb(an_event())


def test_events_under_two_policies_are_two_events() -> None:
    fold = DenialFold(SECOND_NS)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial(policy_digest="cd" * 32))
