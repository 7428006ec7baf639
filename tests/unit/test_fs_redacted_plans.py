"""Redaction plans: an old one counts only with a proof, and for one app until a second worker agrees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.content.cache import KindKey
from policyfs.fs.redacted.plans import Found, PlanFinder, Proof
from policyfs.fs.redacted.second_looks import said_now
from policyfs.redact.core.values import Outcome, Plan
from tests.support.mount.file_system import Sniffed, on_trio

PLACE = frozenset({"location"})
KEY = KindKey(1, 2, 3, 4, 5, 6)


class Memory:
    """Plans in a dictionary."""

    def __init__(self) -> None:
        self.plans: dict[tuple[KindKey, frozenset[str]], tuple[str, Plan]] = {}

    async def plan(self, key: KindKey, what: frozenset[str]) -> tuple[str, Plan] | None:
        return self.plans.get((key, what))

    def put_plan(self, key: KindKey, what: frozenset[str], kind: str, plan: Plan) -> None:
        self.plans[key, what] = (kind, plan)


OLD = Plan(Outcome.CLEAN)


@pytest.fixture
def fd(store: Path) -> Iterator[int]:
    made = os.open(store / "a.jpg", os.O_RDONLY)
    yield made
    os.close(made)


def found(finder: PlanFinder, fd: int, what: frozenset[str] = PLACE, proof: Proof | None = None) -> Found:
    answers: list[Found] = []

    @on_trio
    async def run() -> None:
        answers.append(await finder.find(fd, what, lane="a", proof=proof))
        assert await finder.locate(fd, what, lane="a", proof=proof) == answers[0][:2]

    run()
    return answers[0]


def test_where_nothing_is_hidden_only_the_kind_is_found(fd: int) -> None:
    assert found(PlanFinder(Sniffed(), Memory()), fd, frozenset()) == Found(
        "image/jpeg", Plan(Outcome.CLEAN), shared=False
    )


def test_without_a_proof_nothing_remembered_is_used(fd: int) -> None:
    """An old plan on new bytes is a leak."""
    memory = Memory()
    memory.put_plan(KEY, PLACE, "image/jpeg", OLD)
    finder = PlanFinder(Sniffed(), memory)
    fresh = found(finder, fd)
    assert (fresh.plan.outcome, fresh.shared) == (Outcome.PATCH, False)
    proven = found(finder, fd, proof=Proof(KEY, lambda: True, fd))
    assert proven == Found("image/jpeg", OLD, shared=True)
    other = KEY._replace(size=5)
    assert found(finder, fd, proof=Proof(other, lambda: True, fd)).plan == fresh.plan
    assert found(finder, fd, PLACE | {"time"}, Proof(KEY, lambda: True, fd)).plan != OLD


def test_a_workers_plan_alone_is_not_remembered(fd: int) -> None:
    memory = Memory()
    finder = PlanFinder(Sniffed(), memory)
    assert not found(finder, fd, proof=Proof(KEY, lambda: True, fd)).shared
    assert memory.plans == {}


def test_a_plan_that_a_second_worker_found_too_is_remembered_and_told(fd: int) -> None:
    memory, told = Memory(), list[str]()
    finder = PlanFinder(Sniffed(), memory)
    finder.on_confirmed = lambda said: told.append(f"yes {said.kind}")
    finder.on_denied.append(lambda said: told.append(f"no {said.kind}"))
    plan = found(finder, fd).plan
    said = said_now(KEY, PLACE, "a", "image/jpeg", plan)
    finder.denied(said)
    assert memory.plans == {}
    finder.confirmed(said, None)
    assert memory.plans == {}
    finder.confirmed(said, plan)
    assert memory.plans[KEY, PLACE] == ("image/jpeg", plan)
    assert told == ["no image/jpeg", "yes image/jpeg", "yes image/jpeg"]
    PlanFinder(Sniffed(), None).confirmed(said, plan)
