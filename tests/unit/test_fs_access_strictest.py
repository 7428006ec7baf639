"""The strictest of several decisions: what a file's other names would refuse is refused."""

from __future__ import annotations

import errno
from itertools import product
from pathlib import Path

import pytest

from policyfs.domain import Audit, Decision, Facts, Op, RuleMatch
from policyfs.fs.access.strictest import stricter
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import MAPS, OPEN

ALLOW = RuleMatch("allow", "allow", Op.READ)
DENY, OTHER = RuleMatch("deny", "deny", Op.READ), RuleMatch("other", "deny", Op.READ)


def yes(**more) -> Decision:
    return Decision(allowed=True, errno=0, **more)


def no(code: int, **more) -> Decision:
    return Decision(allowed=False, errno=code, **more)


@pytest.mark.parametrize("first", [False, True])
def test_a_denial_is_stricter_and_is_recorded_as_strongly_as_either_asks(first: bool) -> None:
    one = yes(audit=Audit.REQUIRED, rules=(ALLOW,))
    other = no(errno.EACCES, audit=Audit.BEST_EFFORT, rules=(DENY,))
    got = stricter(one, other) if first else stricter(other, one)
    assert (got.allowed, got.errno, got.audit) == (False, errno.EACCES, Audit.REQUIRED)
    assert DENY in got.rules


@pytest.mark.parametrize("first", [False, True])
def test_of_two_denials_the_errno_says_least_and_all_rules_and_the_strongest_audit_stand(first: bool) -> None:
    one = no(errno.ENOENT, audit=Audit.OFF, rules=(DENY,))
    other = no(errno.EROFS, audit=Audit.REQUIRED, rules=(OTHER,))
    got = stricter(one, other) if first else stricter(other, one)
    assert (got.errno, got.audit, set(got.rules)) == (errno.ENOENT, Audit.REQUIRED, {DENY, OTHER})


def test_of_two_allowances_all_obligations_stand() -> None:
    photos, texts = frozenset({"image/*"}), frozenset({"text/plain"})
    one = yes(redact=frozenset({"location"}), content=(photos,), monitored_content=(("a", photos),))
    other = yes(content=(photos, texts), monitored_content=(("b", texts),), bare=True, audit=Audit.REQUIRED)
    got = stricter(one, other)
    assert got.redact == {"location"}
    assert got.content == (photos, texts)
    assert got.monitored_content == (("a", photos), ("b", texts))
    assert got.audit is Audit.REQUIRED


def test_one_answer_alone_is_itself() -> None:
    assert stricter(None, yes()) == yes()
    assert stricter(yes(), yes()) == yes()


@pytest.mark.parametrize(("one", "other"), list(product([False, True], repeat=2)))
def test_a_refused_file_is_kept_if_either_decision_keeps_it(one: bool, other: bool) -> None:
    got = stricter(yes(rules=(ALLOW,), quarantine=one), yes(rules=(OTHER,), quarantine=other))
    assert got.quarantine is (one or other)


def test_a_name_said_by_both_is_said_once_in_the_order_in_which_it_came() -> None:
    one = yes(rules=(ALLOW,), would_deny=("a", "b"), would_allow=("x",))
    other = yes(rules=(ALLOW, OTHER), would_deny=("b", "c"), would_allow=("x", "y"))
    got = stricter(one, other)
    assert (got.rules, got.would_deny, got.would_allow) == ((ALLOW, OTHER), ("a", "b", "c"), ("x", "y"))


def test_an_errno_without_a_rank_says_more_than_any_that_has_one() -> None:
    assert stricter(no(errno.EMLINK), no(errno.EXDEV)).errno == errno.EXDEV
    assert stricter(no(errno.EXDEV, rules=(DENY,)), no(errno.EMLINK)).errno == errno.EXDEV


def test_a_denial_carries_no_obligation_and_no_rule_of_who_allowed() -> None:
    allowed = yes(rules=(ALLOW,), redact=frozenset({"location"}), quarantine=True, would_allow=("x",))
    got = stricter(allowed, no(errno.EACCES, rules=(DENY,)))
    assert (got.rules, got.redact, got.content, got.quarantine) == ((DENY,), frozenset(), (), False)
    assert got.would_allow == ()


KEPT = """\
- {id: typed, require: {content: [image/jpeg]}, paths: "/**", on_refused: quarantine}
- {id: more, allow: [read], who: {app: maps}, paths: "/d/**"}
"""


@on_trio
async def test_a_file_keeps_its_quarantine_under_a_second_name(store: Path) -> None:
    """Two names that a reload tells apart; under each of them a refused file is put aside."""
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        node, caller = await made.walk("/empty", MAPS), made.caller(MAPS)
        await made.linker.link(node, await made.walk("/d", MAPS), b"too", caller)
        made.reload(engine_of(OPEN + KEPT))
        assert len(node.states()) == 2
        decision = made.gate.judge(caller.principal, Op.SEE | Op.WRITE, node, Facts(None, None))
        assert decision.allowed
        assert decision.quarantine


@pytest.mark.parametrize("first", [False, True])
def test_an_obligation_of_either_decision_stands(first: bool) -> None:
    one = yes(redact=frozenset({"location"}), bare=True, audit=Audit.REQUIRED, rules=(ALLOW,))
    other = yes(redact=frozenset({"time"}), audit=Audit.OFF)
    got = stricter(one, other) if first else stricter(other, one)
    assert got.redact == {"location", "time"}
    assert (got.bare, got.audit, got.rules) == (True, Audit.REQUIRED, (ALLOW,))


def test_of_two_denials_the_rules_that_only_watch_stand() -> None:
    one, other = no(errno.EACCES, would_deny=("a",)), no(errno.EACCES, would_deny=("b",), would_allow=("c",))
    got = stricter(one, other)
    assert (got.would_deny, got.would_allow) == (("a", "b"), ("c",))
    assert stricter(yes(would_deny=("a",)), other).would_deny == ("b",)
