"""The best sample of each sort of differences."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.analysis.compare import Comparison
from policyfs.policy.analysis.findings import Finding, best_for, best_of
from policyfs.policy.analysis.sides import Compiled
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.decide import compile_policy
from tests.support.models.whole_policies import policy_of

OLD = '- {id: a, allow: [see, read], who: {app: camera}, paths: "/a/**"}'
NEW = '- {id: a, allow: [see, read, write], who: {app: camera}, paths: "/a/**"}'


def best() -> dict[Op, list[Finding]]:
    policies = [Compiled(compile_policy(policy_of(rule))) for rule in (OLD, NEW)]
    comparison = Comparison(groups(policies))
    (found,) = best_of(comparison.findings(), comparison.confirmed).values()
    return found


def test_each_sort_keeps_the_plainest_request_of_each_operation() -> None:
    found = best()
    assert list(found) == [Op.WRITE]
    (finding,) = found[Op.WRITE]
    assert len(finding.sample.spot.names) == 2


def test_each_caller_has_its_own_best() -> None:
    (plain,) = best()[Op.WRITE]
    findings = [
        plain._replace(callers=0b01, rank=(2,)),
        plain._replace(callers=0b11, rank=(3,)),
        plain._replace(callers=0b01, rank=(3,)),
        plain._replace(callers=0b10, rank=(1,)),
    ]
    (found,) = best_of(findings, lambda *_: True).values()
    assert [one.rank for one in found[Op.WRITE]] == [(2,), (3,), (1,)]
    assert [best_for(found[Op.WRITE], caller).rank for caller in (0, 1)] == [(2,), (1,)]
