"""Callers as far as rules tell them apart: apps by uid, and classes of uids."""

from __future__ import annotations

import pytest

from policyfs.policy.globs.names import UID_LIMIT
from policyfs.policy.model import ANY, STRANGER, Who
from policyfs.policy.rules.callers import Callers
from tests.support.models.policies import engine_of

APPS = """\
apps:
  camera: {uid: 10010, grants: [a, b]}
  many:   {uid: [20000-20009, 30000]}
  own:    {}
rules:
"""


def callers_of(*uids: str) -> Callers:
    rules = [
        f"  - {{id: r{number}, allow: [see], who: {{uid: {uid}}}}}\n" for number, uid in enumerate(uids)
    ] or ["  - {id: r, allow: [see]}\n"]
    return Callers(engine_of(APPS + "".join(rules)).policy)


@pytest.mark.parametrize(
    ("uid", "app"),
    [
        (10009, None), (10010, "camera"), (10011, None), (19999, None), (20000, "many"), (20009, "many"),
        (20010, None), (30000, "many"), (30001, None), (0, None), (UID_LIMIT - 1, None),
    ],
)  # fmt: skip
def test_apps_by_uid(uid, app):
    assert callers_of().app_of(uid) == app


def test_uids_are_of_one_class_if_no_rule_tells_them_apart():
    made = callers_of("5-9", "8-20")
    ends = [0, 4, 5, 7, 8, 9, 10, 20, 21, 4_000_000_000]
    classes = [made.uid_class_of(uid) for uid in ends]
    assert classes[0] == classes[1] == classes[8] == classes[9]
    assert classes[2] == classes[3]
    assert classes[4] == classes[5]
    assert classes[6] == classes[7]
    assert len(set(classes)) == len(list(made.uid_classes())) == 4


def test_principals_are_equal_if_rules_cannot_tell_them_apart():
    made = callers_of("5-9")
    plain = made.principal("many", 20000, uid_matters=False)
    assert plain.key == made.principal("many", 20001, uid_matters=False).key
    assert plain.key != made.principal("camera", 20001, uid_matters=False).key
    assert plain.key != made.principal("many", 7, uid_matters=False).key
    assert plain.key != made.principal(None, 20000, uid_matters=False).key
    told = made.principal("many", 20000, uid_matters=True)
    assert told.key != made.principal("many", 20001, uid_matters=True).key
    assert made.class_of(told) is made.class_of(plain)
    assert made.principal(None, 1, uid_matters=True).key == made.principal(None, 2, uid_matters=True).key
    with pytest.raises(KeyError):
        made.principal("else", 1, uid_matters=False)


def test_a_class_has_samples_of_all_its_ranges():
    made = callers_of("5-9")
    inside = made.samples(made.uid_class_of(7))
    assert set(inside) == {7, 9, 5, 6}
    outside = made.samples(made.uid_class_of(0))
    assert {0, 4, 10, UID_LIMIT - 1} <= set(outside)
    assert not set(outside) & set(range(5, 10))


def test_another_uid_of_a_class():
    made = callers_of("5-9", "12")
    inside = made.uid_class_of(7)
    besides: set[int] = set()
    for _ in range(5):
        other = made.another(inside, besides)
        assert other is not None
        assert other not in besides
        besides.add(other)
    assert besides == {5, 6, 7, 8, 9}
    assert made.another(inside, besides) is None
    assert made.another(made.uid_class_of(12), ()) == 12


def test_everyone_is_each_app_under_each_class_and_strangers_where_there_are_any():
    made = callers_of("20000-20009", "7")
    found = [(of.app, of.uid_class) for of in made.everyone()]
    assert len(found) == len(set(found))
    strangers = {uid_class for app, uid_class in found if app is None}
    assert made.uid_class_of(7) in strangers
    assert made.uid_class_of(20000) not in strangers  # all of these are an app's
    assert len([app for app, _ in found if app == "own"]) == 3


@pytest.mark.parametrize(
    ("who", "camera", "stranger"),
    [
        (Who(None, None, None, None), True, True),
        (Who(frozenset({"camera"}), None, None, None), True, False),
        (Who(frozenset({"many"}), None, None, None), False, False),
        (Who(frozenset({ANY}), None, None, None), True, False),
        (Who(frozenset({STRANGER}), None, None, None), False, True),
        (Who(None, frozenset({"b", "x"}), None, None), True, False),
        (Who(None, frozenset({"x"}), None, None), False, False),
        (Who(None, None, ((10010, 10010),), None), True, False),
        (Who(None, None, ((5, 5), (10011, 10012)), None), False, True),
        (Who(frozenset({"camera"}), frozenset({"x"}), None, None), False, False),
        (Who(None, None, None, Who(frozenset({"camera"}), None, None, None)), False, True),
        (Who(None, None, None, Who(None, None, None, None)), False, False),
        (Who(None, None, None, Who(frozenset({ANY}), frozenset({"x"}), None, None)), True, True),
    ],
)
def test_who(who, camera, stranger):
    made = callers_of()
    assert made.class_of(made.principal("camera", 10010, uid_matters=False)).within(who) is camera
    other = callers_of("10011")
    assert other.class_of(other.principal(None, 10011, uid_matters=False)).within(who) is stranger
