"""Comparisons under all facts at once give the same answers as under one sort of facts after the other."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Audit, FileType, Op
from policyfs.policy.decide import REMEMBERED
from policyfs.policy.moves.comparison import Comparison
from policyfs.policy.rules.fact_sets import FactSpace
from policyfs.policy.rules.facts import FILE_TYPES, fixed_facts, sample_facts
from policyfs.policy.rules.profile import Profile, Profiles
from policyfs.policy.rules.rights_map import RightsMap, RightsTally, asks_more, differs, gains
from policyfs.policy.rules.sample_callers import callers_at
from policyfs.policy.rules.states import Paths, PathState
from policyfs.policy.rules.table import Live, Table, sample_facts_of, told_apart
from policyfs.policy.rules.visibility import Sight
from tests.property.test_policy_engine import share
from tests.support.models import policy_cases as cases
from tests.support.models.rights import Rights, rights_of

some_policies = st.one_of(cases.moving_policies(), cases.losing_policies(), cases.policies())
some_paths = st.lists(cases.move_paths, min_size=2, max_size=4)


class Parts:
    """The parts of one engine on which comparisons rest."""

    def __init__(self, policy) -> None:
        self.table = Table(policy, REMEMBERED)
        self.paths = Paths(self.table, REMEMBERED)
        self.sight = Sight(self.table, REMEMBERED)
        self.profiles = Profiles(self.table, REMEMBERED, dry_run=False)

    def compared(self, worse) -> Comparison:
        return Comparison(self.table, self.sight, self.profiles, worse)

    def rights(self, state: PathState, caller, ftype: FileType, facts) -> Rights:
        profile = self.profiles.of(state, caller)
        return rights_of(profile, ftype, facts, lambda: self.sight.below(state.position, caller))


def told(rights: RightsMap, bit: int) -> Rights:
    """The rights under the facts of one bit."""

    def code(codes: dict[int, int]) -> int:
        return next((code for code, some in codes.items() if some & bit), 0)

    def level(levels: tuple[int, ...]) -> Audit | None:
        return max((level for level, some in zip(Audit, levels, strict=True) if some & bit), default=None)

    return Rights(
        sum(int(op) for op, some in zip(Op.ALL, rights.allowed, strict=True) if some & bit),
        bool(rights.bare & bit),
        frozenset(word for word, some in rights.redact.items() if some & bit),
        frozenset(content for content, some in rights.content.items() if some & bit),
        tuple(map(code, rights.refused)),
        tuple(map(level, rights.audits)),
    )


def check(profile: Profile, others: tuple[Live, ...], ftype: FileType, *, below: bool) -> None:
    kinds, owners = told_apart((*profile.lives, *others))
    rights = RightsTally(profile, FactSpace(kinds, owners, ftype)).rights(below=below)
    samples = sample_facts(kinds, owners, ftype, unknown=True)
    for number, facts in enumerate(samples):
        want = rights_of(profile, ftype, fixed_facts(ftype, facts), lambda: below)
        assert told(rights, 1 << number) == want
    outside = told(rights, 1 << len(samples))
    assert outside == Rights(0, False, frozenset(), frozenset(), (0,) * len(Op.ALL), (None,) * len(Op.ALL))


@share(0.05)
@given(some_policies, some_paths, st.sampled_from(FILE_TYPES), st.booleans())
def test_each_right_holds_under_the_facts_under_which_it_holds(policy, paths, ftype, below):
    parts = Parts(policy)
    states = [parts.paths.root, *map(parts.paths.state_of, paths)]
    for caller in callers_at(parts.table, states):
        profiles = [parts.profiles.of(state, caller) for state in states]
        for profile in profiles:
            check(profile, profiles[-1].lives, ftype, below=below)


def gains_of(before: Rights, after: Rights) -> bool:
    if after.allowed & ~before.allowed or after.content != before.content:
        return True
    return bool(after.allowed & Op.READ and before.redact - after.redact)


WORSE: list[tuple[Callable[[RightsMap, RightsMap], bool], Callable[[Rights, Rights], bool]]] = [
    (gains, gains_of),
    (asks_more, lambda before, after: not after.content <= before.content),
    (differs, lambda before, after: before != after),
]


def one_by_one(parts: Parts, old: PathState, new: PathState, ftype: FileType, worse) -> bool:
    """Try one sort of facts after the other."""
    for caller in callers_at(parts.table, (old, new)):
        lives = [live for state in (old, new) for live in parts.profiles.of(state, caller).lives]
        for facts in sample_facts_of(lives, ftype, unknown=True):
            if worse(*(parts.rights(state, caller, ftype, facts) for state in (old, new))):
                return True
    return False


@share(0.1)
@given(some_policies, some_paths, st.sampled_from(WORSE))
def test_paths_compare_as_under_one_sort_of_facts_after_the_other(policy, paths, worse):
    parts = Parts(policy)
    compared = parts.compared(worse[0])
    states = [parts.paths.root, *map(parts.paths.state_of, paths)]
    for old in states:
        for new in states:
            for ftype in FILE_TYPES:
                want = old is not new and one_by_one(parts, old, new, ftype, worse[1])
                assert compared.is_worse(old, new, ftype) == want


@share(0.05)
@given(some_policies, some_paths, st.integers(0, 3))
def test_files_are_deleted_as_under_one_sort_of_facts_after_the_other(policy, paths, number):
    parts = Parts(policy)
    compared = parts.compared(differs)
    states = [parts.paths.root, *map(parts.paths.state_of, paths)]
    callers = callers_at(parts.table, states)
    caller = callers[number % len(callers)]
    for state in states:
        for ftype in FILE_TYPES:
            some_facts = sample_facts_of(parts.profiles.of(state, caller).lives, ftype, unknown=True)
            want = all(parts.rights(state, caller, ftype, one).allowed & Op.DELETE for one in some_facts)
            assert compared.always_deletes(state, caller, ftype) == want
