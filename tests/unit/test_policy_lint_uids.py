"""Findings on apps and uids that a rule names together."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.uids import uids
from policyfs.policy.text.parse import SourceText, parse_policy

APPS = "{a: {uid: 7}, b: {uid: [8, 20-29]}, c: {grants: [g]}}"
HEAD = f"apiVersion: policyfs/v1\nkind: Policy\napps: {APPS}\nrules:\n"


def found(who: str) -> list[str]:
    text = f"{HEAD}  - {{id: r, allow: [see], who: {who}}}\n"
    return [one.message for one in uids(parse_policy([SourceText("p.yaml", text.encode())]))]


@pytest.mark.parametrize(
    "who",
    [
        "{app: a}",
        "{uid: 9}",
        "{app: a, uid: 7}",
        "{app: [a, b], uid: [1, 25-40]}",
        "{app: any, uid: 9}",
        "{app: [a, stranger], uid: 9}",
        "{grant: g, uid: 9}",
        "{app: a, not: {uid: 9}}",
    ],
)
def test_what_can_hold(who: str):
    assert found(who) == []


def test_what_cannot():
    [message] = found("{app: a, uid: [8, 9-12]}")
    assert "a has no uid of 8-12: on a shared mount no caller matches" in message
    [message] = found("{app: [a, c], uid: 8}")
    assert "a and c have no uid of 8" in message
    assert len(found("{app: any, not: {app: b, uid: 7}}")) == 1
