"""Turns: an app waits for its own requests, and never for another's."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from policyfs.fs.sharing.turns import Turns
from tests.support.mount.file_system import on_trio


class Requests:
    """Requests that hold a turn until they are let go."""

    def __init__(self, most: int) -> None:
        self.turns = Turns(most)
        self.inside: list[str] = []
        self.go: dict[str, trio.Event] = {}

    async def ask(self, name: str, app: str | int) -> None:
        self.go[name] = trio.Event()
        async with self.turns.of(app):
            self.inside.append(name)
            await self.go[name].wait()
            self.inside.remove(name)


@on_trio
async def test_an_app_at_its_limit_waits_in_the_order_of_arrival() -> None:
    requests = Requests(2)
    async with trio.open_nursery() as nursery:
        for name, app in (("1", "a"), ("2", "a"), ("3", "a"), ("4", "a"), ("other", "b"), ("uid", 7)):
            nursery.start_soon(requests.ask, name, app)
            await trio.testing.wait_all_tasks_blocked()
        assert requests.inside == ["1", "2", "other", "uid"]
        requests.go["2"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert requests.inside == ["1", "other", "uid", "3"]
        requests.go["other"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert "4" not in requests.inside
        assert len(requests.turns) == 2
        for event in requests.go.values():
            event.set()
    assert requests.inside == []
    assert len(requests.turns) == 0


@on_trio
async def test_a_cancelled_wait_and_a_failed_request_leave_nothing_behind() -> None:
    turns = Turns(1)
    async with turns.of("a"):
        with trio.move_on_after(0) as scope:
            async with turns.of("a"):
                pytest.fail("the turn was another's")
        assert scope.cancelled_caught
        assert len(turns) == 1
    assert len(turns) == 0
    with pytest.raises(KeyError):
        async with turns.of("a"):
            raise KeyError
    assert len(turns) == 0


@on_trio
async def test_while_somebody_waits_the_limit_stays_the_same_one() -> None:
    """Or the next request would get a new limit beside it."""
    requests = Requests(1)
    async with trio.open_nursery() as nursery:
        for name in ("1", "2", "3"):
            nursery.start_soon(requests.ask, name, "a")
            await trio.testing.wait_all_tasks_blocked()
        for name, following in (("1", "2"), ("2", "3")):
            assert requests.inside == [name]
            requests.go[name].set()
            await trio.testing.wait_all_tasks_blocked()
            assert requests.inside == [following]
        requests.go["3"].set()
