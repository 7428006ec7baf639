"""How long the daemon looks at the device before it goes to sleep."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from policyfs.kernel import readiness
from policyfs.kernel.readiness import Readiness

LOOK_NS = 10_000


class Clock:
    """Each look at the clock takes LOOK_NS."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        self.now += LOOK_NS
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def idle(pipe, monkeypatch) -> Iterator[tuple[Readiness, Clock]]:
    """A wait at a device that has nothing."""
    clock = Clock()
    monkeypatch.setattr(readiness, "time", clock)
    turns = os.eventfd(0)
    made = Readiness(pipe[0], turns)
    yield made, clock
    made.close()
    os.close(turns)


@pytest.mark.parametrize(("under_way", "most_ns"), [(0, 200_000), (1, 40_000)])
def test_it_looks_longer_while_nobody_else_waits(idle, monkeypatch, under_way: int, most_ns: int) -> None:
    waiting, clock = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, under_way))
    assert not waiting._spin()
    assert most_ns < clock.now <= most_ns + 2 * LOOK_NS


def test_it_looks_less_often_where_that_does_not_pay(idle, pipe, monkeypatch) -> None:
    waiting, clock = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))

    def looked() -> bool:
        before = clock.now
        return waiting._spin() or clock.now > before

    assert all(looked() for _ in range(7))
    assert sum(looked() for _ in range(64)) == 4
    os.write(pipe[1], b"x")
    assert any(waiting._spin() for _ in range(16))
