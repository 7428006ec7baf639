"""Shares: half for one, a third each for two, and something for whoever has nothing."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
import trio.testing

from policyfs.fs.sharing.shares import Shares, Turns
from policyfs.kernel.bridge import fh_index, pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts


def as_much_as_it_gets(shares: Shares, holder: str) -> int:
    got = 0
    while True:
        try:
            shares.check(holder)
        except OSError:
            return got
        shares.take(holder)
        got += 1


def test_one_gets_half_and_each_who_comes_gets_some() -> None:
    shares = Shares(1000, "things")
    assert as_much_as_it_gets(shares, "one") == 501
    assert as_much_as_it_gets(shares, "two") == 250
    assert as_much_as_it_gets(shares, "three") == 125
    assert shares.held("one") == 501
    assert shares.refused == 3
    shares.give("one", 501)
    assert shares.used == 375
    assert as_much_as_it_gets(shares, "four") == 313


def test_what_one_takes_in_one_piece_may_be_more_than_there_is() -> None:
    shares = Shares(10, "things")
    shares.check("one")
    shares.take("one", 50)
    with pytest.raises(OSError, match=r"\(things\): this app already has more than is still free"):
        shares.check("one")
    shares.give("one", 50)
    shares.check("one")
    assert (shares.used, shares.held("one")) == (0, 0)


def test_threads_lose_no_amount() -> None:
    """A thread gives back what it has stored, while the event loop takes."""
    shares = Shares(1 << 40, "bytes")

    def work(_: int) -> None:
        for _ in range(20_000):
            shares.take("one", 7)
            shares.give("one", 7)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert (shares.used, shares.held("one")) == (0, 0)


@on_trio
async def test_listings_that_one_app_keeps_open_leave_room_for_another(tmp_path, monkeypatch) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda token, *entry: token.append(entry) or True)
    engine = engine_of('- {id: a, allow: [all], who: {app: any}, paths: "/***"}\n')
    with parts(tmp_path, engine) as made:
        made.listings.open.shares = Shares(1000, "listed names")
        opened: list[int] = []

        async def listed(uid: int) -> int:
            opened.append(fh_index(await made.listings.opendir(made.root, made.caller(uid))))
            names: list[object] = []
            await made.listings.readdir(opened[-1], 0, names)
            return len(names)

        with pytest.raises(OSError, match="listed names"):
            while True:
                assert await listed(10010) == 102  # with . and ..
        assert 3 < len(opened) < 7
        assert await listed(10011) == 102
        for index in opened:
            await made.listings.releasedir(index)
        assert made.listings.open.shares.used == 0


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
