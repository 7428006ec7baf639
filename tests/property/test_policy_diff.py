"""`policy diff` against the naive evaluator: no difference is missing, and every example differs."""

from __future__ import annotations

import dataclasses
import errno
import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import FileType, Op
from policyfs.policy.analysis import diff as diff_module
from policyfs.policy.analysis.diff import Block, Diff, diff
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.analysis.requests import Request
from policyfs.policy.model import Effect, Policy
from tests.property.test_policy_engine import CASES, PARTS, naive, requests, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Answer, Caller, Naive, Node, words_of_ban

pytestmark = pytest.mark.timeout(max(600, CASES // 10))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """A policy, and another that was changed in a rule, in the apps, or as a whole, but for its defaults."""
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
    return old, dataclasses.replace(old, apps=apps, rules=tuple(made))


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
    return None if any(says(block, label, op, what) for block in found.blocks) else (label, op, what)


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
    for block in diff(old, new).blocks:
        for op, change, request in block.examples:
            assert request.op is op
            if block.aspect is Aspect.IO:
                continue
            before, after = (answer_to(policy, request, index) for index, policy in enumerate(policies))
            what = told(before, after)
            assert what is not None, (block, before, after)
            if block.aspect is Aspect.ACCESS:
                for answer, words in ((before, change.before), (after, change.after)):
                    code = "allowed" if answer.allowed else errno.errorcode[answer.errno]
                    assert words.split(",")[0] == code
            elif what[0] is Aspect.REDACTION and block.aspect is Aspect.REDACTION:
                assert what[1] is block.direction
            if what[0] is Aspect.ACCESS:
                assert block.aspect is Aspect.ACCESS


@share(0.02)
@given(cases.policies())
def test_a_policy_does_not_differ_from_itself(policy):
    again = dataclasses.replace(policy, rules=tuple(reversed(policy.rules)))
    assert diff(policy, again) == Diff((), ())


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
