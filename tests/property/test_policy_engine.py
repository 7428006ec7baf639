"""The compiled engine against the naive evaluator, over generated policies and requests.

POLICYFS_CASES sets how many cases in all (default 200; `make soak` asks for 200,000).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyfs.domain import Facts, FileType, Need, Op
from policyfs.policy.decide import REMEMBERED, End, Engine, compile_policy
from policyfs.policy.model import Policy
from policyfs.policy.rules.tally import NO_ALLOW
from tests.support.machine.counts import SOAK
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Naive, Node

CASES = int(os.environ.get("POLICYFS_CASES", "200"))

PARTS = max(1, CASES // 20_000) if SOAK else 1
"""So many tests share the long count: several processes can go through it."""

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

OPS = tuple(Op)  # to go through the class itself takes longer than to look an answer up
CALLERS = [Caller("a", 7), Caller("a", 8), Caller("b", 9), Caller(None, 0), Caller(None, 50)]
EVERYONE = [
    *CALLERS,
    Caller("b", 7),
    Caller("b", 8),
    Caller("b", 50),
    Caller("a", 9),
    Caller("a", 50),
    Caller("a", 0),
]


FEWEST = 12
"""Cases of a test, however small its share is."""


def share(part: float, fewest: int = FEWEST) -> settings:
    return settings(
        max_examples=max(fewest, int(CASES * part)),
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def naive(policy: Policy) -> Naive:
    return Naive(policy, cases.KINDS)


def principal(engine: Engine, caller: Caller):
    if caller.app is None:
        who = engine.principal(caller.uid)
        assert who.app is None
        return who
    return engine.app_principal(caller.app, caller.uid)


def chain(engine: Engine, node: Node):
    """The states and facts of the directories above, root first."""
    names = [n for n in node.path.split(b"/") if n]
    found = [(engine.root, Facts())]
    for i in range(1, len(names)):
        owner = node.owners[i - 1] if i - 1 < len(node.owners) else None
        found.append((engine.state_of(b"/" + b"/".join(names[:i])), Facts(None, owner)))
    return found


requests = st.tuples(
    st.sampled_from(EVERYONE),
    cases.op_sets,
    cases.some_paths,
    cases.file_types,
    cases.facts,
    st.tuples(cases.some_owners, cases.some_owners, cases.some_owners),
)


def check(policy: Policy, engine: Engine, caller: Caller, ops: Op, node: Node, *, monitor: bool) -> None:
    who = principal(engine, caller)
    state = engine.state_of(node.path)
    got = engine.decide(who, ops, state, node.ftype, node.facts)
    above = engine.hidden_above(who, chain(engine, node))
    if above is not None:
        assert engine.owner_matters_above(state) or not got.allowed
        got = above
    want = naive(policy).decide(caller, ops, node, monitor=monitor)
    assert (got.allowed, got.errno) == (want.allowed, want.errno)
    assert got.redact == want.redact
    assert frozenset(got.content) == want.content
    assert got.quarantine == want.quarantine
    assert got.audit == want.audit
    if above is None and not naive(policy).hiding_above(caller, node):
        assert frozenset((m.rule, int(m.op)) for m in got.rules) == want.matched
        assert frozenset(got.would_deny) - {NO_ALLOW} == want.would_deny
        assert frozenset(got.would_allow) == want.would_allow


@pytest.mark.parametrize("part", range(PARTS))
@share(0.66 / PARTS)
@given(
    policy=cases.policies(),
    monitor=st.booleans(),
    asked=st.lists(requests, min_size=1, max_size=2),
    remembered=st.sampled_from([1, 3, REMEMBERED]),
)
def test_engine_decides_as_the_text_does(part, policy, monitor, asked, remembered):
    del part  # each is another choice of cases
    engine = compile_policy(policy, monitor=monitor, remembered=remembered)
    for caller, ops, path, ftype, facts, owners in asked:
        if path == b"/":
            ftype = FileType.DIRECTORY
        # the others at the same path are not answered with what the first was
        for one in (caller, *CALLERS[:2]):
            check(policy, engine, one, ops, Node(path, ftype, facts, owners), monitor=monitor)


@share(0.1)
@given(
    cases.bare_policies(),
    st.sampled_from(EVERYONE),
    st.lists(cases.directories, min_size=1, max_size=3),
    cases.op_sets,
    cases.some_owners,
)
def test_a_directory_is_shown_if_and_only_if_it_leads_somewhere(policy, caller, paths, ops, owner):
    engine = compile_policy(policy)
    text = naive(policy)
    for path in paths:
        node = Node(path, FileType.DIRECTORY, Facts(None, owner), (owner,) * 3)
        who = principal(engine, caller)
        above = engine.hidden_above(who, chain(engine, node))
        got = above or engine.decide(who, Op.SEE | ops, engine.state_of(path), node.ftype, node.facts)
        want = text.decide(caller, Op.SEE | ops, node)
        assert (got.allowed, got.errno, got.audit) == (want.allowed, want.errno, want.audit)


@share(0.1)
@given(cases.policies(), st.sampled_from(EVERYONE), cases.op_sets, cases.paths, cases.file_types)
def test_facts_that_are_not_needed_change_nothing(policy, caller, ops, path, ftype):
    engine = compile_policy(policy)
    who, state = principal(engine, caller), engine.state_of(path)
    for other in CALLERS:  # what others were answered before makes no difference
        engine.needs(principal(engine, other), ops, state, ftype)
    need = engine.needs(who, ops, state, ftype)
    for facts in naive(policy).all_facts(ftype, unknown=True):
        known = Facts(facts.kind if need & Need.KIND else None, facts.owner if need & Need.OWNER else None)
        if (facts.kind is None and need & Need.KIND) or (facts.owner is None and need & Need.OWNER):
            continue
        full = engine.decide(who, ops, state, ftype, facts)
        part = engine.decide(who, ops, state, ftype, known)
        assert (full.allowed, full.errno, full.redact, full.content, full.audit, full.bare) == (
            part.allowed, part.errno, part.redact, part.content, part.audit, part.bare
        )  # fmt: skip
        assert full.quarantine == part.quarantine


@share(0.05)
@given(cases.policies(), cases.paths)
def test_a_view_names_all_obligations_there_can_be(policy, path):
    engine = compile_policy(policy)
    text = naive(policy)
    state = engine.state_of(path)
    shared: dict[int, object] = {}
    for caller in EVERYONE:
        view = engine.view(principal(engine, caller), state)
        duties = []
        for facts in text.all_facts(FileType.REGULAR, unknown=True):
            node = Node(path, FileType.REGULAR, facts)
            redact, content = text.redact(caller, node), text.content(caller, node)
            assert redact <= view.redact
            assert not content or view.checked
            duties.append((redact, content))
        assert shared.setdefault(view.key, duties) == duties


@share(0.08)
@given(
    st.one_of(cases.common_policies(), cases.common_policies(), cases.policies(max_rules=3)),
    cases.move_paths,
    st.sampled_from([False, False, False, True]),
)
def test_where_callers_do_not_matter_all_get_the_same(policy, path, monitor):
    engine = compile_policy(policy, monitor=monitor)
    text = naive(policy)
    state = engine.state_of(path)
    reached = [] if engine.caller_matters(state) else [path]
    if not engine.caller_matters_below(state):
        reached += [path.rstrip(b"/") + b"/" + name.encode() for name in cases.NAMES]
    everyone = [principal(engine, caller) for caller in EVERYONE]
    for one in reached:
        where = engine.state_of(one)
        for ftype in FileType:
            for facts in text.all_facts(ftype, unknown=True):
                answers = {
                    tuple(
                        (d.allowed, d.errno, d.redact, d.content)
                        for op in OPS
                        for d in [engine.decide(who, op, where, ftype, facts)]
                    )
                    for who in everyone
                }
                assert len(answers) == 1


def end(engine: Engine, node: Node) -> End:
    return End(engine.state_of(node.path), node.ftype, node.facts)


moves = st.tuples(
    st.sampled_from(CALLERS),
    cases.move_paths,
    cases.move_paths,
    st.sampled_from([FileType.REGULAR, FileType.REGULAR, FileType.SYMLINK]),
    cases.facts,
    st.one_of(st.none(), st.tuples(st.sampled_from([FileType.REGULAR, FileType.SYMLINK]), cases.facts)),
    st.booleans(),
)


def owner_hides(engine: Engine, *nodes: Node) -> bool:
    return any(engine.owner_matters_above(engine.state_of(node.path)) for node in nodes)


@share(0.09)
@given(st.one_of(cases.moving_policies(), cases.moving_policies(), cases.policies(max_rules=3)), moves)
def test_files_move_as_the_text_lets_them(policy, move):
    engine = compile_policy(policy)
    text = naive(policy)
    caller, old_path, new_path, ftype, facts, there, exchange = move
    old, new = Node(old_path, ftype, facts), Node(new_path, ftype, facts)
    if old_path == new_path or owner_hides(engine, old, new):
        return
    replaced = None if there is None else Node(new_path, there[0], there[1])
    exchange = exchange and replaced is not None
    who = principal(engine, caller)
    got = engine.rename(
        who,
        end(engine, old),
        end(engine, new),
        None if replaced is None else end(engine, replaced),
        exchange,
    )
    assert got.errno == text.rename(EVERYONE, caller, old, new, replaced, exchange=exchange)
    if replaced is None:
        linked = engine.link(who, end(engine, old), end(engine, new))
        assert linked.errno == text.link(EVERYONE, caller, old, new)


@share(0.02)
@given(
    st.one_of(cases.moving_policies(max_rules=2), cases.policies(max_rules=2)),
    st.sampled_from(CALLERS),
    cases.move_paths,
    cases.move_paths,
    cases.some_owners,
)
def test_directories_move_as_the_text_lets_them(policy, caller, old_path, new_path, owner):
    engine = compile_policy(policy)
    old = Node(old_path, FileType.DIRECTORY, Facts(None, owner))
    new = Node(new_path, FileType.DIRECTORY, Facts(None, owner))
    if old_path == new_path or new_path.startswith(old_path + b"/") or owner_hides(engine, old, new):
        return
    got = engine.rename(principal(engine, caller), end(engine, old), end(engine, new), None, False)
    assert got.errno == naive(policy).rename(EVERYONE, caller, old, new, None, exchange=False)
