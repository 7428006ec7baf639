"""`policy diff` against the naive evaluator: no difference is missing, and every example differs."""

from __future__ import annotations

import dataclasses
import errno
import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import REDACTIONS, Audit, FileType, Op
from policyfs.policy.analysis import diff as diff_module
from policyfs.policy.analysis.diff import Block, Diff, diff
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.analysis.requests import Request
from policyfs.policy.decide import compile_policy
from policyfs.policy.model import Effect, Policy, Rule
from tests.property.test_policy_engine import CASES, PARTS, naive, requests, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Answer, Caller, Naive, Node, words_of_ban

pytestmark = pytest.mark.timeout(max(600, CASES // 10))


DEFAULTS = ("audit_allowed", "audit_denied")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """A policy, and another that was changed in a rule, in the apps, in its defaults, or as a whole."""
    old = draw(cases.policies(max_rules=3))
    how = draw(st.integers(0, 7))
    new = draw(cases.policies(max_rules=2)) if how == 0 else old
    made = [*new.rules]
    if how in (1, 2, 3) and made:
        del made[draw(st.integers(0, len(made) - 1))]
    if how in (2, 3, 4, 5, 6):
        made.append(draw(cases.rules(50)))
    apps = new.apps
    if how == 6:
        apps = (cases.app("a", ((7, 7),), "g"), cases.app("b", ((8, 9),)))
    if how == 7:
        apps = (cases.app("a", ((7, 8),)), cases.app("b", ((9, 9),), "g"))
    if draw(st.booleans()):
        new = dataclasses.replace(new, **dict(zip(DEFAULTS, draw(cases.default_audits), strict=True)))
    return old, dataclasses.replace(new, apps=apps, rules=tuple(made))


def app_of(policy: Policy, uid: int) -> str | None:
    return next((app.name for app in policy.apps for a, b in app.uids if a <= uid <= b), None)


def answers(text: Naive, caller: Caller, node: Node, op: Op) -> Answer:
    found = text.decide(caller, Op.SEE | op, node)
    if not found.allowed:
        return found
    if op is Op.CREATE and node.ftype is FileType.REGULAR:  # what a rename or link brings
        return found._replace(content=text.content(caller, node))
    if op is Op.ATTR:
        of_any_kind = node._replace(facts=node.facts._replace(kind=None))
        asked = text.enforced(caller, Op.WRITE, of_any_kind, Effect.CONTENT)
        bans = any(words_of_ban(rule.content) for rule in asked)
        return found._replace(content=frozenset({frozenset({"no user.*"})}) if bans else frozenset())
    return found


def told(before: Answer, after: Answer) -> tuple[object, ...] | None:
    """What a block must say of two answers."""
    if before.allowed != after.allowed:
        return Aspect.ACCESS, Direction.WIDER if after.allowed else Direction.NARROWER
    if before.errno != after.errno:
        return Aspect.ERRNO, Direction.OTHER
    if before.redact != after.redact:
        return (Aspect.REDACTION, Direction.NARROWER if before.redact < after.redact else Direction.WIDER)
    if before.content != after.content:
        return Aspect.CONTENT, None
    if before.quarantine != after.quarantine:
        return Aspect.QUARANTINE, Direction.OTHER
    if before.audit != after.audit:
        return Aspect.RECORD, Direction.NARROWER if before.audit < after.audit else Direction.WIDER
    return None


_TOLD_OF = {Op.CREATE: Op.WRITE, Op.ATTR: Op.WRITE | Op.CREATE}
"""A change of what files must hold is told for the first of write, create and attr that is allowed."""


def sum_of(block: Block) -> Op:
    return functools.reduce(operator.or_, block.ops)


def says(block: Block, label: str, op: Op, what: tuple[object, ...]) -> bool:
    return (
        block.aspect is what[0]
        and what[1] in (None, block.direction)
        and (op in block.ops or (what[0] is Aspect.CONTENT and bool(_TOLD_OF.get(op, Op(0)) & sum_of(block))))
        and any(one == label or one.endswith(f"({label})") for one in block.who)
    )


def label_of(names: list[str | None]) -> str:
    shown = ["stranger" if name is None else name for name in names]
    return shown[0] if shown[0] == shown[1] else ", then ".join(shown)


def missing(found: Diff, old: Naive, new: Naive, callers: list[Caller], node: Node, op: Op) -> object:
    """What differs and is in no block; None: nothing."""
    before, after = answers(old, callers[0], node, op), answers(new, callers[1], node, op)
    what = told(before, after)
    if what is None:
        return None
    if what[0] is Aspect.ERRNO:
        seen = [text.seen(caller, node) for text, caller in zip((old, new), callers, strict=True)]
        if seen[0] != seen[1]:
            return None  # its block is about see
    hidden = any(text.hiding_above(caller, node) for text, caller in zip((old, new), callers, strict=True))
    if what[0] is Aspect.RECORD and hidden:
        return None  # the rule that hides the directory decides about the record
    label = label_of([caller.app for caller in callers])
    if any(says(block, label, op, what) for block in found.blocks):
        return None
    by_default = what[0] is Aspect.RECORD and {
        note.direction for note in found.notes if "defaults" in note.text
    }
    return None if by_default and what[1] in by_default else (label, op, what)


@pytest.mark.parametrize("part", range(PARTS))
@share(0.06 / PARTS)
@given(pairs(), st.lists(requests, min_size=8, max_size=8))
def test_no_request_that_differs_is_missing(part, policies, asked):
    del part  # each is another choice of cases
    old, new = policies
    found = diff(old, new)
    texts = naive(old), naive(new)
    for caller, ops, path, ftype, facts, owners in asked:
        if path == b"/":
            ftype = FileType.DIRECTORY
        callers = [caller, caller]
        if caller.app is None or caller.uid in (7, 8, 9):  # through a shared mount
            callers = [Caller(app_of(policy, caller.uid), caller.uid) for policy in policies]
        node = Node(path, ftype, facts, owners)
        for op in ops:
            assert missing(found, *texts, callers, node, op) is None


def answer_to(policy: Policy, request: Request, index: int) -> Answer:
    caller = Caller(request.subject.apps[index], request.subject.uid)
    node = Node(request.path, request.ftype, request.facts, request.owners)
    return answers(naive(policy), caller, node, request.op)


@pytest.mark.parametrize("part", range(PARTS))
@share(0.06 / PARTS)
@given(pairs())
def test_every_example_differs_as_it_says(part, policies):
    del part
    old, new = policies
    engines = [compile_policy(policy) for policy in policies]
    for block in diff_module._differences(old, new):  # with those that notes on defaults tell
        for op, change, request in block.examples:
            assert request.op is op
            if not any(request.subject.absent):
                assert change in request.changes(*engines)
            if block.aspect is Aspect.IO:
                continue
            before, after = (answer_to(policy, request, index) for index, policy in enumerate(policies))
            what = told(before, after)
            assert what is not None, (block, before, after)
            if block.aspect is Aspect.ACCESS:
                for answer, words in ((before, change.before), (after, change.after)):
                    code = "allowed" if answer.allowed else errno.errorcode[answer.errno]
                    assert words.split(",")[0] == code
            elif what[0] is block.aspect and what[0] in (Aspect.REDACTION, Aspect.RECORD):
                assert what[1] is block.direction
            if what[0] is Aspect.ACCESS:
                assert block.aspect is Aspect.ACCESS


@share(0.02)
@given(cases.policies())
def test_a_policy_does_not_differ_from_itself(policy):
    again = dataclasses.replace(policy, rules=tuple(reversed(policy.rules)))
    assert diff(policy, again) == Diff((), ())


def _by_op(rule: Rule) -> list[Rule]:
    alone = rule.effect in (Effect.REDACT, Effect.CONTENT)
    return [rule] if alone else [dataclasses.replace(rule, ops=op) for op in Op if op & rule.ops]


def _by_glob(rule: Rule) -> list[Rule]:
    return [dataclasses.replace(rule, paths=None if one is None else (one,)) for one in rule.paths or (None,)]


def _by_app(rule: Rule) -> list[Rule]:
    who = rule.who
    if who is None or who.apps is None:
        return [rule]
    named = {name for one in who.apps for name in (cases.APPS if one == "any" else (one,))}
    whos = [dataclasses.replace(who, apps=frozenset({one})) for one in sorted(named)]
    return [dataclasses.replace(rule, who=one) for one in whos]


def _without_grants(rule: Rule) -> list[Rule]:
    who = rule.who
    if who is None or who.grants is None or who.apps is not None:
        return [rule]
    return [dataclasses.replace(rule, who=dataclasses.replace(who, grants=None, apps=frozenset({"a"})))]


def _more_words(rule: Rule) -> list[Rule]:
    redact = REDACTIONS if "all-metadata" in rule.redact else rule.redact
    more = {f"{kind.partition('/')[0]}/jpeg" for kind in rule.content if kind.endswith("/*")}
    return [dataclasses.replace(rule, redact=redact, content=rule.content | more), rule]


REWRITES = (_by_op, _by_glob, _by_app, _without_grants, _more_words)


@pytest.mark.parametrize("part", range(PARTS))
@share(0.1 / PARTS)
@given(cases.policies(), st.lists(st.sampled_from(REWRITES), min_size=1, max_size=3), st.booleans())
def test_two_texts_with_one_meaning_do_not_differ(part, old, rewrites, all_metadata):
    del part
    if all_metadata:
        words = frozenset({"all-metadata"})
        rules = (dataclasses.replace(rule, redact=rule.redact and words) for rule in old.rules)
        old = dataclasses.replace(old, rules=tuple(rules))
    rules = list(old.rules)
    for rewrite in rewrites:
        rules = [new for rule in rules for new in rewrite(rule)]
    rules = [dataclasses.replace(rule, id=f"n{number}") for number, rule in enumerate(rules)]
    new = dataclasses.replace(old, rules=tuple(rules))
    assert diff(old, new) == diff(new, old) == Diff((), ())


@share(0.05)
@given(cases.policies(), st.sampled_from(list(Audit)), st.sampled_from(list(Audit)))
def test_a_level_that_moves_between_the_defaults_and_a_rule_does_not_differ(made, level, unused):
    """A rule of this level about all requests, or a default: both count for what is allowed."""
    plain = [dataclasses.replace(rule, audit=None) for rule in made.rules]
    every = cases.plain(99, Effect.ALLOW, None)
    by_rule, by_default = (
        dataclasses.replace(
            made,
            rules=(*plain, dataclasses.replace(every, audit=audit)),
            audit_allowed=default,
            audit_denied=Audit.REQUIRED,
        )
        for audit, default in ((level, unused), (None, level))
    )
    assert diff(by_rule, by_default) == diff(by_default, by_rule) == Diff((), ())


def _said(blocks: list[Block]) -> set[tuple[object, ...]]:
    return {(block.direction, block.aspect, frozenset(block.rules), block.ops, block.who) for block in blocks}


@pytest.mark.parametrize("part", range(PARTS))
@share(0.03 / PARTS)
@given(pairs())
def test_callers_looked_at_one_by_one_and_together_say_the_same(part, policies):
    """And each example that was found for another caller differs for its own."""
    del part  # each is another choice of cases
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diff_module, "MAX_JOINT_PLACES", 0)
        each = diff_module._differences(*policies)
    shared = diff_module._differences(*policies)
    assert _said(each) == _said(shared)
    for block in shared:
        for example in block.examples:
            if block.aspect is Aspect.ACCESS and not any(example.request.subject.absent):
                before, after = (
                    answer_to(policy, example.request, index) for index, policy in enumerate(policies)
                )
                assert before.allowed != after.allowed, (block, example)
