"""`policy learn`: what was used is allowed, what a guard keeps back is not, and lint has nothing to say."""

from __future__ import annotations

import errno
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine
from policyfs.policy.explain.explain import open_refusal
from policyfs.policy.learn.evidence import Evidence
from policyfs.policy.learn.globs import proposals
from policyfs.policy.learn.guards import Guard
from policyfs.policy.learn.proposal import silenced, text_of
from policyfs.policy.lint.lint import lint
from policyfs.policy.replay.recorded import Cause, Recorded, demand_of
from policyfs.policy.text.parse import SourceText
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
paths = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from([*NAMES, *FOLDERS])).map(
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


def is_denied(recorded: Recorded, path: bytes, seen: list[tuple[Recorded, bytes, Guard | None]]) -> bool:
    """Whether the app was denied something there: on the path, or to see a directory above it. A name that is
    no text is written with ``?``, so it stands for names like it."""
    for one, denied, guard in seen:
        if guard is not Guard.DENIED or one.app != recorded.app:
            continue
        demand = demand_of(one.operation, one.syscall)
        hides = demand is not None and not demand.move and demand.ops[0] == Op.SEE and denied != b"/"
        like = re.escape(denied).replace(b"\xff", b".") + (b"(/.*)?" if hides else b"")
        if re.fullmatch(like, path, re.DOTALL):
            return True
    return False


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
        used = [(one, path) for one, path, guard in seen if guard is None]
        assert all(one.operation in ("list", "stat") or is_denied(one, path, seen) for one, path in used)
        return
    text = silenced(text_of(rules, evidence, ["device"]))
    source = SourceText("proposal", text.encode())
    engine = load_policy([source])
    assert {one.id for one in lint(engine, [source], at_ns=0).findings} <= {"backup-redacted"}
    for recorded, path, guard in seen:
        demand = demand_of(recorded.operation, recorded.syscall)
        assert demand is not None
        ops = demand.ops[0]
        if demand.move or recorded.operation == "access":
            assert guard is not None
        elif guard is None:
            own = demand.creates or bool(ops & (Op.WRITE | Op.ATTR))
            owner = recorded.app if own else "none"
            if not is_denied(recorded, path, seen):
                assert all(answers(engine, recorded, path, ops, owner or "none")), (recorded, path, text)
        elif guard in (Guard.STRANGER, Guard.DELETE, Guard.PRIVATE, Guard.DENIED):
            for owner in ("none", recorded.app or "none"):
                assert not any(answers(engine, recorded, path, ops, owner)), (guard, recorded, path, text)
        elif guard in (Guard.OVERWRITE, Guard.RAW):
            assert not any(answers(engine, recorded, path, ops, "none")), (guard, recorded, path, text)
