"""Policies and the exact words of the findings on them.

Each case is ``policy_lint/NAME.yaml``, named after the sort of finding that it is about, beside NAME.txt.
POLICYFS_UPDATE_GOLDEN=1 writes the .txt anew (and fails, so that it is read).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import in_force
from policyfs.policy.lint.findings import excerpt
from policyfs.policy.lint.lint import Report, lint
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.values import instant
from tests.support.machine.counts import count
from tests.support.machine.documents import CHECKOUT
from tests.support.models.policies import HEAD
from tests.support.models.sound_policies import sound_policy

CASES = Path(__file__).parent / "policy_lint"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))
NOW_NS = instant("2030-01-31T18:00:00Z")


def report(path: Path) -> tuple[Report, list[SourceText]]:
    sources = [SourceText(path.name, path.read_bytes())]
    return lint(compile_policy(in_force(parse_policy(sources), NOW_NS)), sources, at_ns=NOW_NS), sources


@pytest.mark.parametrize("name", NAMES)
def test_exact_words(name):
    found, sources = report(CASES / f"{name}.yaml")
    told = "".join(f"{excerpt(finding, sources)}\n\n" for finding in found.findings)
    told += "".join(f"silenced: {one.finding.id}, because {one.reason}\n" for one in found.silenced)
    expected = CASES / f"{name}.txt"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert told == expected.read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("none", "silenced")])
def test_each_case_has_its_finding_and_the_page_names_it(name):
    assert f"`{name}`" in (CHECKOUT / "docs/policy-tools.md").read_text("utf-8")
    assert name in {finding.id for finding in report(CASES / f"{name}.yaml")[0].findings}


FOLLOWED = {
    "about-all": [("deny: [delete]", 'deny: [delete], paths: "/***"')],
    "app-and-uid": [("app: camera, uid: 10020", "uid: 10020"), ("app: gallery, uid: [1, 2]", "app: gallery")],
    "app-without-allow": [("app: [camera, gallery]", "app: [camera, gallery, maps]")],
    "backup-redacted": [("uid: 10011", "uid: 10011, grants: [media.location]")],
    "case-of-extension": [("deny: [read],", "deny: [read], ignore_case: true,")],
    "cleaned-for-reader": [("{clean: location},", "{clean: location}, who: {not: {app: camera}},")],
    "covered-by-deny": [("[write, create]", "[create]")],
    "deny-leaves-top": [("private/**", "private/***")],
    "derived-copies": [('"/DCIM/**", "/cache/thumbs/**"', '"/DCIM/**"')],
    "exception-ended": [("2030-01-31T19:00:00+01:00", "2030-06-01T00:00Z")],
    "exception-ends-soon": [("2030-02-05T18:00Z", "2030-06-01T00:00Z")],
    "exception-too-long": [("2032-01-01T00:00Z", "2030-06-01T00:00Z")],
    "never-matches": [
        ("app: gallery, grant: media.location", "app: gallery"),
        ('unless: {path: "/DCIM/**"}', 'unless: {path: "/DCIM/x"}'),
        ("unless: {type: image/*}", "unless: {type: image/gif}"),
        ('who: {app: stranger}, paths: "/data/{app}/**"', 'who: {app: any}, paths: "/data/{app}/**"'),
    ],
    "not-of-several": [
        ("{app: camera, grant: media.location}", "{app: camera}"),
        (
            "rules:",
            "rules:\n  - {id: too, deny: [read], who: {not: {grant: media.location}}, paths: /DCIM/raw/x}",
        ),
    ],
    "one-level": [("/DCIM/*", "/DCIM/**")],
    "own-directory": [("/data/{app}/**", "/data/{app}/***")],
    "raw-sensitive": [('{grant: media.location}}, paths: "/DCIM/**"', "{grant: media.location}}")],
    "raw-type-redacted": [("[image/gif, text/csv]", "[text/csv]")],
    "redacted-editor": [
        ("editor: {uid: 10010}", "editor: {uid: 10010, grants: [media.location]}"),
        ("tidy: {uid: 10011}", "tidy: {uid: 10011, grants: [media.location]}"),
    ],
    "redaction-spares-library": [(", unless: {owner: none}", "")],
    "see-by-fact": [(", when: {type: image/*}", "")],
    "strangers": [("[see, read],", "[see, read], who: {app: any},")],
    "type-costs-passthrough": [(", when: {type: image/jpeg}", "")],
    "type-on-create": [
        (
            ", when: {type: image/*}}",
            '}\n  - {id: photos, require: {content: image/*}, paths: "/DCIM/**"}',
        )
    ],
    "unchecked-write": [('{content: image/*}, paths: "/DCIM/**"', "{content: image/*}")],
    "unknown-kind": [("image/jpge, picture/png", "image/jpeg, image/png")],
    "broad-uids": [('"1-9999"', "1042")],
    "denials-unrecorded": [('"off"', "best_effort")],
    "empty-invariant": [
        ("app: gallery, not: {app: any}", "app: gallery"),
        ("/DICM/", "/DCIM/"),
        ("never: [read]", "never: [delete]"),
    ],
    "root-app": [("uid: 0", "uid: 1042")],
    "unseen": [("allow: [read]", "allow: [see, read]")],
}
"""What the advice of each finding asks for, as changes of the policy's text."""
BESIDE = {"none", "silenced", "not-searched"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BESIDE])
def test_who_follows_the_advice_loses_the_finding(name: str) -> None:
    text = (CASES / f"{name}.yaml").read_text("utf-8")
    for old, new in FOLLOWED[name]:
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    sources = [SourceText(f"{name}.yaml", text.encode())]
    after = lint(compile_policy(in_force(parse_policy(sources), NOW_NS)), sources, at_ns=NOW_NS)
    assert name not in {finding.id for finding in after.findings}, after.findings


@pytest.mark.parametrize("path", sorted((CHECKOUT / "policies").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_policies_have_no_finding_without_a_reason(path):
    assert report(path)[0].findings == []


def planted() -> list[object]:
    parts = YAML(typ="safe").load((Path(__file__).parent / "policy_mistakes.yaml").read_text("utf-8"))
    return [pytest.param(row, id=row["mistake"]) for part in parts.values() for row in part]


@pytest.mark.parametrize("row", planted())
def test_planted_mistakes_are_found(row):
    sources = [SourceText("p.yaml", (HEAD + row["policy"]).encode())]
    found = lint(compile_policy(parse_policy(sources)), sources, at_ns=NOW_NS).findings
    assert (row["finding"], f"rule {row['at']}") in {(one.id, one.subject) for one in found}


@pytest.mark.parametrize("seed", range(count(100, 200)))
def test_sound_policies_have_no_finding(seed):
    text = sound_policy(random.Random(seed))
    sources = [SourceText("p.yaml", text.encode())]
    assert lint(compile_policy(parse_policy(sources)), sources, at_ns=NOW_NS).findings == [], text
