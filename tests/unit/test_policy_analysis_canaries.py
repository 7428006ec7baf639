"""Canaries: each is a request that the policy answers as it says; every sort is found where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.canaries import MOST_RULES, Canary, Nest, Sort, undated
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.big_policy import big_policy

POLICIES = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
PHOTO = Facts("image/jpeg", "none")


def _engine(text: bytes) -> Engine:
    return compile_policy(parse_policy([SourceText("policy.yaml", text)]))


def _canaries(engine: Engine, uid: int) -> list[Canary]:
    return Nest(engine).canaries(lambda one: one.principal(uid), PHOTO)


def _check(engine: Engine, uid: int, canary: Canary) -> None:
    state, who = engine.state_of(canary.path), engine.principal(uid)
    answer = engine.decide(who, Op.SEE | canary.op, state, FileType.REGULAR, PHOTO)
    assert answer.allowed == (canary.sort in {Sort.REDACTION, Sort.PASSTHROUGH})
    assert (answer.errno, answer.redact) == (canary.errno, canary.words)
    if canary.sort is Sort.HIDING:
        assert not engine.decide(who, Op.SEE, state, FileType.DIRECTORY, PHOTO).allowed
    if canary.sort is Sort.PASSTHROUGH:
        assert engine.view(who, state).raw


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_canaries_of_shipped_policies_are_answered_by_the_policy(path: Path) -> None:
    engine = _engine(path.read_bytes())
    sorts = set()
    for uid in (4242, *(app.uids[0][0] for app in engine.policy.apps if app.uids)):
        for canary in _canaries(engine, uid):
            _check(engine, uid, canary)
            sorts.add(canary.sort)
    assert {Sort.HIDING, Sort.PASSTHROUGH} <= sorts
    asks = any(rule.redact for rule in engine.policy.rules)
    assert (Sort.REDACTION in sorts) == asks


def test_of_a_large_policy_some_rules_are_walked_and_all_of_them_answer() -> None:
    engine = _engine(big_policy(MOST_RULES * 8))
    for uid in (4242, 20_000, 20_003):
        found = _canaries(engine, uid)
        assert found
        for canary in found:
            _check(engine, uid, canary)


def test_only_canaries_that_no_exception_changes_are_kept() -> None:
    one, other = (
        _engine(f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: {name}}}
apps: {{reader: {{uid: 1000}}}}
rules:
  - {{id: a, allow: [see], who: {{app: reader}}, paths: "/a/**"}}
  - {{id: b, allow: [see, read], who: {{app: reader}}, paths: ["/b/**"{more}]}}
""".encode())
        for name, more in (("with", ', "/a/**", "/c/**"'), ("without", ""))
    )  # fmt: skip
    found = _canaries(one, 1000)
    kept = undated(found, other, other.principal(1000), PHOTO)
    assert set(found) > set(kept)
    for canary in kept:
        _check(one, 1000, canary)
        _check(other, 1000, canary)
    assert undated(found, one, one.principal(1000), PHOTO) == found


def test_a_policy_without_rules_hides_everything() -> None:
    engine = _engine(b"apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: none}\nrules: []\n")
    assert {canary.sort for canary in _canaries(engine, 1000)} == {Sort.HIDING}
