"""Findings on the ends of exceptions."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.dates import dates
from tests.unit.test_policy_exceptions import END_NS, SECOND_NS, party, policy


@pytest.mark.parametrize(
    ("left_s", "found", "words"),
    [
        (0, "exception-ended", "ended at"),
        (60, "exception-ends-soon", "ends in less than an hour"),
        (2 * 3600, "exception-ends-soon", "ends in 2 hours"),
        (13 * 86400, "exception-ends-soon", "ends in 13 days"),
        (15 * 86400, "", ""),
        (400 * 86400, "exception-too-long", "more than a year"),
    ],
)
def test_findings_on_ends(left_s: int, found: str, words: str) -> None:
    findings = list(dates(policy(party()), END_NS - left_s * SECOND_NS))
    assert [finding.id for finding in findings] == ([found] if found else [])
    assert all(words in finding.message and finding.subject == "exception party" for finding in findings)
