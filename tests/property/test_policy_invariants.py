"""Invariants against the naive evaluator: a proof is one, and each counterexample breaks its invariant."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import FileType, Op
from policyfs.policy.analysis.invariants import breaches
from policyfs.policy.model import Effect, Invariant, Policy, Promise, Who
from tests.property.test_policy_diff import app_of, naive, share
from tests.property.test_policy_engine import CASES, PARTS, requests
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import NO, Caller, Node, rule_matches

pytestmark = pytest.mark.timeout(max(600, CASES // 10))


@st.composite
def invariants(draw: st.DrawFn, number: int) -> Invariant:
    promise = draw(st.sampled_from(Promise))
    who = draw(cases.whos())
    if promise is Promise.ONLY:
        who = Who(None, None, None, who or Who(frozenset({"a"}), None, None, None))
    more = {
        "ops": Op.READ if promise is Promise.NEVER_RAW else draw(cases.operations),
        "who": who,
        "monitor": True,
        "when": draw(st.one_of(st.none(), st.none(), cases.blocks())),
        "unless": tuple(draw(st.lists(cases.blocks(), max_size=1))),
    }
    rule = cases.plain(number, Effect.DENY, draw(st.one_of(cases.glob_lists, cases.narrow)), **more)
    words = frozenset({"location"}) if promise is Promise.NEVER_RAW else frozenset()
    return Invariant(f"i{number}", promise, rule, words, "", 1)


@st.composite
def promising(draw: st.DrawFn) -> Policy:
    policy = draw(cases.policies(max_rules=3))
    return dataclasses.replace(policy, invariants=(draw(invariants(0)), draw(invariants(1))))


def broken(policy: Policy, invariant: Invariant, caller: Caller, op: Op, node: Node) -> bool:
    """True if the request breaks the invariant by the text of the language."""
    if not invariant.rule.ops & op or rule_matches(invariant.rule, policy, caller, node) == NO:
        return False
    raw = invariant.promise is Promise.NEVER_RAW
    if raw and (node.ftype is not FileType.REGULAR or node.facts.kind == "inode/x-empty"):
        return False
    answer = naive(policy).decide(caller, Op.SEE | op, node)
    return answer.allowed and not (raw and "location" in answer.redact)


@pytest.mark.parametrize("part", range(PARTS))
@share(0.03 / PARTS)
@given(promising(), st.lists(requests, min_size=8, max_size=8))
def test_what_is_proved_holds(part, policy, asked):
    del part
    found = {breach.invariant.id for breach in breaches(policy)}
    proved = [one for one in policy.invariants if one.id not in found]
    for caller, ops, path, ftype, facts, owners in asked:
        if path == b"/":
            ftype = FileType.DIRECTORY
        if caller.app is None or caller.uid in (7, 8, 9):
            caller = Caller(app_of(policy, caller.uid), caller.uid)
        node = Node(path, ftype, facts, owners)
        for invariant in proved:
            for op in ops:
                assert not broken(policy, invariant, caller, op, node)


@share(0.03)
@given(promising())
def test_every_counterexample_is_one(policy):
    for invariant, request, decision in breaches(policy):
        assert decision.allowed
        caller = Caller(request.subject.apps[0], request.subject.uid)
        node = Node(request.path, request.ftype, request.facts, request.owners)
        assert broken(policy, invariant, caller, request.op, node)
