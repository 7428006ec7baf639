"""The bound of a proposal: what the policy in force at the end of a trail refuses is not proposed."""

from __future__ import annotations

import pytest

from policyfs.policy.learn.bound import Bound
from policyfs.policy.model import Policy
from tests.support.models.policies import engine_of

READ = '- {id: read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"%s}\n'
MORE = '- {id: more, allow: [see, read], who: {app: any}, paths: "/Music/**"}\n'


def policy(rules: str) -> Policy:
    return engine_of(rules).policy


def bound(rules: str, *, monitor: bool = False) -> Bound:
    return Bound(policy(rules), monitor, lambda digest: None)


def test_a_proposal_that_allows_more_is_wider_and_one_that_allows_less_is_not() -> None:
    assert bound(READ % "").wider(policy(READ % "" + MORE))
    assert bound(READ % "" + MORE).wider(policy(READ % "")) == []


def test_with_monitor_nothing_is_compared() -> None:
    assert bound(READ % "", monitor=True).wider(policy(READ % "" + MORE)) == []


@pytest.mark.parametrize(("audit", "all_recorded"), [("", False), (", audit: required", True)])
def test_it_is_known_if_allowed_requests_are_required_on_record(audit: str, all_recorded: bool) -> None:
    assert bound(READ % audit).all_recorded is all_recorded
