"""The effects of rules added up: who wins, what is recorded, and with which errno."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from policyfs.domain import Audit, Op
from policyfs.policy.model import Effect
from policyfs.policy.rules.facts import Kinds, Truth
from policyfs.policy.rules.table import Live
from policyfs.policy.rules.tally import NO_ALLOW, Tally, least
from tests.support.models.policies import engine_of

POLICY = engine_of('- {id: a, allow: [see], who: {app: any}, paths: "/**"}\n').policy
PLAIN = replace(POLICY.rules[0], who=None)
SEE, READ, WRITE = int(Op.SEE), int(Op.READ), int(Op.WRITE)
PHOTOS, TEXTS = frozenset({"image/*"}), frozenset({"text/*"})


def rule(name: str, effect: Effect, ops: Op = Op.READ, raw: frozenset[str] = frozenset(), **more) -> Live:
    made = replace(PLAIN, id=name, effect=effect, ops=ops, raw_types=raw, **more)
    return Live(ord(name[0]), made, None, (), Kinds(raw))


def tally(
    ops: int, *lives: Live, can_fill: bool = True, lenient: bool = False, kind: str | None = None
) -> Tally:
    made = Tally(POLICY, ops, can_fill=can_fill, lenient=lenient)
    for live in lives:
        made.count(live, live.ops & ops, Truth.YES, kind)
    return made


def allow(name: str, ops: Op = Op.READ, **more) -> Live:
    return rule(name, Effect.ALLOW, ops, **more)


def deny(name: str, ops: Op = Op.READ, **more) -> Live:
    return rule(name, Effect.DENY, ops, **more)


def test_each_operation_asked_for_must_be_allowed() -> None:
    assert tally(READ, allow("a")).decision(bare=False).allowed
    half = tally(READ | WRITE, allow("a")).decision(bare=False)
    assert (half.allowed, half.errno) == (False, errno.EACCES)
    assert tally(READ | WRITE, allow("a"), allow("b", Op.WRITE)).decision(bare=False).allowed
    assert not tally(READ).decision(bare=False).allowed


@pytest.mark.parametrize("lives", [("a", "d"), ("d", "a")])
def test_a_deny_wins_in_any_order_and_one_of_another_operation_does_not(lives: tuple[str, ...]) -> None:
    rules = {"a": allow("a", Op.READ | Op.WRITE), "d": deny("d", Op.WRITE)}
    made = [rules[name] for name in lives]
    assert tally(READ, *made).decision(bare=False).allowed
    assert tally(WRITE, *made).decision(bare=False).errno == errno.EACCES
    assert tally(READ | WRITE, *made).decision(bare=False).errno == errno.EACCES


def test_a_maybe_denies_and_does_not_allow() -> None:
    for truth, wanted in ((Truth.YES, True), (Truth.UNKNOWN, False)):
        made = tally(READ)
        made.count(allow("a"), READ, truth, None)
        assert made.decision(bare=False).allowed is wanted
    made = tally(READ, allow("a"))
    made.count(deny("d"), READ, Truth.UNKNOWN, None)
    decision = made.decision(bare=False)
    assert not decision.allowed
    assert [match.certain for match in decision.rules] == [True, False]


@pytest.mark.parametrize("truths", [(Truth.YES, Truth.UNKNOWN), (Truth.UNKNOWN, Truth.YES)])
def test_a_rule_is_certain_only_if_it_was_each_time(truths: tuple[Truth, Truth]) -> None:
    made = tally(READ | WRITE, allow("a", Op.READ | Op.WRITE))
    both = deny("d", Op.READ | Op.WRITE)
    for op, truth in zip((READ, WRITE), truths, strict=True):
        made.count(both, op, truth, None)
    (match,) = [match for match in made.decision(bare=False).rules if match.rule == "d"]
    assert (match.op, match.certain) == (Op.READ | Op.WRITE, False)


def test_the_errno_tells_least() -> None:
    denies = deny("d", errno=errno.EROFS), deny("e", errno=errno.EPERM), deny("f", Op.WRITE)
    assert tally(READ, allow("a"), *denies).decision(bare=False).errno == errno.EPERM
    assert tally(READ, *denies).decision(bare=False).errno == errno.EPERM, "no allow is needed to refuse"
    both = tally(READ | WRITE, denies[0]).decision(bare=False)
    assert both.errno == errno.EACCES, "for the write, which no rule allows"
    assert least([]) == 0
    assert least([errno.EROFS, errno.ENOENT, errno.EACCES]) == errno.ENOENT
    assert least([errno.EIO, errno.EXDEV]) == errno.EXDEV


def test_what_is_not_seen_is_absent_for_any_operation() -> None:
    made = tally(READ, allow("a"), deny("d", errno=errno.EROFS))
    made.unseen = True
    assert made.decision(bare=False).errno == errno.ENOENT


def test_monitored_rules_are_told_and_change_nothing() -> None:
    watched = deny("d", monitor=True)
    decision = tally(READ, allow("a"), watched, allow("b", monitor=True)).decision(bare=False)
    assert (decision.allowed, decision.would_deny, decision.would_allow) == (True, ("d",), ("b",))
    assert not tally(READ, allow("b", monitor=True)).decision(bare=False).allowed


def test_a_rule_that_hides_nothing_of_the_root_sets_no_level_of_a_refusal_there() -> None:
    made = tally(
        SEE | WRITE, allow("a", SEE), deny("d", SEE, audit=Audit.REQUIRED), deny("e", WRITE, audit=Audit.OFF)
    )
    assert made.decision(bare=True).audit is Audit.OFF
    made.unseen = True
    assert made.decision(bare=False).audit is Audit.REQUIRED


def test_no_rule_is_tried_out_below_a_hidden_directory() -> None:
    made = tally(READ, allow("b", monitor=True), deny("d", monitor=True))
    made.unseen = True
    made.hide((deny("h", SEE, audit=Audit.OFF),))
    decision = made.decision(bare=False)
    assert (decision.would_deny, decision.would_allow, decision.audit) == ((), (), Audit.OFF)


def test_a_dry_run_names_the_denies_and_the_missing_allow() -> None:
    denied = tally(READ, allow("a"), deny("d"), lenient=True).decision(bare=False)
    assert (denied.allowed, denied.errno, denied.would_deny) == (True, 0, ("d",))
    assert [match.monitor for match in denied.rules] == [False, True]
    missing = tally(READ, lenient=True).decision(bare=False)
    assert (missing.allowed, missing.would_deny) == (True, (NO_ALLOW,))
    assert tally(READ, allow("a"), lenient=True).decision(bare=False).would_deny == ()
    only_denied = tally(SEE | READ, deny("d"), lenient=True).decision(bare=False)
    assert only_denied.would_deny == ("d",), "whether it is seen is not told here"


@pytest.mark.parametrize(("named", "told"), [(False, (NO_ALLOW,)), (True, ())])
def test_a_dry_run_tells_of_a_missing_see_unless_a_rule_hides_it(named: bool, told: tuple[str, ...]) -> None:
    made = tally(READ, allow("a"), lenient=True)
    made.unseen, made.named = True, named
    assert made.decision(bare=False).would_deny == told


def test_redactions_add_up_and_raw_types_count_only_if_all_have_the_kind() -> None:
    one = rule("r", Effect.REDACT, raw=frozenset({"text/plain"}), redact=frozenset({"location"}))
    other = rule("s", Effect.REDACT, redact=frozenset({"time"}))

    def redacted(kind: str | None, *lives: Live) -> frozenset[str]:
        return tally(READ, allow("a"), *lives, kind=kind).decision(bare=False).redact

    assert redacted("image/jpeg", one, other) == {"location", "time"}
    assert redacted("text/plain", one) == frozenset()
    assert redacted("text/plain", one, other) == redacted("text/plain", other, one) == {"location", "time"}
    assert redacted(None, one) == {"location"}, "an unknown kind is let through by nobody"


def test_a_refusal_carries_no_obligations() -> None:
    made = tally(
        READ | WRITE, deny("d"), rule("r", Effect.REDACT, redact=frozenset({"time"})),
        rule("c", Effect.CONTENT, Op.WRITE, content=PHOTOS, quarantine=True),
    )  # fmt: skip
    decision = made.decision(bare=False)
    assert (decision.redact, decision.content, decision.quarantine) == (frozenset(), (), False)


def test_requirements_add_up_monitored_ones_apart_and_none_where_nothing_can_be_filled() -> None:
    lives = (
        allow("a", Op.WRITE), rule("c", Effect.CONTENT, Op.WRITE, content=PHOTOS),
        rule("d", Effect.CONTENT, Op.WRITE, content=PHOTOS, quarantine=True),
        rule("e", Effect.CONTENT, Op.WRITE, content=TEXTS, monitor=True),
    )  # fmt: skip
    decision = tally(WRITE, *lives).decision(bare=False)
    assert (decision.content, decision.monitored_content) == ((PHOTOS,), (("e", TEXTS),))
    assert decision.quarantine
    watched = rule("f", Effect.CONTENT, Op.WRITE, content=TEXTS, monitor=True, quarantine=True)
    assert not tally(WRITE, lives[0], watched).decision(bare=False).quarantine
    empty = tally(WRITE, *lives, can_fill=False).decision(bare=False)
    assert (empty.content, empty.monitored_content, len(empty.rules)) == ((), (), 1)


OFF, BEST, MUST = Audit.OFF, Audit.BEST_EFFORT, Audit.REQUIRED


def hiding(name: str, **more) -> Live:
    return rule(name, Effect.REDACT, redact=TEXTS, **more)


@pytest.mark.parametrize(
    ("lives", "level"),
    [
        ((allow("a"),), POLICY.audit_allowed),
        ((allow("a", audit=OFF),), OFF),
        ((allow("a", audit=MUST),), MUST),
        ((allow("a", audit=OFF), allow("b", audit=MUST)), MUST),
        ((deny("d"),), POLICY.audit_denied),
        ((deny("d", audit=OFF),), OFF),
        ((allow("a", audit=MUST), deny("d", audit=OFF)), OFF),
        ((allow("a", audit=OFF), deny("d")), POLICY.audit_denied),
        ((allow("a", audit=OFF), rule("r", Effect.REDACT, redact=TEXTS)), POLICY.audit_denied),
        ((allow("a", audit=MUST), rule("r", Effect.REDACT, redact=TEXTS, audit=OFF)), MUST),
        ((allow("a"), rule("r", Effect.REDACT, redact=TEXTS, audit=OFF)), OFF),
        ((allow("a", audit=OFF), rule("c", Effect.CONTENT, content=TEXTS, audit=MUST)), MUST),
        ((allow("a", audit=MUST), rule("c", Effect.CONTENT, content=TEXTS, audit=OFF)), MUST),
        ((allow("a", audit=OFF), deny("d", monitor=True)), BEST),
        ((allow("a", audit=OFF), deny("d", monitor=True, audit=MUST)), MUST),
        ((allow("a", audit=OFF), allow("b", monitor=True)), BEST),
        ((deny("d"), hiding("r", audit=OFF)), MUST),
        ((deny("d"), hiding("r", audit=BEST)), MUST),
        ((deny("d"), rule("c", Effect.CONTENT, content=TEXTS, audit=OFF)), MUST),
        ((hiding("r", audit=OFF),), MUST),  # no rule allows it
        ((deny("d"), deny("e", audit=OFF)), MUST),
        ((deny("d", audit=OFF), hiding("r")), OFF),
        ((allow("a"), hiding("q"), hiding("r", audit=OFF)), MUST),
        ((allow("a"), hiding("r", audit=OFF), rule("c", Effect.CONTENT, content=TEXTS)), OFF),
        ((deny("d", audit=OFF), allow("a", monitor=True)), BEST),
    ],
)
def test_the_audit_level_is_that_of_the_rules_that_decided(lives: tuple[Live, ...], level: Audit) -> None:
    assert tally(READ, *lives).decision(bare=False).audit is level
