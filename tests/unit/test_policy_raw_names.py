"""The decision on reading that holds for every name in a directory."""

from __future__ import annotations

import pytest

from policyfs.domain import Audit
from policyfs.policy.decide import compile_policy
from policyfs.policy.raw_names import Changes, raw_names
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


def changes(rules: str) -> Changes | None:
    names = found(rules)
    assert names is not None
    return names.changes


def test_changes_have_one_decision_each_for_all_names():
    allowed = changes("")
    assert allowed is not None
    for decision in allowed:
        assert decision is not None
        assert decision.allowed
        assert decision.audit is Audit.BEST_EFFORT
    assert changes('  - {id: elsewhere, deny: [create], paths: ["/d/*/x"]}\n') == allowed


def test_a_name_whose_changes_have_another_decision_is_an_exception():
    names = found('  - {id: no, deny: [delete], paths: ["/d/kept"]}\n')
    assert names is not None
    assert (names.changes is None, names.excepted) == (False, (b"kept",))


def test_files_that_a_limit_counts_are_made_but_not_changed_by_it():
    made = changes("")
    limit = "{changes: 5, within: 10m}"
    limited = changes(f"  - {{id: brake, limit: {limit}, who: {{app: one}}}}\n")
    assert limited == made._replace(removed=None, moved=None, written=None)
    assert changes(f"  - {{id: brake, limit: {limit}, who: {{app: stranger}}}}\n") == made
    assert changes(f'  - {{id: brake, limit: {limit}, paths: "/d/*.jpg"}}\n') is None


@pytest.mark.parametrize("rule", [
    'deny: [create], paths: ["/d/*.jpg"]',
    'deny: [delete], paths: ["/d/*.jpg"]',
    'deny: [attr], paths: ["/d/*.jpg"]',
    "deny: [write]",
    "deny: [delete], when: {owner: none}",
    "deny: [attr], when: {owner: none}",
    "allow: [delete], audit: required",
    "allow: [create], audit: off",
    "deny: [create], mode: monitor",
])  # fmt: skip
def test_there_are_none_where_a_name_a_fact_or_a_record_counts(rule: str):
    assert changes(f"  - {{id: one, {rule}}}\n") is None


@pytest.mark.parametrize(("rule", "is_one"), [
    ('allow: [see, read], paths: ["/d/*.jpg"]', True),  # the caller could also copy
    ('require: {content: ["image/*"]}, paths: ["/d/*.jpg"]', False),
    ('require: {content: ["image/*"]}, paths: ["/d/one"]', False),
    ('require: {content: ["image/*"]}, paths: ["/other/*"]', True),
])  # fmt: skip
def test_renames_have_one_decision_where_no_name_asks_for_more(rule: str, is_one: bool):
    theirs = "  - {id: theirs, allow: [all], who: {app: stranger}}\n"
    found = changes(f"{theirs}  - {{id: strangers, who: {{app: stranger}}, {rule}}}\n")
    assert found is not None
    assert (found.moved is not None) == is_one


def test_who_is_no_app_owns_no_file_and_makes_none_by_it():
    engine = compile_policy(parse_policy([SourceText("names.yaml", b"\n".join([
        RULES.replace(", who: {app: one}", "").encode()
    ]))]))  # fmt: skip
    names = raw_names(engine, engine.principal(4), engine.state_of(b"/d"))
    assert names is not None
    assert names.changes is None
