"""Texts of a policy and its tests with further rules. All other lines stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.policy.cases import outcome_of_texts
from policyfs.cli.policy.narrower import Narrower, with_refusals
from policyfs.domain import Op
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.learn.unused import Taking
from policyfs.policy.text.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"
APPS = "apps: {a: {uid: [1001, 1002]}, b: {}}\n"
RULES = 'rules:\n  - {id: r, allow: [all], who: {app: any}, paths: "/***"}'
TAKING = Taking("a", Op.DELETE | Op.CREATE, (("Films",),))
LAYOUTS = {
    "last": f"{HEAD}{APPS}{RULES}\n",
    "no-line-feed": f"{HEAD}{APPS}{RULES}",
    "comments-behind": f"{HEAD}{APPS}{RULES}\n    # of r\n\n# the end\n",
    "first": f"{RULES}\n\n# the apps\n{APPS}{HEAD}",
    "not-indented": f"{HEAD}{APPS}rules:\n- id: r\n  allow: [all]\n  who:\n    app: any\n",
    "far": f"{HEAD}{APPS}rules:\n      -   id: r\n          allow: [all]\n          who: {{app: any}}\n",
    "taken-id": f'{HEAD}{APPS}{RULES}\n  - {{id: tighten.a.1, deny: [write], paths: "/x"}}\n',
    "returns": f"{HEAD}{APPS}{RULES}\n".replace("\n", "\r\n"),
}


def narrower(text: str) -> tuple[Narrower, list[SourceText]]:
    policy = Narrower("home.yaml", [SourceText("home.yaml", text.encode())])
    return policy, policy.texts([TAKING], {"a": "why"})


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_rule_is_added_in_any_layout(name: str):
    text = LAYOUTS[name]
    policy, new = narrower(text)
    rules = {rule.id: rule for rule in policy.load(new, [TAKING]).policy.rules}
    assert rules["tighten.a.2" if name == "taken-id" else "tighten.a.1"].ops == TAKING.ops
    lines = iter(new[0].text.decode().split("\n"))
    assert all(line in lines for line in text.split("\n"))  # in their order
    assert "# why" in new[0].text.decode()


def test_a_rule_of_one_line_for_all_rules_is_refused():
    with pytest.raises(PolicyfsError, match="after a dash"):
        narrower(f"{HEAD}{APPS}rules: [{{id: r, allow: [all]}}]\n")


def test_lint_finds_nothing_in_a_rule_that_is_covered_now(tmp_path: Path):
    text = f'{HEAD}{APPS}rules:\n  - {{id: r, allow: [all], who: {{app: a}}, paths: "/Films/***"}}\n'
    policy, new = narrower(text)
    [silenced] = policy.silenced(new)
    assert silenced.text.decode().count("# lint: ignore covered-by-deny because") == 1
    policy.load([silenced], [TAKING])


TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  # the first
  - {id: first, app: b, operation: delete, path: /Films/a, expect: {decision: allow}}

  - id: mixed  # of two
    app: [a, b]
    operation:
      - read
      - delete
    path: [/Films/a, /Music/a]
    kind: video/mp4
    expect: {decision: allow}
  # by uid
  - {id: uids, uid: [1001, 1002], operation: [see, create], path: /Films/a, expect: {decision: allow}}
  # the end
"""


def test_only_requests_that_are_denied_now_are_expected_to_be():
    _, new = narrower(LAYOUTS["last"])
    engine, text = load_policy(new), SourceText("home.test.yaml", TESTS.encode())
    outcome = outcome_of_texts("home.yaml", engine.policy, [text])
    assert len(outcome.failed) == 3
    changed = with_refusals(text, outcome)
    after = outcome_of_texts("home.yaml", engine.policy, [changed])
    assert not after.failed
    assert len(after.results) == len(outcome.results)
    assert sum(one.case.doc.expect.decision == "deny" for one in after.results) == 3
    for kept in ("  # the first\n  - {id: first,", "\n\n  # policyfs tight", "  # by uid\n", "  # the end\n"):
        assert kept in changed.text.decode()


def test_tests_that_pass_are_not_touched():
    policy, new = narrower(LAYOUTS["last"])
    text = SourceText("home.test.yaml", TESTS.encode())
    outcome = outcome_of_texts("home.yaml", policy.engine.policy, [text])
    assert with_refusals(text, outcome) is text
    assert new != policy.sources
