"""The meaning of files."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyErrors
from policyfs.policy.layout.meaning import meaning, other_kind
from policyfs.policy.text.parse import SourceText

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {a: {uid: 7}}
rules:
  - {id: read, allow: [see, read], paths: "/**"}
invariants:
  - {id: kept, never: [write]}
exceptions:
  - {id: e, allow: [attr], until: 2030-01-31T18:00:00Z, reason: r, approved-by: Ann, who: {app: a}}
"""
TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  - {id: t, app: nobody, operation: read, path: /x, expect: {decision: allow}}
"""
ACCEPTED = """\
apiVersion: policyfs/v1
kind: AcceptedChanges
accepted:
  - {change: ca26fa4d54c4, because: it is meant}
"""


def meant(*texts: str) -> object:
    return meaning([SourceText(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)], prove=True)


@pytest.mark.parametrize(
    ("text", "otherwise"),
    [
        (POLICY, ("see, read", "see")),
        (POLICY, ("write", "delete")),
        (TESTS, ("/x", "/y")),
        (ACCEPTED, ("it is", "is")),
    ],
)
def test_places_mean_nothing_and_words_do(text: str, otherwise: tuple[str, str]):
    assert meant(text) == meant("# a comment\n" + text)
    assert meant(text) != meant(text.replace(*otherwise))


def test_kinds():
    sources = [SourceText("x", text.encode()) for text in (POLICY, TESTS, ACCEPTED)]
    assert [other_kind(source) for source in sources] == ["", "PolicyTests", "AcceptedChanges"]


def test_errors():
    for text in (
        POLICY.replace("allow", "alow"),
        TESTS.replace("path:", "pth:"),
        ACCEPTED.replace("because", "x"),
    ):
        with pytest.raises(PolicyErrors):
            meant(text)
    with pytest.raises(PolicyErrors, match="invariant"):
        meant(POLICY.replace("never: [write]", "never: [read]"))
