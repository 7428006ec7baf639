"""Differences of policies and the exact words in which they are told.

Each case is a directory ``policy_diffs/NAME`` with old.yaml, new.yaml, sometimes ack.yaml, and what a person
reads in out.txt. POLICYFS_UPDATE_GOLDEN=1 writes the out.txt anew (and fails, so that it is read).
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from policyfs.policy.analysis.accepted import parse_accepted
from policyfs.policy.analysis.diff import diff
from policyfs.policy.analysis.diff_text import Report, Side
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.mount.daemons import policyfs

CASES = Path(__file__).parent / "policy_diffs"


def names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir())


def report(name: str) -> Report:
    sides = []
    for which in ("old", "new"):
        text = (CASES / name / f"{which}.yaml").read_bytes()
        sides.append(Side(f"{which}.yaml", parse_policy([SourceText(f"{which}.yaml", text)])))
    ack = CASES / name / "ack.yaml"
    accepted = parse_accepted(SourceText("ack.yaml", ack.read_bytes())) if ack.exists() else {}
    return Report(diff(sides[0].policy, sides[1].policy), *sides, accepted)


@pytest.mark.parametrize("name", names())
def test_exact_words(name):
    expected = CASES / name / "out.txt"
    told = f"{report(name).text()}\n"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert told == expected.read_text("utf-8")


@pytest.mark.parametrize("name", names())
def test_every_command_that_is_told_explains_the_answer(name, monkeypatch):
    monkeypatch.chdir(CASES / name)
    made = report(name).as_json()
    for change in made["changes"]:
        assert change["examples"]
        for example in change["examples"]:
            answers = dict(zip(("before", "after"), example["explain"], strict=False))
            if change["aspect"] not in ("access", "errno") or len(answers) != 2 or example["owners_above"]:
                continue
            for when, command in answers.items():
                said = policyfs(*shlex.split(command)[1:])
                assert said.returncode == 0, said
                word = example[when].split(",")[0]
                answer = "allowed" if word == "allowed" else f"denied ({word})"
                lines = said.stdout.splitlines()[:2]  # a denial's cause stands before it
                assert any(f": {answer}" in line for line in lines), said


def test_json_has_all_that_the_text_has():
    made = report("less-redaction").as_json()
    assert made["wider"] == 1
    (change,) = [one for one in made["changes"] if one["direction"] == "wider"]
    assert (change["aspect"], change["who"], change["operations"]) == (
        "redaction", ["gallery"], ["read"],
    )  # fmt: skip
    assert change["rules"] == [{"id": "places", "change": "changed", "file": "new.yaml", "line": 21}]
    (example,) = change["examples"]
    assert example["before"] == "device, location removed"
    assert example["after"] == "location removed"
