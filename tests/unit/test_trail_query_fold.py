"""Folding of repeated denials, without a journal around it."""

from __future__ import annotations

import pytest

from policyfs.trail.lines.event import BY_APP, BY_DIRECTORY, BY_OPERATION, BY_RULE
from policyfs.trail.query.fold import (
    DIRECTORIES,
    FOLD_BYTES,
    OPERATIONS,
    RULE_BYTES,
    RULES,
    RUNS,
    UIDS,
    AppFold,
)
from tests.support.mount.trail import SECOND_NS, START_NS, a_denial, an_event


def test_nothing_is_a_repeat_of_what_was_not_recorded() -> None:
    assert not AppFold(SECOND_NS).absorb(a_denial())


def test_a_repeat_within_the_window_is_absorbed_and_collected_after_it() -> None:
    fold = AppFold(SECOND_NS)
    fold.recorded(a_denial())
    assert fold.absorb(a_denial(time_ns=START_NS + 5))
    assert fold.collect(START_NS + SECOND_NS - 1) == []
    (folded,) = fold.collect(START_NS + SECOND_NS)
    assert (folded.repeats, folded.weight, folded.since_ns) == (1, 1, START_NS)
    assert fold.collect(START_NS + 2 * SECOND_NS) == []


def test_a_denial_without_repeats_leaves_nothing_to_collect() -> None:
    fold = AppFold(SECOND_NS)
    fold.recorded(a_denial())
    assert fold.collect(START_NS, all_of_them=True) == []


def test_a_clock_that_steps_back_ends_the_window() -> None:
    fold = AppFold(SECOND_NS)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial(time_ns=START_NS - 1))


def test_a_window_of_zero_folds_nothing() -> None:
    fold = AppFold(0)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial())


def test_beyond_the_limit_denials_are_recorded_in_full() -> None:
    fold = AppFold(SECOND_NS)
    names = [b"/%d" % number for number in range(RUNS + 1)]
    for name in names:
        fold.recorded(a_denial(name))
    assert [fold.absorb(a_denial(name)) for name in names] == [True] * RUNS + [False]


def test_what_is_counted_together_says_how_far_it_agrees() -> None:
    fold = AppFold(SECOND_NS)
    for number in range(10):
        fold.count(a_denial(b"/a/%d" % number, time_ns=START_NS + number, pid=number))
    fold.count(an_event(b"/a/b/c", bytes_read=7))
    fold.count(an_event(b"/a/b/d", bytes_read=5))
    assert fold.collect(START_NS + SECOND_NS - 1) == []
    denied, read = fold.collect(START_NS + SECOND_NS)
    assert (denied.path, denied.folded, denied.repeats, denied.pid) == (b"/a", BY_DIRECTORY, 10, 0)
    assert (denied.since_ns, denied.time_ns, denied.rules) == (START_NS, START_NS + 9, ("no-private",))
    assert (read.path, read.repeats, read.bytes_read, read.exe) == (b"/a/b", 2, 12, "")


def test_counts_are_exact_and_bounded_whatever_comes() -> None:
    """Names, directories, operations and uids that are always new: nothing is lost, little is kept."""
    fold = AppFold(SECOND_NS)
    for number in range(3000):
        path = b"/" + b"\xff" * 250 + b"/%d/x" % number
        rules = (f"rule {number % 200}",) if number % 2 else ()
        event = a_denial(path, operation=f"operation {number % 100}", uid=number % 50)
        fold.count(event._replace(rules=rules))
    assert fold.bytes <= FOLD_BYTES + RULE_BYTES
    told = fold.collect(START_NS, all_of_them=True)
    assert sum(event.repeats for event in told) == 3000
    assert len(told) <= DIRECTORIES + OPERATIONS + RULES + UIDS + 1
    assert {event.folded for event in told} == {BY_DIRECTORY, BY_OPERATION, BY_RULE, BY_APP}
    assert (fold.bytes, len(fold)) == (0, 0)


def test_no_rule_is_hidden_behind_other_denials() -> None:
    """An app fills its directories, operations, uids and memory, and then tries the guarded path."""
    fold = AppFold(SECOND_NS)
    for number in range(3000):
        path = b"/" + b"\xff" * 250 + b"/%d/x" % number
        fold.count(a_denial(path, operation=f"operation {number % 100}", uid=number % 50))
    for number in range(20):
        fold.count(a_denial(b"/private/%d" % number, uid=number)._replace(rules=("guard",)))
    told = fold.collect(START_NS, all_of_them=True)
    assert sum(event.repeats for event in told if event.rules == ("guard",)) == 20
    assert sum(event.repeats for event in told) == 3020


def test_a_stranger_keeps_its_uid_in_counts_by_rules() -> None:
    """Each stranger is one uid, and alerts on denials tell strangers apart by it."""
    fold = AppFold(SECOND_NS)
    for number in range(OPERATIONS + 10):
        event = a_denial(b"/%d/x" % number, operation=f"operation {number}", app="stranger", uid=1234)
        fold.count(event, by_directory=False)
    told = [event for event in fold.collect(START_NS, all_of_them=True) if event.folded == BY_RULE]
    assert [event.uid for event in told] == [1234]


def test_access_never_folds() -> None:
    fold = AppFold(SECOND_NS)
    fold.recorded(an_event())
    assert not fold.absorb(an_event())


def test_events_under_two_policies_are_two_events() -> None:
    fold = AppFold(SECOND_NS)
    fold.recorded(a_denial())
    assert not fold.absorb(a_denial(policy_digest="cd" * 32))


@pytest.mark.parametrize("field", [{"gid": 7}, {"policy_digest": "cd" * 32}])
@pytest.mark.parametrize("directories", [True, False])
def test_no_count_names_a_group_or_a_policy_for_events_of_another(
    field: dict[str, object], directories: bool
) -> None:
    fold = AppFold(SECOND_NS)
    events = [an_event(), an_event(**field)]
    for event in events:
        fold.count(event, by_directory=directories)
    told = fold.collect(START_NS, all_of_them=True)
    assert {(one.gid, one.policy_digest) for one in told} == {(one.gid, one.policy_digest) for one in events}


@pytest.mark.parametrize("field", [{"kind": "image/png"}, {"note": "holds data about location"}])
def test_a_denial_for_another_reason_is_no_repeat(field: dict[str, object]) -> None:
    fold = AppFold(SECOND_NS)
    first = a_denial(kind="image/jpeg", note="not understood")
    fold.recorded(first)
    assert fold.absorb(first)
    assert not fold.absorb(first._replace(**field))
