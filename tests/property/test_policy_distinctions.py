"""What the kernel of a shared mount may keep is the same for every caller, by the naive evaluator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import NO_FACTS, WORKER_UIDS, FileType, Op
from policyfs.fs.access.gate import Gate
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.model import Block, Effect, Policy, Rule
from tests.property.test_policy_engine import CASES, naive, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Naive, Node

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

EVERY_UID = ((0, WORKER_UIDS.start - 1), (WORKER_UIDS.stop, 2**32 - 2))
CALLERS = [Caller("a", 7), Caller("a", 8), Caller("b", 9), Caller(None, 0), Caller(None, 50)]
ONE_APP = [Caller("a", uid) for uid in (0, 7, 8, 9, 50)]


@st.composite
def hiding_rules(draw: st.DrawFn, number: int) -> Rule:
    """A rule that decides who sees a part of the tree: by caller, by owner, by a captured name."""
    effect = draw(st.sampled_from([Effect.DENY, Effect.DENY, Effect.DENY, Effect.ALLOW]))
    more: dict[str, object] = {"ops": draw(st.sampled_from([Op.SEE, Op.ALL]))}
    condition = draw(st.integers(0, 6))
    if condition in (0, 1):
        more["who"] = draw(cases.whos())
    elif condition == 2:
        more["when"] = Block(None, draw(cases.owners), None)
    elif condition == 3:
        more["unless"] = (Block(None, draw(cases.owners), None),)
    elif condition == 4:
        more["unless"] = (Block(None, None, draw(cases.narrow)),)
    elif condition == 5:
        more["when"] = Block(frozenset({draw(st.sampled_from(["image/*", "text/plain"]))}), None, None)
    return cases.plain(number, effect, draw(cases.narrow), **more)


@st.composite
def nearly_open(draw: st.DrawFn) -> Policy:
    """Everyone sees everything, or nothing, but for one or two rules."""
    made = [draw(hiding_rules(number)) for number in range(draw(st.integers(1, 2)))]
    if draw(st.integers(0, 3)):
        made.append(cases.plain(90, Effect.ALLOW, ("/**",), ops=Op.SEE | Op.READ))
    return cases.policy(*made)


@st.composite
def asked(draw: st.DrawFn) -> tuple[Policy, list[Caller]]:
    """A policy, and callers of every sort that can ask: with strangers, or one app that has every uid."""
    policy = draw(st.one_of(nearly_open(), nearly_open(), nearly_open(), cases.policies()))
    if draw(st.integers(0, 2)):
        return policy, CALLERS
    a, b = policy.apps
    return replace(policy, apps=(replace(a, uids=EVERY_UID), replace(b, uids=()))), ONE_APP


def timeouts(engine: Engine) -> Timeouts:
    """As a shared mount has them."""
    made = Timeouts(alone=False)
    made.use(engine)
    return made


def seen(naive: Naive, caller: Caller, path: bytes, ftype: FileType) -> list[object]:
    """All that a caller can be told of an object by its name: under all facts, known and unknown."""
    owners = (None,) * (path.count(b"/") - 1)
    return [
        naive.decide(caller, Op.SEE, Node(path, ftype, facts, owners))[:2]
        for facts in naive.all_facts(ftype, unknown=True)
    ]


def view(naive: Naive, caller: Caller, path: bytes) -> list[object]:
    """A caller's obligations on a file, under all facts."""
    found = []
    for facts in naive.all_facts(FileType.REGULAR, unknown=True):
        node = Node(path, FileType.REGULAR, facts, (None,) * (path.count(b"/") - 1))
        found.append((naive.redact(caller, node), naive.content(caller, node)))
    return found


def by_kind(naive: Naive, callers: list[Caller], path: bytes) -> bool:
    """True if perhaps a kind decides whether callers of two lanes see a file."""
    if callers is ONE_APP:
        return False
    owners = {facts.owner for facts in naive.all_facts(FileType.REGULAR, unknown=True)}
    above = (None,) * (path.count(b"/") - 1)
    return any(
        not all_alike([
            naive.decide(caller, Op.SEE, Node(path, FileType.REGULAR, facts, above))[:2]
            for facts in naive.all_facts(FileType.REGULAR, unknown=True)
            if facts.owner == owner
        ])
        for caller in callers
        for owner in owners
    )


