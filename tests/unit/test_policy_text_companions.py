"""Files beside policies are read as strictly as policies."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyError, PolicyErrors
from policyfs.policy.text.companions import Head, Reader, sound
from policyfs.policy.text.document import Strict
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.values import Text


class _Top(Head):
    things: list[object]


class _Thing(Strict):
    name: Text


READER = Reader("Things", _Top, _Thing, "things", lambda node, number: f"thing number {number}")
HEAD = "apiVersion: policyfs/v1\nkind: Things\n"


def read(text: str) -> tuple[list[str], list[PolicyError]]:
    errors: list[PolicyError] = []
    file = READER.read(SourceText("f.yaml", text.encode()), errors)
    items = file.items if file is not None else ()
    return [part.doc.name for part in items if part.doc is not None], errors


def test_items():
    assert read(HEAD + "things:\n  - name: a\n  - name: b\n") == (["a", "b"], [])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (HEAD + "things:\n  - name: a\n    nam: b\n  - {}\n", 2),
        (HEAD + "things: []\nthings: []\n", 1),
        ("[]", 1),
        ("a: [", 1),
        (HEAD.replace("v1", "v2") + "things: []\n", 1),
    ],
)
def test_all_faults_at_once(text, count):
    _, errors = read(text)
    assert len(errors) == count
    with pytest.raises(PolicyErrors, match="the things are wrong: "):
        sound(errors, "the things are wrong")


def test_without_faults_nothing_is_raised():
    sound([], "never")
