"""One caller's own view of a policy."""

from __future__ import annotations

from policyfs.policy.analysis.sides import Side, content_of
from policyfs.policy.rules.callers import Caller
from tests.support.models.whole_policies import compiled, policy_of

RULES = """
- {id: own, allow: [all], who: {app: any}, paths: "/data/{app}/**"}
- {id: cam, allow: [see], who: {app: camera}, paths: "/DCIM/**"}
- {id: hide, deny: [see], who: {app: gallery}, paths: "/data/*/secret"}
"""


def side(app: str | None, uid: int = 10010) -> Side:
    policy = compiled(RULES)
    callers = policy.table.callers
    return Side(policy, Caller(callers.class_of(callers.principal(app, uid, uid_matters=False)), uid))


def ids(side: Side, *names: str) -> set[str]:
    position = side.root
    for name in names:
        position = side.step(position, name)
    return {live.rule.id for live in side.profile(position, top=not names).lives}


def test_captures_are_the_callers_own():
    assert ids(side("camera"), "data", "camera", "x") == {"own"}
    assert ids(side("camera"), "data", "gallery", "x") == set()
    assert ids(side(None, 1), "data", "camera", "x") == set()


def test_rules_for_others_leave_no_trace():
    gallery = side("gallery", 10011)
    assert gallery.step(gallery.root, "DCIM") is gallery.step(gallery.root, "anything")
    camera = side("camera")
    assert camera.step(camera.root, "DCIM") is not camera.step(camera.root, "anything")


def test_what_a_rule_does_is_all_but_its_name_and_callers():
    one, other, third = policy_of(
        """
        - {id: a, allow: [see], paths: ["/a", "/b"], who: {app: camera}}
        - {id: b, allow: [see], paths: ["/b", "/a"], description: the same}
        - {id: c, allow: [see], paths: ["/b", "/a"], audit: required}
        """
    ).rules
    assert content_of(one) == content_of(other) != content_of(third)
