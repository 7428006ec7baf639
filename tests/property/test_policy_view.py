"""`policy view` against the naive evaluator: which names a caller sees, and with which rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from policyfs.cli.view.picture import Entry, Picture
from policyfs.cli.view.walk import Limits, Walk
from policyfs.domain import Facts, FileType, Lane, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.model import Policy
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from tests.property.test_policy_engine import CASES, EVERYONE, principal, share
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Naive, Node

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

DIRECTORIES = ("a", "a/b", "a/b/a", "b", "b/a", "7", "a/a")
FILES = ("x", "a/x", "a/b/x", "a/b/a/x", "b/a/x", "7/x", "a/a/x")
KIND = "image/jpeg"


class Looker:
    """Calls every file a photo."""

    async def kind_of_fd(self, _fd: int, *, lane: Lane = None) -> str | None:
        return KIND

    async def locate(self, _fd: int, _what: frozenset[str], *, lane: Lane = None) -> tuple[str | None, Plan]:
        return KIND, Plan(Outcome.CLEAN)


class NoOwners(Owners):
    """The store has no owners."""

    def get(self, _fd: int, _stat: object) -> str | None:
        return "none"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    store = tmp_path_factory.mktemp("store")
    for name in DIRECTORIES:
        (store / name).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (store / name).touch()
    with Tree.open(str(store)) as opened:
        yield opened


def shown(policy: Policy, caller: Caller, tree: Tree) -> dict[bytes, Entry]:
    engine, picture = compile_policy(policy), Picture("", "", "", "")
    who = principal(engine, caller)
    walk = Walk(tree, engine, who, NoOwners(trusted=False), Looker(), Limits(most=0, alike=0, samples=0))
    trio.run(walk.run, picture)
    return {entry.path: entry for entry in picture.entries}


def wanted(text: Naive, caller: Caller, path: bytes, ftype: FileType) -> Op | None:
    """The operations that the text allows on what is there; None if it is not seen."""
    node = Node(path, ftype, Facts(KIND if ftype is FileType.REGULAR else None, "none"), ("none",) * 3)
    if not text.decide(caller, Op.SEE, node).allowed:
        return None
    ops = [Op.DELETE, Op.ATTR] if ftype is FileType.DIRECTORY else [Op.READ, Op.WRITE, Op.DELETE, Op.ATTR]
    return Op(sum(int(op) for op in ops if text.decide(caller, Op.SEE | op, node).allowed))


@share(0.02)
@given(st.one_of(cases.policies(), cases.bare_policies()), st.sampled_from(EVERYONE))
def test_what_is_shown_is_what_the_text_shows(tree, policy, caller):
    found = shown(policy, caller, tree)
    names = [*dict.fromkeys([*cases.NAMES, "x", *cases.names_in(policy, caller.app, caller.uid)])]
    text = Naive(policy, names, cases.KINDS, 3)
    for name, ftype in [
        ("", FileType.DIRECTORY),
        *((name, FileType.DIRECTORY) for name in DIRECTORIES),
        *((name, FileType.REGULAR) for name in FILES),
    ]:
        path = f"/{name}".encode()
        entry, want = found.get(path), wanted(text, caller, path, ftype)
        assert (entry is None) == (want is None), path
        if entry is not None:
            assert entry.may & ~Op.CREATE == want, path
