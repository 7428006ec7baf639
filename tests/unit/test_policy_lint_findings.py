"""Comments that silence findings."""

from __future__ import annotations

import pytest

from policyfs.policy.decide import compile_policy
from policyfs.policy.lint.findings import excerpt
from policyfs.policy.lint.lint import Report, lint
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.values import instant

HEAD = "apiVersion: policyfs/v1\nkind: Policy\napps:\n  camera: {uid: 1}\nrules:\n"
RULE = '  - {id: look, allow: [see, read], paths: "/DCIM/**"}'
NOTE = "# lint: ignore strangers because they may"
NOW_NS = instant("2030-01-31T18:00:00Z")


def report(*rules: str) -> tuple[Report, list[SourceText]]:
    sources = [SourceText("p.yaml", (HEAD + "\n".join(rules) + "\n").encode())]
    return lint(compile_policy(parse_policy(sources)), sources, at_ns=NOW_NS), sources


@pytest.mark.parametrize(
    "rules",
    [
        [f"{RULE}  {NOTE}"],
        [f"  {NOTE}", RULE],
        [f"  {NOTE}", "", "  # more about it", RULE],
        ["  - id: look", f"    {NOTE}", "    allow: [see, read]", '    paths: "/DCIM/**"'],
        ["  - id: look", "    allow: [see, read]", f'    paths: "/DCIM/**" {NOTE}'],
    ],
)
def test_a_comment_belongs_to_its_rule(rules):
    found, _ = report(*rules)
    assert not found.findings
    ((finding, reason),) = found.silenced
    assert (finding.id, reason) == ("strangers", "they may")


def test_a_comment_on_another_rule_silences_nothing():
    other = '  - {id: other, allow: [see, read], who: {app: camera}, paths: "/a/**"}'
    found, _ = report(RULE, f"{other}  {NOTE}")
    assert [one.id for one in found.findings] == ["strangers", "unused-ignore"]


@pytest.mark.parametrize("note", ["# lint: ignore strangers", "# lint: ignore", "# lint: ignore because x"])
def test_a_reason_is_needed(note):
    found, _ = report(f"{RULE}  {note}")
    assert {one.id for one in found.findings} == {"strangers", "ignore-without-reason"}


def test_a_finding_is_shown_with_its_line():
    found, sources = report(RULE)
    shown = str(excerpt(found.findings[0], sources)).splitlines()
    assert shown[0].startswith("p.yaml:6:5: strangers: rule look: ")
    assert shown[1] == f"    6 | {RULE}"
    assert shown[2].strip() == "| " + " " * 4 + "^" * (len(RULE) - 4)