def all_alike(answers: list[object]) -> bool:
    return all(answer == answers[0] for answer in answers)


paths = st.one_of(cases.near_paths, cases.near_paths, cases.near_paths, cases.some_paths)


@share(0.05)
@given(case=asked(), path=paths)
def test_a_name_that_the_kernel_keeps_is_the_same_for_all(case, path):
    policy, callers = case
    engine = compile_policy(policy)
    made, state = timeouts(engine), engine.state_of(path)
    text = naive(policy)
    if path == b"/":
        return
    for ftype in (FileType.REGULAR, FileType.DIRECTORY):
        if made.entry(state, None if ftype is FileType.REGULAR else ftype) > 0:
            assert all_alike([seen(text, caller, path, ftype) for caller in callers])
    if made.entry(state) > 0:
        assert not by_kind(text, callers, path)
    if made.entry(state, FileType.REGULAR) > 0:
        assert all_alike([seen(text, caller, path, FileType.REGULAR) for caller in callers])
        assert all_alike([view(text, caller, path) for caller in callers])


@share(0.03)
@given(case=asked(), path=paths)
def test_a_listing_that_the_kernel_keeps_is_the_same_for_all(case, path):
    policy, callers = case
    engine = compile_policy(policy)
    if not timeouts(engine).listing(engine.state_of(path)):
        return
    text = naive(policy)
    for name in cases.NAMES:
        child = path.rstrip(b"/") + b"/" + name.encode()
        assert not by_kind(text, callers, child)
        for ftype in (FileType.REGULAR, FileType.DIRECTORY):
            assert all_alike([seen(text, caller, child, ftype) for caller in callers])


@share(0.02)
@given(case=asked(), path=paths)
def test_attributes_of_a_directory_that_the_kernel_keeps_are_the_same_for_all(case, path):
    """Link count and size are shown to those that see every name; else they are neutral."""
    policy, callers = case
    engine = compile_policy(policy)
    made, state = timeouts(engine), engine.state_of(path)
    if path != b"/" and not made.entry(state, FileType.DIRECTORY):
        return
    gate = Gate(engine, app=None, resolver=None, facts=None, recorder=_Nobody(), owners_above=None)
    text = naive(policy)
    told = [gate.shows_all_in(engine.principal(caller.uid), state) for caller in callers]
    assert all_alike(told)
    if told[0]:
        for name in cases.NAMES:
            child = path.rstrip(b"/") + b"/" + name.encode()
            for caller in callers:
                answers = seen(text, caller, child, FileType.REGULAR)
                if seen(text, caller, path, FileType.DIRECTORY)[0][0] or path == b"/":
                    assert all(allowed for allowed, _ in answers)


@st.composite
def nearly_all_shown(draw: st.DrawFn) -> Policy:
    """An allow for all names but those of an exception, or for those of a pattern."""
    if draw(st.booleans()):
        but = (Block(None, None, draw(cases.narrow)),)
        return cases.policy(cases.plain(1, Effect.ALLOW, ("/**",), ops=Op.ALL, unless=but))
    patterns = ("/**/*a*", "/**/??*", "/*", "/**/*e", "/**/{app}*", "/*/**", "/a/*")
    globs = tuple(draw(st.lists(st.sampled_from(patterns), min_size=1, max_size=2, unique=True)))
    return cases.policy(cases.plain(1, Effect.ALLOW, globs, ops=Op.ALL))


@share(0.1)
@given(case=st.one_of(asked(), st.tuples(nearly_all_shown(), st.just(CALLERS))), path=paths)
def test_a_caller_that_sees_all_is_shown_each_name(case, path):
    """Whatever it is called and whatever it is; and plainly below means at every depth."""
    policy, callers = case
    engine = compile_policy(policy)
    state = engine.state_of(path)
    for who in (engine.principal(caller.uid) for caller in callers):
        children = [engine.child(state, name.encode()) for name in cases.NAMES]
        below = [engine.child(child, name.encode()) for child in children for name in cases.NAMES]
        if not engine.shows_all_in(who, state):
            children = []
        if not engine.shows_plainly_below(who, state):
            below = []
        for shown in children + below:
            for ftype in (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK):
                assert engine.decide(who, Op.SEE, shown, ftype, NO_FACTS).allowed, (path, ftype)


class _Nobody:
    """A recorder that records nothing."""

    def use_policy(self, generation: int, digest: str) -> None:
        pass
