"""The pool's lists of workers, with processes that do nothing: lanes, spares, kills. Forks are elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest
import trio

from policyfs.content.workers.connection import WorkerLink
from policyfs.content.workers.pool import (
    _DYING_S,
    _KEPT_MIN,
    _UNDEAD_MAX,
    _UNDEAD_OF_APP,
    NoWorkerError,
    Pool,
)
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.spawner import ZygoteError
from tests.support.mount.file_system import on_trio

LIMITS = Limits(uid=2_100_000_000, gid=2_100_000_000, address_space=1 << 29, cpu_s=60, descriptors=8, uids=8)


class Workers:
    """A pool, and links to processes that only wait."""

    def __init__(self) -> None:
        self.pool = Pool(LIMITS, 2)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.sockets: list[socket.socket] = []
        self.pipes: list[int] = []

    def link(self, lane: str | None = None, served: int = 0) -> WorkerLink:
        process = subprocess.Popen(["sleep", "60"])
        ours, theirs = socket.socketpair()
        ending, told = os.pipe()
        made = WorkerLink(process.pid, ours, os.pidfd_open(process.pid), ending)
        made.lane, made.served = lane, served
        self.processes[process.pid] = process
        self.sockets.append(theirs)
        self.pipes.append(told)
        return made

    def idle(self, lane: str) -> WorkerLink:
        made = self.link(lane, 1)
        self.pool.idle.append(made)
        return made

    def spare(self) -> WorkerLink:
        made = self.link()
        self.pool.fresh.append(made)
        return made

    def end(self) -> None:
        async def close() -> None:
            await self.pool.close(5)

        trio.run(close)
        assert self.pool.workers == []
        for process in self.processes.values():
            process.kill()
            process.wait(10)
        for sock in self.sockets:
            sock.close()
        for fd in self.pipes:
            os.close(fd)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.end()


def test_a_lane_gets_its_own_worker_before_a_spare(workers: Workers) -> None:
    own, other, spare = workers.idle("a"), workers.idle("b"), workers.spare()

    @on_trio
    async def run() -> None:
        assert await workers.pool.take("a") is own
        assert await workers.pool.take("c") is spare
        assert spare.lane == "c"
        assert workers.pool.idle == [other]
        assert workers.pool.busy == {own, spare}
        assert list(workers.pool.fresh) == []

    run()


def test_the_newest_worker_of_a_lane_is_asked_first(workers: Workers) -> None:
    older, newer = workers.idle("a"), workers.idle("a")

    @on_trio
    async def run() -> None:
        assert await workers.pool.take("a") is newer
        assert await workers.pool.take("a") is older

    run()


@pytest.mark.parametrize("harm", ["dead", "loud"])
def test_a_worker_that_is_not_fit_is_killed_and_another_taken(workers: Workers, harm: str) -> None:
    bad, good, bad_spare, good_spare = (
        workers.idle("a"), workers.idle("a"), workers.spare(), workers.spare()
    )  # fmt: skip
    workers.pool.idle.reverse()  # the bad one is asked first
    for link in (bad, bad_spare):
        at = list(workers.processes).index(link.pid)
        if harm == "dead":
            workers.processes[link.pid].kill()
            workers.processes[link.pid].wait(10)
        else:
            workers.sockets[at].send(b"unasked")

    @on_trio
    async def run() -> None:
        assert await workers.pool.take("a") is good
        assert await workers.pool.take("b") is good_spare
        assert workers.pool.workers == list(workers.pool.busy)
        assert {bad, bad_spare} >= set(workers.pool.killed)

    run()


def test_only_so_many_workers_stay_with_their_apps(workers: Workers) -> None:
    pool = workers.pool

    @on_trio
    async def run() -> None:
        links = [workers.idle(str(number)) for number in range(_KEPT_MIN)]
        more = workers.link("more", 1)
        pool.busy.add(more)
        pool.give_back(more)
        assert pool.idle == [*links[1:], more], "the one that was idle for longest goes"
        assert pool.killed == [links[0]]
        alone = Pool(LIMITS, 0)
        alone._kept = 0
        own = workers.link("own", 1)
        alone.busy.add(own)
        alone.give_back(own)
        assert alone.idle == [own], "never the one that has just answered"
        alone.kill(own)

    run()


def test_a_lanes_workers_are_killed_and_no_others(workers: Workers) -> None:
    pool = workers.pool

    @on_trio
    async def run() -> None:
        first, other, spare = workers.idle("a"), workers.idle("b"), workers.spare()
        busy, new = workers.link("a", 3), workers.link("a")
        pool.busy |= {busy, new}
        pool.kill_lane("a")
        assert set(pool.killed) == {first, busy}
        assert set(pool.workers) == {other, spare, new}, "one that has served nobody yet stays"
        pool.kill(first)
        assert len(pool.killed) == 2

    run()


def test_killed_workers_are_forgotten_once_they_have_ended(workers: Workers) -> None:
    @on_trio
    async def run() -> None:
        first = workers.idle("a")
        workers.pool.kill(first)
        await first.ended()
        workers.pool.forget_gone()
        assert workers.pool.killed == []

    run()


def test_where_killed_ones_do_not_end_none_is_forked(workers: Workers) -> None:
    """Processes that live stand for killed ones that hang in the kernel."""
    pool = workers.pool
    pool.killed = [workers.link() for _ in range(_UNDEAD_MAX + 1)]

    async def refused(call: Callable[[], object]) -> None:
        with pytest.raises(NoWorkerError, match="do not end") as caught:
            await call()  # type: ignore[misc]
        assert caught.value.why == "busy"

    @on_trio
    async def run() -> None:
        await refused(lambda: pool.take("a"))
        await refused(lambda: pool.fill(1))
        own = workers.idle("a")
        assert await pool.another("a") is own, "one that waits is asked once more"
        stuck, pool.killed = pool.killed, []
        for link in stuck:
            pool.kill(link)

    run()


@pytest.mark.parametrize("way", [Pool.take, Pool.another])
def test_an_app_whose_killed_workers_do_not_end_gets_no_more_and_others_do(
    workers: Workers, way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All apps would have none: their number is limited for all together, too."""
    pool = workers.pool
    pool.killed = [workers.link(("app", uid), 1) for uid in range(_UNDEAD_OF_APP)]
    pool.killed.append(workers.link("other", 1))
    workers.spare()

    async def spawned(lane: Hashable) -> WorkerLink:
        made = workers.link(lane)
        pool.busy.add(made)
        return made

    monkeypatch.setattr(pool, "_spawn", spawned)

    async def ask() -> None:
        for worker in pool.killed:  # a moment ago
            worker.killed_s = time.monotonic()
        assert isinstance(await way(pool, "app"), WorkerLink)
        for worker in pool.killed:
            worker.killed_s -= _DYING_S
        with pytest.raises(NoWorkerError) as caught:
            await way(pool, "app")
        assert caught.value.why == "busy"
        assert isinstance(await way(pool, "other"), WorkerLink)
        stuck, pool.killed = pool.killed, []
        for worker in stuck:
            pool.kill(worker)

    trio.run(ask)


def test_without_a_launcher_no_connection_is_guarded(workers: Workers) -> None:
    with pytest.raises(ZygoteError, match="no launcher"):
        workers.pool.guard(0)


def test_without_a_zygote_there_is_no_pid(workers: Workers) -> None:
    assert workers.pool.zygote_pid == 0


@pytest.mark.parametrize("outside", [True, False])
def test_a_worker_that_cannot_be_had_because_another_process_ended_the_zygote(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, outside: bool
) -> None:
    class Dead:
        def fit(self) -> bool:
            return True

        async def worker(self) -> WorkerLink:
            raise ZygoteError("the zygote is gone", outside=outside)

    monkeypatch.setattr(workers.pool, "_zygote", Dead())

    async def main() -> None:
        with pytest.raises(NoWorkerError, match="gone") as raised:
            await workers.pool.take("a")
        assert (raised.value.why, raised.value.outside) == ("died", outside)

    trio.run(main)
