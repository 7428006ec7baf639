"""The advice how a rule would spare a caller: it is carried out, and the policy is asked again."""

from __future__ import annotations

import re

import pytest

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.explain.exemption import exemption
from policyfs.policy.text.parse import SourceText, parse_policy

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: advice}}
apps:
  family: {{uid: 10011, grants: [{grants}]}}
  other: {{uid: 10012, grants: [manage]}}
rules:
  - {{id: all, allow: [all], who: {{app: [any, stranger]}}}}
{deny}"""
STRANGER = 4000
WHOS = {
    None: "write who: {not: {app: family}}",
    "{app: any}": "write who: {app: any, not: {app: family}}",
    "{app: [any, family]}": "write who: {app: [any, family], not: {app: family}}",
    "{app: family}": "remove the rule",
    "{app: [other, family]}": "write who: {app: other}",
    "{uid: [4000, '10000-10099']}": 'write who: {uid: [4000, "10000-10099"], not: {app: family}}',
    "{not: {app: other}}": "write who: {not: {app: [family, other]}}",
    "{app: any, not: {app: other}}": "write who: {app: any, not: {app: [family, other]}}",
    "{not: {grant: manage}}": "give the app family the grant manage",
    "{not: {uid: 10012}}": "make two rules of it, each with one of the keys of its not",
}


def engine(who: str | None, grants: str = "") -> Engine:
    conditions = "" if who is None else f", who: {who}"
    deny = "" if who == "" else f"  - {{id: no, deny: [read], paths: '/a/**'{conditions}}}\n"
    text = POLICY.format(deny=deny, grants=grants)
    return compile_policy(parse_policy([SourceText("advice.yaml", text.encode())]))


def may_read(found: Engine, uid: int) -> bool:
    state = found.step(found.step(found.root, b"a"), b"b")
    who = found.principal(uid)
    return found.decide(who, Op.SEE | Op.READ, state, FileType.REGULAR, NO_FACTS).allowed


def follow(who: str | None, advice: str) -> Engine:
    """The policy after the change that the advice asks for."""
    if advice == "remove the rule":
        return engine("")
    if (given := re.fullmatch(r"give the app family the grant ([a-z.]+)", advice)) is not None:
        return engine(who, given[1])
    (written,) = re.fullmatch(r"write who: (.*)", advice).groups()
    return engine(written)


@pytest.mark.parametrize(("who", "advice"), WHOS.items())
def test_who_follows_the_advice_lets_the_app_in(who: str | None, advice: str) -> None:
    before = engine(who)
    rule = next(rule for rule in before.policy.rules if rule.id == "no")
    assert exemption(rule, "family", 10011) == advice
    if "two rules" in advice:
        return
    after = follow(who, advice)
    assert may_read(after, 10011)
    assert may_read(after, 10012) == may_read(before, 10012), "nobody else's rights change"
    if advice != "remove the rule":
        assert may_read(after, STRANGER) == may_read(before, STRANGER)


@pytest.mark.parametrize(
    ("who", "advice"),
    [
        (None, "write who: {not: {uid: 4000}}"),
        ("{app: [any, stranger]}", "write who: {app: [any, stranger], not: {uid: 4000}}"),
        ("{not: {uid: 10012}}", "write who: {not: {uid: [10012, 4000]}}"),
    ],
)
def test_a_stranger_is_spared_by_the_uid(who: str | None, advice: str) -> None:
    before = engine(who)
    rule = next(rule for rule in before.policy.rules if rule.id == "no")
    assert not may_read(before, STRANGER)
    assert exemption(rule, None, STRANGER) == advice
    after = follow(who, advice)
    assert may_read(after, STRANGER)
    assert may_read(after, 10011) == may_read(before, 10011)
