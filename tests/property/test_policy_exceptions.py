"""Exceptions against the naive evaluator: the engine at any time, and `policy diff` over time."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import FileType, Op
from policyfs.policy.analysis.diff import Diff, diff
from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import PREFIX, in_force
from policyfs.policy.model import Effect, ExceptionRule, Policy
from tests.property.test_policy_diff import missing, naive, pairs
from tests.property.test_policy_engine import check, requests, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Node

ENDS = (10, 20, 30)
TIMES = (0, 9, 10, 15, 20, 29, 30, 31)


def _dated(policy: Policy, ends: dict[str, int]) -> Policy:
    """The policy with some of its allows as exceptions: which, and until when, by their ids."""
    chosen = [
        rule for rule in policy.rules if rule.id in ends and rule.effect is Effect.ALLOW and not rule.monitor
    ]
    dated = tuple(
        ExceptionRule(dataclasses.replace(rule, id=PREFIX + rule.id), ends[rule.id], "why", "who")
        for rule in chosen
    )
    rules = tuple(rule for rule in policy.rules if rule not in chosen)
    return dataclasses.replace(policy, rules=rules, exceptions=dated)


@st.composite
def ends_of(draw: st.DrawFn, policy: Policy) -> dict[str, int]:
    return {rule.id: draw(st.sampled_from(ENDS)) for rule in policy.rules if draw(st.booleans())}


def _by_hand(policy: Policy, at_ns: int) -> Policy:
    live = tuple(one.rule for one in policy.exceptions if one.until_ns > at_ns)
    return dataclasses.replace(policy, rules=policy.rules + live)


@share(0.05)
@given(st.data(), cases.policies(), st.sampled_from(TIMES), st.lists(requests, min_size=1, max_size=2))
def test_the_engine_decides_by_the_exceptions_of_its_time(data, policy, at_ns, asked):
    policy = _dated(policy, data.draw(ends_of(policy)))
    now = _by_hand(policy, at_ns)
    engine = compile_policy(in_force(policy, at_ns))
    for caller, ops, path, ftype, facts, owners in asked:
        node = Node(path, FileType.DIRECTORY if path == b"/" else ftype, facts, owners)
        check(now, engine, caller, ops, node, monitor=False)


@share(0.02)
@given(st.data(), pairs(), st.lists(requests, min_size=4, max_size=4))
def test_diff_misses_no_request_at_any_time(data, policies, asked):
    old, new = (_dated(policy, data.draw(ends_of(policy))) for policy in policies)
    found = diff(old, new, 0)
    for at_ns in TIMES:
        then = [_by_hand(policy, at_ns) for policy in (old, new)]
        blocks = tuple(
            block
            for block in found.blocks
            if (block.since_ns or 0) <= at_ns and (block.until_ns is None or at_ns < block.until_ns)
        )
        for caller, ops, path, ftype, facts, owners in asked:
            if caller.app is None or caller.uid in (7, 8, 9):
                continue  # callers of app mounts are the same in both policies
            node = Node(path, FileType.DIRECTORY if path == b"/" else ftype, facts, owners)
            callers = [Caller(caller.app, caller.uid)] * 2
            for op in Op(ops):
                args = (Diff(blocks, found.notes), *map(naive, then), callers, node, op)
                assert missing(*args) is None, (at_ns, found)
