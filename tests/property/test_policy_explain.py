"""`policy explain` against the naive evaluator: the answer, and the verdict on each rule."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.cli.main import main
from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.explain.explain import REQUESTS, explain
from policyfs.policy.model import Effect
from tests.property.test_policy_engine import CASES, EVERYONE, PARTS, chain, naive, principal, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import NO, UNKNOWN, YES, Caller, Node, rule_matches
from tests.support.models.policy_text import text_of

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


@share(0.02)
@given(
    st.one_of(cases.policies(), cases.bare_policies()),
    cases.some_paths,
    st.booleans(),
    st.sampled_from([None, *cases.KINDS]),
)
def test_who_could_says_what_the_text_does(policy, path, directory, kind):
    """The owner of a file that is there is unknown, and a new one is its creator's, as in the command."""
    ftype = FileType.DIRECTORY if directory or path == b"/" else FileType.REGULAR
    name = path.decode("utf-8", "surrogateescape")
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file, contextlib.ExitStack() as stack:
        out = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # conditions without content: errors
        file.write(text_of(policy).encode())
        file.flush()
        words = ["--directory"] if ftype is FileType.DIRECTORY else ["--kind", kind] if kind else []
        main(["audit", "who-could", "--json", "--policy", file.name, *words, name])
    said = (rule for rule in policy.rules if rule.effect is not Effect.CONTENT)
    rules = tuple(dataclasses.replace(rule, raw_types=rule.raw_types - {"image/*"}) for rule in said)
    bare = dataclasses.replace(policy, rules=rules)  # what text_of says
    engine = compile_policy(bare)
    if engine.owner_matters_above(engine.state_of(path)):
        return  # the command does not know the owners of the directories above
    for row in map(json.loads, out.getvalue().splitlines()):
        app = None if row["app"] == "stranger" else row["app"]
        uid = next((one.uids[0][0] for one in policy.apps if one.name == app), 65533)
        for op in Op:
            facts = Facts(None, app or OWNER_NONE) if op is Op.CREATE else Facts(kind, None)
            ops = op | Op.WRITE if op is Op.CREATE and ftype is FileType.REGULAR else op
            want = naive(bare).decide(Caller(app, uid), Op.SEE | ops, Node(path, ftype, facts))
            answer = "no" if not want.allowed else "redacted" if want.redact and op is Op.READ else "yes"
            assert row[(op.name or "").lower()] == answer, (row, op)
