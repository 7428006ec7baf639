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
