"""Each line of docs/cookbook.md is what the policy of its section answers."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest

from policyfs.cli.main import main
from policyfs.domain import Decision
from policyfs.policy.decide import Engine, compile_policy
from tests.support.machine.documents import CHECKOUT, commands
from tests.support.models.asking import ask, check, rows, shipped, told

PAGE = (CHECKOUT / "docs/cookbook.md").read_text("utf-8")
SECTIONS = {
    found[1]: found[2]
    for found in re.finditer(r"^## (\S+\.yaml)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
CASES = [
    pytest.param(policy, row, id=f"{policy}-{row.app}-{row.request}-{row.file}")
    for policy, text in SECTIONS.items()
    for row in rows(text)
]

TESTED_ELSEWHERE = {"android-scoped-storage.yaml", "family-photos.yaml"}
"""tests/unit/test_shipped_policies.py asks these much more than the page shows."""

engine = cache(shipped)


def spelled_out(made: Engine, answer: str) -> str:
    """In an answer, {rule} stands for the kinds that this content rule lists."""
    kinds = {f"{{{rule.id}}}": " ".join(sorted(rule.content)) for rule in made.policy.rules}
    return re.sub(r"{.*?}", lambda match: kinds[match[0]], answer)


@pytest.mark.parametrize(("policy", "row"), CASES)
def test_answer(policy, row) -> None:
    made = engine(policy)
    check(made, row._replace(answer=spelled_out(made, row.answer)))


def test_each_shipped_policy_has_a_section_and_a_line_in_the_list() -> None:
    names = sorted(path.name for path in (CHECKOUT / "policies").glob("*.yaml"))
    assert sorted(SECTIONS) == names
    listed = re.findall(r"^\| \[(\S+\.yaml)\]\(#(\S+)\)", PAGE, re.MULTILINE)
    assert sorted(name for name, _ in listed) == names
    assert all(anchor == name.replace(".", "") for name, anchor in listed)


def test_the_command_of_the_page_accepts_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    line, *_ = commands(CHECKOUT / "docs/cookbook.md")
    *words, name = line.split()[1:]
    assert name in SECTIONS
    for policy in sorted(SECTIONS):
        assert main([*words, str(CHECKOUT / "policies" / policy)]) == 0
        assert f"{policy}: fine" in capsys.readouterr().out


@pytest.mark.parametrize("policy", sorted(SECTIONS.keys() - TESTED_ELSEWHERE))
def test_each_rule_decides_some_line(policy: str) -> None:
    """A rule on which no line hangs would be in the policy for nothing, or without a test."""
    made = engine(policy)
    lines = rows(SECTIONS[policy])
    answers = [ask(made, row) for row in lines]
    assert {row.app for row in lines} >= {app.name for app in made.policy.apps}
    for left_out in made.policy.rules:
        if left_out.limit is not None:  # it decides nothing: tests/mount/test_brake.py
            continue
        kept = tuple(rule for rule in made.policy.rules if rule is not left_out)
        without = compile_policy(replace(made.policy, rules=kept))
        now = [ask(without, row) for row in lines]
        assert list(map(whole, now)) != list(map(whole, answers)), left_out.id


def whole(answer: Decision) -> tuple[object, ...]:
    return told(answer, audit=True), answer.keep
