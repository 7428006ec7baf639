"""`policy learn`: what was used is allowed, what a guard keeps back is not, and lint has nothing to say."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine
from policyfs.policy.explain import open_refusal
from policyfs.policy.learn.evidence import Evidence
from policyfs.policy.learn.globs import proposals
from policyfs.policy.learn.guards import Guard
from policyfs.policy.learn.proposal import silenced, text_of
from policyfs.policy.lint.lint import lint
from policyfs.policy.parse import SourceText
from policyfs.policy.replay.recorded import Cause, Recorded, demand_of
from tests.property.test_policy_diff import share
from tests.property.test_policy_engine import CASES, PARTS

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

CALLS = [
    ("open", "open(O_RDONLY)"), ("open", "open(O_RDONLY)"), ("open", "open(O_RDWR)"), ("list", "opendir"),
    ("create", "open(O_WRONLY|O_CREAT)"), ("create", "open(O_RDWR|O_CREAT)"), ("mkdir", "mkdir"),
    ("unlink", "unlink"), ("rename", "rename"), ("attr", "chmod"), ("stat", "stat"), ("access", "access"),
]  # fmt: skip
NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.png", "x", "y", "z", ".part", "we {ird}*.jpg", "\udcff.jpg"]
FOLDERS = ["A", "B", "C", "D", "gallery", "camera", ".git", "private", "Android", "data", "n*"]
paths = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(NAMES)).map(
    lambda parts: ("/" + "/".join([*parts[0], parts[1]])).encode("utf-8", "surrogateescape")
)
APPS = [("gallery", 7), ("camera", 8), ("backup", 9), (None, 50)]
events = st.tuples(
    st.sampled_from(APPS),
    st.sampled_from(CALLS),
    paths,
    st.sampled_from([None, None, "image/jpeg", "application/zip"]),
    st.sampled_from(["used", "used", "used", "denied", "unallowed"]),
    st.booleans(),
)


def recorded_of(app: str | None, uid: int, call: tuple[str, str], kind: str | None, how: str, mounted: bool):
    allowed = how == "used"
    return Recorded(
        app, uid, app if mounted else None, *call, allowed, 0 if allowed else errno.EACCES,
        Cause.NONE if allowed else Cause.POLICY, (), (), kind, "raw", "",
    )  # fmt: skip


def types(recorded: Recorded) -> tuple[FileType, ...]:
    demand = demand_of(recorded.operation, recorded.syscall)
    return () if demand is None else demand.types


def answers(engine: Engine, recorded: Recorded, path: bytes, ops: Op, owner: str) -> list[bool]:
    """Whether the proposal allows it, for every type that the file may have."""
    known = {app.name for app in engine.policy.apps}
    if recorded.app is not None and recorded.app not in known:
        return [False]
    who = engine.principal(recorded.uid)
    if recorded.app is not None:
        who = engine.app_principal(recorded.app, recorded.uid)
    found = []
    for ftype in types(recorded):
        decision = engine.decide(who, ops, engine.state_of(path), ftype, Facts(recorded.kind, owner))
        refused = recorded.operation == "open" and open_refusal(decision, recorded.kind) is not None
        found.append(decision.allowed and not refused)
    return found


@pytest.mark.parametrize("part", range(PARTS))
@share(0.06 / PARTS)
@given(st.lists(events, min_size=1, max_size=40))
def test_what_was_used_is_allowed_and_nothing_that_is_guarded(part, made):
    del part
    evidence = Evidence()
    seen = []
    for (app, uid), call, path, kind, how, mounted in made:
        recorded = recorded_of(app, uid, call, kind, how, mounted)
        guard = evidence.add(recorded, path, 1, lambda: "0:1", denied_by_rule=how == "denied")
        if how != "unallowed":
            seen.append((recorded, path, guard))
    rules = proposals(evidence)
    if not rules:
        assert evidence.used == 0 or all(one.operation in ("list", "stat") for one, _, _ in seen)
        return
    text = silenced(text_of(rules, evidence, ["device"]))
    source = SourceText("proposal", text.encode())
    engine = load_policy([source])
    # An allowance below a name that was denied, too, is proposed all the same: it has no effect.
    assert {one.id for one in lint(engine, [source], at_ns=0).findings} <= {"covered-by-deny"}
    denied = {(one.app, path) for one, path, guard in seen if guard is Guard.DENIED}
    for recorded, path, guard in seen:
        demand = demand_of(recorded.operation, recorded.syscall)
        assert demand is not None
        ops = demand.ops[0]
        if demand.move or recorded.operation == "access":
            assert guard is not None
        elif guard is None:
            own = demand.creates or bool(ops & (Op.WRITE | Op.ATTR))
            owner = recorded.app if own else "none"
            # What was a directory and a file at different times is proposed as one of the two.
            both = recorded.operation == "list" and any(
                other == path and (of := demand_of(one.operation, one.syscall)) is not None and of.creates
                for one, other, _ in seen
            )
            if (recorded.app, path) not in denied and not both:
                assert all(answers(engine, recorded, path, ops, owner or "none")), (recorded, path, text)
        elif guard in (Guard.STRANGER, Guard.DELETE, Guard.PRIVATE, Guard.DENIED):
            for owner in ("none", recorded.app or "none"):
                assert not any(answers(engine, recorded, path, ops, owner)), (guard, recorded, path, text)
        elif guard in (Guard.OVERWRITE, Guard.RAW):
            assert not any(answers(engine, recorded, path, ops, "none")), (guard, recorded, path, text)
