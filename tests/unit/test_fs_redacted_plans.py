"""Redaction plans: an old one counts only with a proof, and only for the lane whose worker made it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest

from policyfs.content.cache import KindKey
from policyfs.fs.redacted.plans import PlanFinder, Proof
from policyfs.redact.core.values import Outcome, Plan
from tests.support.mount.file_system import Sniffed, on_trio

PLACE = frozenset({"location"})
KEY = KindKey(1, 2, 3, 4, 5, 6)
OLD = Plan(Outcome.CLEAN)
PROVEN = Proof(KEY, lambda: True)


class Memory:
    """Plans in a dictionary."""

    def __init__(self) -> None:
        self.plans: dict[tuple[KindKey, Hashable, frozenset[str]], tuple[str, Plan]] = {}

    async def plan(self, key: KindKey, lane: Hashable, what: frozenset[str]) -> tuple[str, Plan] | None:
        return self.plans.get((key, lane, what))

    def put_plan(self, key: KindKey, lane: Hashable, what: frozenset[str], kind: str, plan: Plan) -> None:
        self.plans[key, lane, what] = (kind, plan)


@pytest.fixture
def fd(store: Path) -> Iterator[int]:
    made = os.open(store / "a.jpg", os.O_RDONLY)
    yield made
    os.close(made)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def finder(memory: Memory) -> PlanFinder:
    return PlanFinder(Sniffed(), memory, lambda dev: dev == KEY.dev)


def found(
    finder: PlanFinder,
    fd: int,
    what: frozenset[str] = PLACE,
    proof: Proof | None = None,
    lane: str = "a",
    *,
    named: bool = False,
) -> tuple[str | None, Plan]:
    answers: list[tuple[str | None, Plan]] = []

    @on_trio
    async def run() -> None:
        answers.append(await finder.locate(fd, what, lane=lane, proof=proof, named=named))

    run()
    return answers[0]


def test_where_nothing_is_hidden_only_the_kind_is_found(finder: PlanFinder, fd: int) -> None:
    assert found(finder, fd, frozenset()) == ("image/jpeg", Plan(Outcome.CLEAN))


def test_only_who_asks_for_names_has_them_made(finder: PlanFinder, fd: int) -> None:
    """An app's open needs none, and they take time in the worker and in the daemon."""
    (_, bare), (_, named) = found(finder, fd), found(finder, fd, named=True)
    assert not bare.findings
    assert {one.container for one in named.findings} >= {"EXIF"}
    assert bare.patches == named.patches


def test_without_a_proof_nothing_remembered_is_used(finder: PlanFinder, memory: Memory, fd: int) -> None:
    """An old plan on new bytes is a leak."""
    memory.put_plan(KEY, "a", PLACE, "image/jpeg", OLD)
    fresh = found(finder, fd)
    assert fresh[1].outcome is Outcome.PATCH
    assert found(finder, fd, proof=PROVEN) == ("image/jpeg", OLD)
    other = PROVEN._replace(version=KEY._replace(size=5))
    assert found(finder, fd, proof=other) == fresh
    assert found(finder, fd, PLACE | {"time"}, PROVEN)[1] != OLD


def test_a_plan_is_remembered_for_the_lane_of_its_worker(finder: PlanFinder, memory: Memory, fd: int) -> None:
    plan = found(finder, fd, proof=PROVEN)
    assert memory.plans == {(KEY, "a", PLACE): plan}
    memory.put_plan(KEY, "a", PLACE, "image/jpeg", OLD)
    assert found(finder, fd, proof=PROVEN, lane="b") == plan
    assert found(finder, fd, proof=PROVEN) == ("image/jpeg", OLD)


@pytest.mark.parametrize("proof", [None, Proof(KEY, lambda: False), Proof(KEY._replace(dev=9), lambda: True)])
def test_without_a_proof_that_lasts_no_plan_is_remembered(
    finder: PlanFinder, memory: Memory, fd: int, proof: Proof | None
) -> None:
    """Not while the file has a writer, nor on a tmpfs, where a write may change no time."""
    assert found(finder, fd, proof=proof)[1].outcome is Outcome.PATCH
    assert memory.plans == {}


def test_on_a_tmpfs_no_remembered_plan_is_used(finder: PlanFinder, memory: Memory, fd: int) -> None:
    there = KEY._replace(dev=9)
    memory.put_plan(there, "a", PLACE, "image/jpeg", OLD)
    assert found(finder, fd, proof=Proof(there, lambda: True))[1] != OLD
