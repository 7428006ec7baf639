"""`policyfs audit who-could`: answers in a word. test_cli_audit_files.py runs it, and `diff`, on a trail."""

from __future__ import annotations

import pytest

from policyfs.cli.audit_compare import _answer
from policyfs.domain import Decision


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (Decision(allowed=False, errno=13), "no"),
        (Decision(allowed=True, errno=0), "yes"),
        (Decision(allowed=True, errno=0, redact=frozenset({"location"})), "redacted"),
        (Decision(allowed=True, errno=0, content=(frozenset({"image/*"}),)), "checked"),
    ],
)
def test_answers(decision: Decision, word: str) -> None:
    assert _answer(decision) == word
