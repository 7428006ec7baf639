"""What a policy says of a change before its commit."""

from __future__ import annotations

import pytest

from policyfs.cli.layers.differences import Difference
from policyfs.cli.layers.verdicts import Verdicts
from policyfs.policy.decide import compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: v}
apps: {a: {}}
rules:
  - {id: fixed, deny: [write, create, delete, attr], paths: "/fixed/***"}
  - {id: photos, allow: [all], paths: "/photos/***", when: {type: image/jpeg}}
  - {id: open, allow: [all], paths: "/open/***"}
  - {id: place, require: {redact: [location]}, paths: "/open/***"}
"""


@pytest.mark.parametrize(
    ("kind", "path", "what", "told"),
    [
        ("added", b"open/x", (), "the command sees it without location"),
        ("changed", b"fixed/x", ("mode 644 -> 600",), "refused by the rule fixed"),
        ("removed", b"fixed/x", (), "refused by the rule fixed"),
        ("added", b"else", (), "refused: no rule allows it"),
        ("added", b"photos/x.jpg", (), "its content or owner decides"),
    ],
)
def test_a_verdict_names_the_rule(kind: str, path: bytes, what: tuple[str, ...], told: str) -> None:
    verdicts = Verdicts(compile_policy(parse_policy([SourceText("p", POLICY)])), "a")
    assert verdicts.note(Difference(kind, path, is_directory=False, what=what)) == told
