"""The bound of a proposal: what the policy in force at the end of a trail refuses is not proposed."""

from __future__ import annotations

import itertools

import pytest

from policyfs.domain import Op
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.learn.bound import Bound, Limit
from policyfs.policy.model import Block, Policy
from policyfs.policy.replay.recorded import Cause, Recorded
from tests.support.models.policies import engine_of

READ = '- {id: read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"%s}\n'
MORE = '- {id: more, allow: [see, read], who: {app: any}, paths: "/Music/**"}\n'
OWN = '- {id: own, allow: [all], who: {app: any}, paths: "/DCIM/**", when: {owner: self}}\n'
DEAR = [f"/*{'*'.join(order)}*" for order in list(itertools.permutations("abcde"))[:100]]
HARD = f"- {{id: hard, allow: [see], paths: {DEAR}}}\n"
SEEN = Recorded("gallery", 10011, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ("read",), view="raw")


def policy(rules: str) -> Policy:
    return engine_of(rules).policy


def bound(rules: str, *, monitor: bool = False) -> Bound:
    return Bound(policy(rules), monitor, lambda recorded, monitor: None)


def test_a_proposal_that_allows_more_is_wider_and_one_that_allows_less_is_not() -> None:
    assert bound(READ % "").wider(policy(READ % "" + MORE))
    assert bound(READ % "" + MORE).wider(policy(READ % "")) == []


def test_with_monitor_nothing_is_compared() -> None:
    assert bound(READ % "", monitor=True).wider(policy(READ % "" + MORE)) == []


def test_the_conditions_are_those_of_the_rules_that_allow_a_path() -> None:
    rules = READ % ", when: {type: image/jpeg}" + OWN + "- {id: d, deny: [read], when: {owner: none}}\n"
    found = bound(rules).limits("gallery", 10011, b"/DCIM/a", Op.SEE | Op.READ)
    assert found == {
        Limit(Block(frozenset({"image/jpeg"}), None, None)): Op.SEE | Op.READ,
        Limit(Block(None, frozenset({"self"}), None)): Op.SEE | Op.READ,
    }
    way = bound(READ % "").limits("gallery", 10011, b"/DCIM", Op.SEE)
    assert list(way) == [Limit(Block(frozenset({"inode/directory"}), None, None))]
    assert bound(READ % "").limits("gallery", 10011, b"/Music", Op.SEE) == {}


def test_policies_that_are_too_hard_to_compare_are_not_equal() -> None:
    with pytest.raises(TooHardError):
        bound(READ % "").wider(policy(READ % "" + HARD))


@pytest.mark.parametrize(
    ("rules", "recorded", "path", "allowed"),
    [
        (READ % "", SEEN, b"/DCIM/a", True),
        (READ % "", SEEN, b"/Music/a", False),
        (READ % "", SEEN._replace(app="nobody", mounted="nobody"), b"/DCIM/a", False),
        (READ % "", SEEN._replace(syscall="open(O_WRONLY)"), b"/DCIM/a", False),
        (READ % "", SEEN._replace(operation="strange"), b"/Music/a", True),
        (READ % "", SEEN._replace(allowed=False), b"/Music/a", True),
        (READ % ", when: {type: image/jpeg}", SEEN, b"/DCIM/a", False),
        (READ % ", when: {type: image/jpeg}", SEEN._replace(kind="image/jpeg"), b"/DCIM/a", True),
        (OWN, SEEN, b"/DCIM/a", False),
    ],
)
def test_what_the_policy_at_the_end_refuses_or_may_refuse_is_taken_away(
    rules: str, recorded: Recorded, path: bytes, allowed: bool
) -> None:
    assert bound(rules).allows(recorded, path, None, empty=None) is allowed


def test_what_the_same_policy_allowed_is_allowed_though_the_facts_are_not_on_record() -> None:
    same = policy(OWN)
    mine = Bound(same, False, lambda recorded, monitor: engine_of(OWN))
    assert mine.allows(SEEN._replace(digest=same.digest), b"/DCIM/a", None, empty=None)
    assert not mine.allows(SEEN._replace(digest="another"), b"/DCIM/a", None, empty=None)


@pytest.mark.parametrize(
    ("rules", "recorded", "own"),
    [
        (OWN, SEEN, True),
        (READ % "" + OWN, SEEN, False),
        (READ % "" + OWN, SEEN._replace(syscall="open(O_WRONLY)"), True),
        (READ % "", SEEN._replace(syscall="open(O_WRONLY)"), False),
        (OWN, SEEN._replace(app=None, uid=4711), False),
        (OWN, SEEN._replace(operation="create", syscall="open(O_WRONLY|O_CREAT)"), False),
        (OWN, SEEN._replace(operation="rename", syscall="rename"), False),
        (OWN, SEEN._replace(operation="strange"), False),
    ],
)
def test_what_the_policy_allows_an_app_with_its_own_files_only(
    rules: str, recorded: Recorded, own: bool
) -> None:
    assert bound(rules).allows_only_own(recorded, b"/DCIM/a") is own
