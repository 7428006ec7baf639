"""The one decision on reading all files in a directory, against the naive evaluator."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import NO_FACTS, FileType
from policyfs.policy.decide import compile_policy
from policyfs.policy.raw_names import READ, raw_names
from tests.property.test_policy_distinctions import nearly_open
from tests.property.test_policy_engine import naive, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Node

NAMES = (b"a", b"b", b"x", b"a.jpg", b"IMG_1.jpg", b".a", b"\xff", b"7", b"other")


@share(0.05)
@given(policy=st.one_of(nearly_open(), cases.policies()), path=cases.near_paths, name=st.sampled_from(NAMES))
def test_the_decision_is_that_of_each_name_under_all_facts(policy, path, name):
    engine = compile_policy(policy)
    slow = naive(policy)
    for app, uid in (("a", 7), ("a", 8), ("b", 9), (None, 50)):
        who = engine.principal(uid) if app is None else engine.app_principal(app, uid)
        names = raw_names(engine, who, engine.state_of(path))
        if names is None or name in names.excepted:
            continue
        inside = path.rstrip(b"/") + b"/" + name
        known = engine.decide(who, READ, engine.state_of(inside), FileType.REGULAR, NO_FACTS)
        assert known == names.decision
        above = (None,) * (inside.count(b"/") - 1)
        for facts in slow.all_facts(FileType.REGULAR, unknown=True):
            node = Node(inside, FileType.REGULAR, facts, above)
            assert slow.decide(Caller(app, uid), READ, node)[0] is True
            assert not slow.redact(Caller(app, uid), node)
