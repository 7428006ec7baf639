"""Findings of lint that are proofs, against the naive evaluator."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import FileType, Op
from policyfs.policy.analysis.sides import Compiled
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.decide import compile_policy
from policyfs.policy.lint.places import Places
from policyfs.policy.lint.reach import reach
from policyfs.policy.lint.writers import Writers
from policyfs.policy.model import Effect
from tests.property.test_policy_diff import app_of, naive, share
from tests.property.test_policy_engine import CASES, requests
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import YES, Caller, Node, rule_matches

pytestmark = pytest.mark.timeout(max(600, CASES // 10))


@share(0.04)
@given(cases.policies(), st.lists(requests, min_size=10, max_size=10))
def test_rules_that_never_match_or_give_nothing_never_do(policy, asked):
    compiled = Compiled(compile_policy(policy))
    found: dict[str, str] = {one.subject[5:]: one.id for one in reach(Places(compiled), groups([compiled]))}
    for caller, _, path, ftype, facts, owners in asked:
        if path == b"/":
            ftype = FileType.DIRECTORY
        if caller.app is None or caller.uid in (7, 8, 9):
            caller = Caller(app_of(policy, caller.uid), caller.uid)
        node = Node(path, ftype, facts, owners)
        for rule in policy.rules:
            if rule.id not in found or rule_matches(rule, policy, caller, node) != YES:
                continue
            assert found[rule.id] != "never-matches"
            assert rule.effect is Effect.ALLOW


@share(0.04)
@given(st.one_of(cases.policies(), cases.bare_policies()), st.lists(requests, min_size=10, max_size=10))
def test_an_allow_that_works_somewhere_is_not_found(policy, asked):
    compiled = Compiled(compile_policy(policy))
    whole = {
        one.subject[5:]
        for one in reach(Places(compiled), groups([compiled]))
        if "this allow never takes effect" in one.message
    }
    text = naive(policy)
    for caller, _, path, ftype, facts, owners in asked:
        if path == b"/" or caller.app is None or caller.uid in (7, 8, 9):
            continue
        node = Node(path, ftype, facts, owners)
        for rule in policy.rules:
            if rule.id in whole and rule_matches(rule, policy, caller, node) == YES:
                for op in Op:
                    if rule.ops & op and text.decide(caller, Op.SEE | op, node).allowed:
                        assert ftype is FileType.DIRECTORY  # no request reads or writes one
                        assert op & (Op.READ | Op.WRITE)


@share(0.04)
@given(cases.policies(), st.lists(requests, min_size=10, max_size=10))
def test_what_is_called_unseen_is_seen_by_nobody(policy, asked):
    compiled = Compiled(compile_policy(policy))
    places, callers = Places(compiled), groups([compiled])
    found: dict[str, list[str]] = {}
    for one in (*reach(places, callers), *Writers(places, callers).findings()):
        if one.id == "unseen":
            found.setdefault(one.subject[5:], []).append(one.message)
    text = naive(policy)
    for rule in policy.rules:
        for told in found.get(rule.id, ()):
            named = re.match(r"the rule has no effect at (/.*): none of its callers sees this path", told)
            for caller, _, path, ftype, facts, owners in asked:
                if caller.app is None or caller.uid in (7, 8, 9):
                    caller = Caller(app_of(policy, caller.uid), caller.uid)
                path = path if named is None else named[1].encode()
                node = Node(path, FileType.REGULAR if named else ftype, facts, owners)
                if path == b"/" or rule_matches(rule, policy, caller, node) != YES:
                    continue
                ops = [op for op in Op if rule.ops & op and (named or (op.name or "").lower() in told)]
                assert not any(text.decide(caller, Op.SEE | op, node).allowed for op in ops), told
