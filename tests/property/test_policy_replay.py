"""`policy replay` against the naive evaluator: verdicts are right, and open only where they must be."""

from __future__ import annotations

import dataclasses
import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Decision, Facts, FileType, Need, Op
from policyfs.policy.analysis.outcomes import Direction, changes
from policyfs.policy.decide import compile_policy
from policyfs.policy.model import Policy
from policyfs.policy.replay.recorded import Cause, Demand, Recorded, demand_of
from policyfs.policy.replay.replay import Replayer, Verdict
from tests.property.test_policy_diff import pairs, share
from tests.property.test_policy_engine import CALLERS, CASES, EVERYONE, PARTS, naive
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Answer, Caller, Naive, Node

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

_DEPENDS = ", depending on "
CLEANED = ", or refused where the kind cannot be cleaned"
CALLS = [
    ("lookup", "lookup"), ("list", "opendir"), ("open", "open(O_RDONLY)"), ("open", "open(O_RDWR)"),
    ("open", "open(O_WRONLY|O_TRUNC)"), ("open", "open(O_RDONLY|O_DIRECT)"), ("access", "access"),
    ("create", "open(O_RDWR|O_CREAT|O_EXCL)"), ("create", "open(O_WRONLY|O_CREAT)"), ("mkdir", "mkdir"),
    ("symlink", "symlink"), ("unlink", "unlink"), ("rmdir", "rmdir"), ("attr", "chmod"), ("read", "read"),
]  # fmt: skip
MOVES = [("rename", "rename"), ("rename", "renameat2(RENAME_EXCHANGE)"), ("link", "link")]
requests = st.tuples(
    st.sampled_from(CALLERS),
    st.sampled_from(CALLS),
    cases.some_paths,
    cases.facts,
    st.tuples(cases.some_owners, cases.some_owners, cases.some_owners),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
moves = st.tuples(
    st.sampled_from(CALLERS),
    st.sampled_from(MOVES),
    cases.move_paths,
    cases.move_paths,
    st.sampled_from([FileType.REGULAR, FileType.REGULAR, FileType.SYMLINK]),
    cases.facts,
    st.one_of(st.none(), st.tuples(st.sampled_from([FileType.REGULAR, FileType.SYMLINK]), cases.facts)),
)


def caller_in(policy: Policy, uid: int) -> Caller:
    app = next((app.name for app in policy.apps for a, b in app.uids if a <= uid <= b), None)
    return Caller(app, uid)


def answer(
    text: Naive, demand: Demand, uid: int, ops: Op, node: Node, *, empty: bool, known: Facts | None = None
) -> Answer:
    """The naive answer; with the rule of the file system that redacted files are written only emptied. known:
    the facts that the policy's answer needed; that rule always looks at the file's owner."""
    caller = caller_in(text.policy, uid)
    if demand.creates:
        kind = {FileType.DIRECTORY: "inode/directory", FileType.SYMLINK: "inode/symlink"}.get(node.ftype)
        node = node._replace(facts=Facts(kind, caller.app or "none"))
    found = text.decide(caller, ops, node if known is None else node._replace(facts=known))
    if demand.creates or not (found.allowed and demand.opens and Op.WRITE in ops):
        return found
    if demand.empties or empty or (caller.app is not None and node.facts.owner == caller.app):
        return found
    if not possible_redaction(text, caller, node):
        return found
    read = text.decide(caller, Op.SEE | Op.READ, node._replace(facts=Facts(None, node.facts.owner)))
    return found if read.allowed and not read.redact else found._replace(allowed=False, errno=errno.EACCES)


def possible_redaction(text: Naive, caller: Caller, node: Node) -> bool:
    every = text.all_facts(FileType.REGULAR, unknown=True)
    return any(text.redact(caller, node._replace(facts=facts)) for facts in every)


def decision_of(found: Answer) -> Decision:
    if not found.allowed:
        return Decision(False, found.errno)
    return Decision(
        True, 0, (), found.audit, redact=found.redact, content=tuple(found.content),
        quarantine=found.quarantine,
    )  # fmt: skip


def rules_of(policy: Policy, found: Answer) -> tuple[str, ...]:
    """The rules that an event names."""
    by_id = {rule.id: rule for rule in policy.rules}
    return tuple(
        sorted(
            name
            for name, _ in found.matched
            if not by_id[name].monitor and (found.allowed or by_id[name].effect.value == "deny")
        )
    )


def expected(before: Answer, after: Answer) -> tuple[object, ...]:
    found = list(changes(decision_of(before), decision_of(after)))
    if not found:
        return (None, "", "")
    direction = next(one for one in Direction if any(change.direction is one for change in found))
    texts = ["; ".join(dict.fromkeys(change[at] for change in found)) for at in (2, 3)]
    return (direction, *texts)


def said(verdict: Verdict) -> tuple[object, ...]:
    if verdict.direction is Direction.OTHER and ("raw (" in verdict.before or "redacted(" in verdict.before):
        return (None, "", "")  # the view alone
    return (verdict.direction, verdict.before, verdict.after.replace(CLEANED, ""))


def says(verdict: Verdict, wanted: tuple[object, ...]) -> bool:
    """Whether a verdict says that. One that depends on a fact names all answers that there may be."""
    if _DEPENDS not in verdict.after:
        return said(verdict) == wanted
    before, after = verdict.before, verdict.after.replace(CLEANED, "").split(_DEPENDS)[0]
    texts = [str(text) for text in wanted[1:]]
    return verdict.direction is wanted[0] and texts[0] in before and texts[1] in after


@pytest.mark.parametrize("part", range(PARTS))
@share(0.03 / PARTS)
@given(pairs(), st.lists(requests, min_size=4, max_size=4))
def test_a_verdict_is_that_of_the_text(part, policies, asked):
    del part
    old, new = policies
    engine = compile_policy(old)
    replayer = Replayer(compile_policy(new), lambda recorded, monitor: None if monitor else engine)
    for caller, (operation, syscall), path, facts, owners, which, told_kind, empty in asked:
        if path == b"/":
            continue
        demand = demand_of(operation, syscall)
        assert demand is not None
        uid, ops = caller.uid, demand.ops[which % len(demand.ops)]
        ftype = demand.types[which % len(demand.types)]
        node = Node(path, ftype, facts, owners)
        texts = naive(old), naive(new)
        before, after = (answer(text, demand, uid, ops, node, empty=empty) for text in texts)
        kind = facts.kind if told_kind and ftype is FileType.REGULAR and not demand.opens else None
        told = before
        if not demand.creates:  # a mount looks only for the facts that it needs
            need = engine.needs(engine.principal(uid), ops, engine.state_of(path), ftype)
            known = Facts(
                facts.kind if need & Need.KIND else None, facts.owner if need & Need.OWNER else None
            )
            told = answer(texts[0], demand, uid, ops, node, empty=empty, known=known)
        rules = rules_of(old, told)
        if texts[0].hiding_above(caller_in(old, uid), node):  # the rules of the directory
            said_so = engine.decide(engine.principal(uid), ops, engine.state_of(path), ftype, facts)
            rules = tuple(one.rule for one in said_so.rules if one.effect != "allow" and not one.monitor)
        recorded = Recorded(
            caller_in(old, uid).app, uid, None, operation, syscall, before.allowed, before.errno,
            Cause.CONTENT if before.errno == errno.EACCES and demand.opens else Cause.POLICY,
            rules, tuple(told.would_deny), kind, "raw", "old",
        )  # fmt: skip
        verdict = replayer.decide(replayer.asked(recorded), path, None, empty=empty)
        assert not verdict.by_answer
        if not verdict.untold:
            assert says(verdict, expected(before, after)), (verdict, before, after)
        elif "directory above" not in " ".join(verdict.untold) and FileType.DIRECTORY not in demand.types:
            assert len(possible(texts, demand, uid, node, recorded, empty=empty)) > 1


def possible(
    texts: tuple[Naive, Naive], demand: Demand, uid: int, node: Node, recorded: Recorded, *, empty: bool
) -> set[object]:
    """The directions of the changes of all files for which the old policy answers as recorded."""
    found = set()
    for ops, ftype in itertools.product(demand.ops, demand.types):
        for facts in texts[0].all_facts(ftype, unknown=True):
            if recorded.kind is not None and facts.kind not in (recorded.kind, "inode/symlink"):
                continue
            one = node._replace(ftype=ftype, facts=facts)
            before, after = (answer(text, demand, uid, ops, one, empty=empty) for text in texts)
            if (before.allowed, before.errno) == (recorded.allowed, recorded.errno):
                found.add(expected(before, after)[0])
    return found


@pytest.mark.parametrize("part", range(PARTS))
@share(0.008 / PARTS)
@given(cases.moving_policies(max_rules=2), cases.simple_rules(50), st.lists(moves, min_size=3, max_size=3))
def test_a_verdict_on_a_move_is_that_of_the_text(part, old, more, asked):
    del part
    new = dataclasses.replace(old, rules=(*old.rules, more))
    engines = compile_policy(old), compile_policy(new)
    replayer = Replayer(engines[1], lambda recorded, monitor: None if monitor else engines[0])
    for caller, (operation, syscall), old_path, new_path, ftype, facts, there in asked:
        exchange = "EXCHANGE" in syscall
        if old_path == new_path or (exchange and there is None):
            continue
        if any(e.owner_matters_above(e.state_of(path)) for e in engines for path in (old_path, new_path)):
            continue
        nodes = Node(old_path, ftype, facts), Node(new_path, ftype, facts)
        replaced = None if there is None else Node(new_path, *there)
        codes = []
        for policy in (old, new):
            text, one = naive(policy), caller_in(policy, caller.uid)
            if operation == "link":
                codes.append(text.link(EVERYONE, one, *nodes))
            else:
                codes.append(text.rename(EVERYONE, one, *nodes, replaced, exchange=exchange))
        recorded = Recorded(
            caller.app, caller.uid, None, operation, syscall, not codes[0], codes[0],
            Cause.CONTENT if codes[0] else Cause.NONE, (), (), None, "", "gone",
        )  # fmt: skip
        verdict = replayer.decide(replayer.asked(recorded), old_path, new_path, empty=None)
        if verdict.untold or verdict.by_answer:
            continue
        wanted = None
        if bool(codes[0]) != bool(codes[1]):
            wanted = Direction.NARROWER if codes[1] else Direction.WIDER
        elif codes[0] != codes[1]:
            wanted = Direction.OTHER
        got = None if verdict.before.startswith("audit:") else verdict.direction
        assert got is wanted, (codes, verdict)
