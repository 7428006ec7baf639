"""What a rule says of its record."""

from __future__ import annotations

import dataclasses

import pytest

from policyfs.domain import Audit
from tests.support.models.policies import engine_of

RULE = '- {id: one, allow: [see], who: {app: any}, paths: "/**"}\n'


@pytest.mark.parametrize("default", list(Audit))
def test_a_rule_that_sets_no_level_takes_the_default(default: Audit) -> None:
    (rule,) = engine_of(RULE).policy.rules
    assert rule.audit is None
    assert rule.audit_or(default) is default
    assert dataclasses.replace(rule, audit=Audit.OFF).audit_or(default) is Audit.OFF
