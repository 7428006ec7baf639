"""Renames by callers that read files redacted: the engine against the naive evaluator."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Facts, FileType
from policyfs.policy.decide import compile_policy
from tests.property.test_policy_engine import CALLERS, EVERYONE, end, naive, owner_hides, principal, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Node

ALL = [*EVERYONE, *(Caller(app, uid) for app in "ab" for uid in (79, 97))]
"""All whom `{uid}` may mean in the paths here, in app mounts, too."""


@share(0.1)
@given(
    cases.losing_policies(),
    st.sampled_from(CALLERS),
    cases.near_paths,
    cases.near_paths,
    cases.facts,
    st.one_of(st.none(), cases.facts),
    st.booleans(),
)
def test_files_are_lost_as_little_as_the_text_says(
    policy, caller, old_path, new_path, facts, there, exchange
):
    engine, text = compile_policy(policy), naive(policy)
    old, new = (Node(path, FileType.REGULAR, facts) for path in (old_path, new_path))
    if old_path == new_path or owner_hides(engine, old, new):
        return
    replaced = None if there is None else Node(new_path, FileType.REGULAR, there)
    exchange = exchange and replaced is not None
    got = engine.rename(
        principal(engine, caller), end(engine, old), end(engine, new),
        None if replaced is None else end(engine, replaced), exchange,
    )  # fmt: skip
    assert got.errno == text.rename(ALL, caller, old, new, replaced, exchange=exchange)


@share(0.02)
@given(
    cases.losing_policies(),
    st.sampled_from(CALLERS),
    cases.near_paths,
    cases.near_paths,
    cases.some_owners,
)
def test_directories_are_lost_as_little_as_the_text_says(policy, caller, old_path, new_path, owner):
    engine = compile_policy(policy)
    old, new = (Node(path, FileType.DIRECTORY, Facts(None, owner)) for path in (old_path, new_path))
    if old_path == new_path or new_path.startswith(old_path + b"/") or owner_hides(engine, old, new):
        return
    got = engine.rename(principal(engine, caller), end(engine, old), end(engine, new), None, False)
    assert got.errno == naive(policy).rename(ALL, caller, old, new, None, exchange=False)
