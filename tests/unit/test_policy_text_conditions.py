"""Conditions mean the same in rules, exceptions and invariants."""

from __future__ import annotations

from policyfs.policy.text.parse import SourceText, parse_policy

TEXT = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010, grants: [wide]}
sets:
  photos: [image/jpeg, image/png]
path_sets:
  both: ["/DCIM/**", "/Pictures/**"]
rules:
  - {id: a, allow: [read], %s}
exceptions:
  - {id: a, allow: [read], until: 2030-01-31T18:00:00Z, reason: r, approved-by: Ann, %s}
invariants:
  - {id: a, never: [read], %s}
"""
CONDITIONS = """\
who: {app: [camera, stranger], grant: wide, uid: "1-5", not: {app: any}}, paths: ["@both", "/a"],\
 ignore_case: true, when: {type: "@photos"}, unless: [{owner: self}, {path: "@both"}]"""


def test_they_are_the_same() -> None:
    policy = parse_policy([SourceText("p.yaml", (TEXT % ((CONDITIONS,) * 3)).encode())])
    rules = [policy.rules[0], policy.exceptions[0].rule, policy.invariants[0].rule]
    said = {(rule.who, rule.paths, rule.ignore_case, rule.when, rule.unless) for rule in rules}
    assert len(said) == 1
    assert rules[0].paths == ("/DCIM/**", "/Pictures/**", "/a")
    assert rules[0].when is not None
    assert rules[0].when.kinds == {"image/jpeg", "image/png"}
