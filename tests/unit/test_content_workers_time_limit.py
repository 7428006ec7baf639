"""The time limit of a request: which time counts; with a real worker that gets no processor."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.connection import WorkerLink
from policyfs.content.workers.pool import NoWorkerError, Pool
from policyfs.content.workers.time_limit import LONGEST, Look, TimeLimit
from tests.support.machine.processes import start_as
from tests.support.samples import pngs

LIMIT_S = 5.0
DEADLINE_S = 0.5
"""The limit of real workers."""
PARTS = 2_750
"""The plan of a PNG with so many parts takes a worker some 0.05 s of processor time."""
BUSY_S = 20.0
WHAT = frozenset({"location"})


def seconds_of(work: Callable[[TimeLimit], object]) -> float:
    """How long a request that never ends takes, beside some work on its limit."""

    async def main() -> float:
        begin = trio.current_time()
        limit = TimeLimit(LIMIT_S)
        with limit.scope:
            work(limit)
            await trio.sleep_forever()
        return trio.current_time() - begin

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_request_ends_at_its_limit() -> None:
    assert seconds_of(lambda limit: None) == pytest.approx(LIMIT_S)


def test_time_that_does_not_count_is_added() -> None:
    assert seconds_of(lambda limit: limit.lengthen(3.0)) == pytest.approx(LIMIT_S + 3.0)


def test_no_request_goes_on_for_ever() -> None:
    assert seconds_of(lambda limit: limit.lengthen(1e9)) == pytest.approx(LONGEST * LIMIT_S)


@pytest.mark.parametrize(("wait_s", "all_s"), [(2.0, LIMIT_S + 2.0), (1e9, LONGEST * LIMIT_S)])
def test_the_wait_for_a_worker_does_not_count(wait_s: float, all_s: float) -> None:
    async def main() -> tuple[float, bool]:
        begin = trio.current_time()
        limit = TimeLimit(LIMIT_S)
        with limit.scope:
            with limit.suspended():
                await trio.sleep(wait_s)
            await trio.sleep_forever()
        return trio.current_time() - begin, limit.started

    seconds, started = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert seconds == pytest.approx(all_s)
    assert started == (wait_s < all_s)


@pytest.mark.parametrize(("added_s", "words"), [
    (0.0, "no answer within 5 s"), (1e9, "no answer within 30 s: the machine is busy, or no worker starts"),
])  # fmt: skip
def test_the_reason_names_the_limit_that_was_reached(added_s: float, words: str) -> None:
    async def main() -> str:
        limit = TimeLimit(LIMIT_S)
        limit.lengthen(added_s)
        with limit.scope:
            await trio.sleep_forever()
        return limit.reason()

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == words


@pytest.mark.parametrize(("state", "used_s", "waited_s"), [
    ("R", 0.0, 2.0), ("R", 0.5, 1.5), ("R", 2.5, 0.0),
    ("D", 0.0, 0.0), ("S", 0.0, 0.0), ("T", 0.0, 0.0), ("", 0.0, 0.0),
])  # fmt: skip
def test_only_a_worker_that_is_ready_to_run_waits_for_a_processor(
    state: str, used_s: float, waited_s: float
) -> None:
    assert Look(state, 7.0 + used_s, 12.0).waited_s(Look("R", 7.0, 10.0)) == pytest.approx(waited_s)


# ---------------------------------------------------------------- a real worker


def _keep_busy(channel: Connection, processor: int) -> None:
    """Leave nothing of a processor to ordinary processes but what the kernel keeps for them (5 %). A control
    group without realtime processes (cpu.rt_runtime_us) forbids it."""
    os.sched_setaffinity(0, {processor})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        channel.send(False)
        return
    channel.send(True)
    end = time.monotonic() + BUSY_S
    while time.monotonic() < end:
        pass


@pytest.fixture
def sniffer(forked_launchers: None) -> Iterator[Sniffer]:
    with contextlib.closing(Sniffer.start(workers=1, deadline_s=DEADLINE_S)) as made:
        yield made


@pytest.fixture
def dear(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "dear.png"
    path.write_bytes(pngs.plain(*[pngs.chunk(b"abCd", b"x")] * PARTS))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def _kind(sniffer: Sniffer, fd: int) -> tuple[str | None, float]:
    begin = time.monotonic()
    kind, _ = trio.run(sniffer.locate, fd, WHAT)
    return kind, time.monotonic() - begin


def _used_s(fd: int) -> float:
    """The processor time that a worker needs for a file; what the clock says grows with the load."""
    with contextlib.closing(Sniffer.start(workers=1, deadline_s=20 * DEADLINE_S)) as sniffer:
        [worker] = sniffer.stats().worker_pids
        used = Path(f"/proc/{worker}/schedstat")
        before = int(used.read_text().split()[0])
        assert _kind(sniffer, fd)[0] == "image/png"
        return (int(used.read_text().split()[0]) - before) / 1e9


@pytest.mark.alone
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor is busy, another is needed")
@pytest.mark.parametrize("counted", [False, True])
def test_a_worker_that_gets_no_processor_has_time(
    forked_launchers: None, dear: int, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """counted: the wait for a processor counts, as on a worker that is blocked; then the file is refused.

    Fault daemon.13: All processors are busy
    App: no error. A worker that waits for a processor has up to 30 s for its answer ([decision
    66](decisions/0066-no-refusal-because-a-machine-is-busy.md))
    Store: accepted bytes
    Trail: as usual
    """
    if counted:
        monkeypatch.setattr(Look, "waited_s", lambda self, before: 0.0)
    processor = max(os.sched_getaffinity(0))
    deadline_s = max(DEADLINE_S, 8 * _used_s(dear))  # too little at 5 %
    with contextlib.closing(Sniffer.start(workers=1, deadline_s=deadline_s)) as starved:
        [worker] = starved.stats().worker_pids
        os.sched_setaffinity(worker, {processor})
        os.setpriority(os.PRIO_PROCESS, worker, -20)  # what is left is its own, whatever else is ready to run
        busy = start_as(0, _keep_busy, processor)
        try:
            if not busy.receive():
                pytest.skip("this control group permits no realtime process")
            kind, seconds = _kind(starved, dear)
        finally:
            busy.kill()
        assert seconds > deadline_s
        assert (kind, starved.stats().failed) == ((None, {"deadline": 1}) if counted else ("image/png", {}))


def test_a_file_that_no_worker_has_read_is_tried_again_at_once(
    sniffer: Sniffer, dear: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[str | None]:
        kinds = []
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "take", no_worker)
            patch.setattr(Pool, "another", no_worker)
            kinds.append((await sniffer.locate(dear, WHAT, version=1))[0])
        kinds.append((await sniffer.locate(dear, WHAT, version=1))[0])
        return kinds

    async def no_worker(self: Pool, lane: object) -> WorkerLink:
        raise NoWorkerError("died", "the zygote forked no worker: EAGAIN")

    assert trio.run(main) == [None, "image/png"]
    assert sniffer.stats().failed == {"died": 1}


def test_a_worker_that_works_for_too_long_has_no_more_time(
    sniffer: Sniffer, dear: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The looks show a worker that always gets its processor. The real one gets no request."""

    async def nothing(self: WorkerLink, data: bytes, ancillary: object) -> None:
        await trio.lowlevel.checkpoint()

    def works(self: WorkerLink) -> Look:
        return Look("R", trio.current_time(), trio.current_time())

    monkeypatch.setattr(WorkerLink, "_send", nothing)
    monkeypatch.setattr(WorkerLink, "_look", works)
    kind, seconds = _kind(sniffer, dear)
    assert kind is None
    assert DEADLINE_S <= seconds < DEADLINE_S + 2.0
    assert sniffer.stats().failed == {"deadline": 1}
