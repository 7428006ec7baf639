"""What a proposal takes over of a policy means what it meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.policy.analysis.sides import content_of
from policyfs.policy.layout.canonical import canonical
from policyfs.policy.learn.kept import app_text, rule_text
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText, parse_policy

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
EVERY_KEY = """\
apps:
  a: {uid: [7, 9-12], gid: [5, 6], grants: [g, h], modes: policy, description: "it's: #1"}
  "1e5": {modes: store}
rules:
  - {id: r1, allow: [all], who: {app: any, uid: 7, not: {grant: [g, h], app: [stranger]}}, audit: required}
  - {id: r2, deny: [write], paths: ["/a", '/50\\*/{app}'], errno: EROFS, mode: monitor}
  - {id: r3, require: {redact: [time, location]}, raw_types: [text/csv], on_unknown: deny, audit: off}
  - {id: r4, require: {no: location}, raw_types: text/csv, on_unknown: deny, on_refused: quarantine}
  - {id: r5, require: {clean: [people, time]}, raw_types: [text/csv], when: {type: image/*, owner: self}}
  - id: r6
    require: {content: [image/*, text/plain]}
    ignore_case: true
    unless: [{owner: [none, a], path: ["/ü/**", "/b"]}, {type: inode/directory}]
    description: 'a "word"'
"""


def parsed(text: str) -> Policy:
    return parse_policy([SourceText("policy.yaml", text.encode())])


@pytest.mark.parametrize("text", [HEAD + EVERY_KEY, *(path.read_text() for path in SHIPPED)])
def test_apps_and_rules_mean_what_they_meant(text: str) -> None:
    old = parsed(text)
    lines = [*map(app_text, old.apps)], [*map(rule_text, old.rules)]
    new = parsed(canonical(f"{HEAD}apps:\n{chr(10).join(lines[0])}\nrules:\n{chr(10).join(lines[1])}\n"))
    assert new.apps == old.apps
    for before, after in zip(old.rules, new.rules, strict=True):
        assert (after.id, after.who, after.description) == (before.id, before.who, before.description)
        assert content_of(after) == content_of(before)
