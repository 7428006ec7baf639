"""The outcome of tests as text, JSON and XML."""

from __future__ import annotations

from policyfs.policy.cases.document import parse_cases
from policyfs.policy.cases.report import Outcome
from policyfs.policy.cases.run import run
from policyfs.policy.text.parse import SourceText
from tests.support.models.policies import FAMILY, engine_of

TEXT = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  - {id: places, app: maps, operation: read, path: /DCIM/a.jpg, expect: {decision: allow}}
  - {id: closed, app: [maps, backup], operation: read, path: "/DCIM/<b>", expect: {decision: deny}}
"""


def outcome() -> Outcome:
    engine = engine_of(FAMILY)
    rules = frozenset(rule.id for rule in engine.policy.rules)
    cases = parse_cases([SourceText("f.test.yaml", TEXT.encode())], ["maps", "backup"], rules)
    return Outcome("f.yaml", engine.policy, list(run(engine.policy, cases, "f.yaml", lambda case: None)))


def test_text():
    assert (
        outcome().text()
        == """\
f.test.yaml:5:5: test closed: read /DCIM/<b> by maps (unknown kind of unknown owner)
  decision  expected deny, found allow
  rules that counted: media.read
  policyfs policy explain f.yaml '/DCIM/<b>' --app maps --op read

f.test.yaml:5:5: test closed: read /DCIM/<b> by backup (unknown kind of unknown owner)
  decision  expected deny, found allow
  rules that counted: backup.all
  policyfs policy explain f.yaml '/DCIM/<b>' --app backup --op read

f.yaml: no test reaches media.own, media.types, media.no-location, app.private
f.yaml: 2 of 3 requests failed; tests reach 2 of 6 rules"""
    )


def test_json():
    made = outcome().as_json()
    assert (made["requests"], made["failed"], made["rules"]) == (3, 2, 6)
    assert made["uncovered"] == ["media.own", "media.types", "media.no-location", "app.private"]
