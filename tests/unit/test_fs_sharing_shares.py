"""Shares: half for one, a third each for two, and something for whoever has nothing."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from policyfs.fs.sharing.shares import Shares
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
