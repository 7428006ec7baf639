"""Lines of explanations; test_policy_explain_explain.py has their reasons."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.explain.rule_lines import words_of


def test_operations_in_words() -> None:
    assert words_of(Op.SEE | Op.DELETE) == "see, delete"
