"""The best sample of each sort of differences."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.analysis.compare import Comparison
from policyfs.policy.analysis.findings import best_of
from policyfs.policy.analysis.sides import Compiled
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.decide import compile_policy
from tests.support.models.whole_policies import policy_of

OLD = '- {id: a, allow: [see, read], who: {app: camera}, paths: "/a/**"}'
NEW = '- {id: a, allow: [see, read, write], who: {app: camera}, paths: "/a/**"}'


def test_each_sort_keeps_the_plainest_request_of_each_operation() -> None:
    policies = [Compiled(compile_policy(policy_of(rule))) for rule in (OLD, NEW)]
    found = [best_of(Comparison(group).findings()) for group in groups(policies)]
    (best,) = [one for one in found if one]
    ((_, by_op),) = best.items()
    assert list(by_op) == [Op.WRITE]
    rank, finding = by_op[Op.WRITE]
    assert rank == finding.rank
    assert len(finding.sample.place.names) == 2
