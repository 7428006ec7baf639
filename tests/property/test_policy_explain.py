"""`policy explain` against the naive evaluator: the answer, and the verdict on each rule."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.explain import REQUESTS, explain
from policyfs.policy.model import Effect
from tests.property.test_policy_engine import CASES, EVERYONE, PARTS, chain, naive, principal, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import NO, UNKNOWN, YES, Naive, Node, rule_matches

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

VERDICTS = {YES: "matches", UNKNOWN: "may match", NO: "no"}


@pytest.mark.parametrize("part", range(PARTS))
@share(0.1 / PARTS)
@given(
    st.one_of(cases.policies(), cases.bare_policies()),
    st.sampled_from(EVERYONE),
    st.sampled_from(sorted(REQUESTS)),
    cases.some_paths,
    cases.file_types,
    cases.facts,
)
def test_an_explanation_says_what_the_text_does(part, policy, caller, request, path, ftype, facts):
    del part  # each is another choice of cases
    ftype = FileType.DIRECTORY if path == b"/" else ftype
    engine, text, node = compile_policy(policy), naive(policy), Node(path, ftype, facts)
    who = principal(engine, caller)
    said = explain(engine, who, request, path, ftype, facts)
    if engine.hidden_above(who, chain(engine, node)) is not None or text.hiding_above(caller, node):
        assert said.hidden_by or engine.owner_matters_above(engine.state_of(path))
        return
    ops = REQUESTS[request]
    want, got = text.decide(caller, ops, node), said.decision
    if (got.allowed, got.errno) != (want.allowed, want.errno) and ftype is FileType.DIRECTORY:
        # a way down may be longer than what was tried, and go through other names
        names = [*dict.fromkeys([*cases.NAMES, *cases.names_in(policy, caller.app, caller.uid)])]
        want = Naive(policy, names, cases.KINDS, 3).decide(caller, ops, node)
    assert (got.allowed, got.errno, got.redact) == (want.allowed, want.errno, want.redact)
    assert (frozenset(got.content), got.quarantine) == (want.content, want.quarantine)
    lines = {line.rule: line.verdict for line in said.lines}
    assert lines.keys() == {rule.id for rule in policy.rules}
    assert {rule for rule, verdict in lines.items() if verdict != "no"} >= {rule for rule, _ in want.matched}
    for rule in policy.rules:
        if lines[rule.id] != "no":
            assert lines[rule.id] == VERDICTS[rule_matches(rule, policy, caller, node)]
    if not got.allowed and (got.errno, got.allowed) == (want.errno, want.allowed):
        seen = text.seen(caller, node)
        asked = [op for op in Op if op in ops and op is not Op.SEE] if seen else [Op.SEE]
        denies = {rule.id for op in asked for rule in text.enforced(caller, op, node, Effect.DENY)}
        lacking = [op for op in asked if not text.enforced(caller, op, node, Effect.ALLOW)]
        if denies:
            assert {rule.id for rule in policy.rules if re.search(rf"\b{rule.id}\b", said.cause)} >= denies
            assert re.match(r"rules? .* den(y|ies) the request", said.cause)
        elif seen:
            words = " or ".join(str(op.name).lower() for op in lacking)
            assert said.cause.startswith(f"no rule allows {words}")
        else:
            assert said.cause.startswith("no rule allows the caller to see the path")
    if said.nearest is not None:
        assert not want.allowed
        assert said.nearest.effect == "allow"
