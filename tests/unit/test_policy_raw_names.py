"""The decision on reading that holds for every name in a directory."""

from __future__ import annotations

from policyfs.domain import Audit
from policyfs.policy.decide import compile_policy
from policyfs.policy.raw_names import raw_names
from policyfs.policy.text.parse import SourceText, parse_policy

RULES = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: names}
apps: {one: {uid: 10041}}
defaults: {audit: best_effort}
rules:
  - {id: all, allow: [all], who: {app: one}}
"""


def found(rules: str, path: bytes = b"/d"):
    engine = compile_policy(parse_policy([SourceText("names.yaml", (RULES + rules).encode())]))
    return raw_names(engine, engine.app_principal("one", 10041), engine.state_of(path))


def test_one_rule_for_all_names_is_one_decision():
    names = found("")
    assert names is not None
    assert names.excepted == ()
    assert names.decision.audit is Audit.BEST_EFFORT


def test_a_name_with_another_decision_is_an_exception():
    names = found('  - {id: no, deny: [read], paths: ["/d/secret"]}\n')
    assert names is not None
    assert names.excepted == (b"secret",)


def test_there_is_none_where_patterns_facts_or_obligations_count():
    assert found('  - {id: no, deny: [read], paths: ["/d/*.jpg"]}\n') is None
    assert found('  - {id: no, deny: [read], when: {type: ["image/*"]}}\n') is None
    assert found("  - {id: no, deny: [read], when: {owner: self}}\n") is None
    assert found("  - {id: places, require: {redact: location}}\n") is None
    assert found("  - {id: told, allow: [read], audit: required}\n") is None
    assert found('  - {id: no, deny: [see], paths: ["/d/*"], mode: monitor}\n') is None
    assert found('  - {id: no, deny: [read], paths: ["/d/*.jpg"]}\n', b"/other") is not None
    assert found('  - {id: writes, deny: [write], paths: ["/d/*.jpg"]}\n') is not None
