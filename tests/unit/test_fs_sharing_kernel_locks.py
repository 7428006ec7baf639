"""Waits under locks of the kernel: a limit for each request, and a share for each app."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from policyfs.fs.sharing.kernel_locks import (
    MOST_S,
    SHARE,
    SHORT_S,
    SHORT_SHARE,
    KernelLocks,
    LateError,
    is_locked,
    is_urgent,
    locked,
    short,
)

LONG_S = 100.0


def on_a_jumping_clock(test: Callable[[KernelLocks], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with locks whose work apart runs, on a clock that jumps to the next event."""

    def run() -> None:
        async def main() -> None:
            locks = KernelLocks()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(locks.run)
                await trio.testing.wait_all_tasks_blocked()
                await test(locks)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


async def waited(locks: KernelLocks, holder: str, error: int = errno.EIO) -> float:
    """For how long a request of an app waits for an answer that never comes."""
    begin = trio.current_time()
    with locks.under_lock(error), pytest.raises(LateError) as late:
        async with locks.limit(holder):
            await trio.sleep(LONG_S)
    assert late.value.errno == error
    return trio.current_time() - begin


@on_a_jumping_clock
async def test_a_first_wait_is_as_long_as_one_may_be_and_then_the_share_is_used_up(locks) -> None:
    assert await waited(locks, "app") == pytest.approx(MOST_S, rel=0.1)
    assert await waited(locks, "app") < SHORT_S + 0.03  # 20 ms of the first share were not used
    for _ in range(20):
        await waited(locks, "app")
    assert await waited(locks, "app") < 0.01
    assert await waited(locks, "other") == pytest.approx(MOST_S, rel=0.1)
    assert locks.late == 24


@on_a_jumping_clock
async def test_the_share_grows_again_with_time(locks) -> None:
    for _ in range(30):
        await waited(locks, "app")
    await trio.sleep(1)
    assert await waited(locks, "app") == pytest.approx(SHARE + SHORT_S, abs=0.01)
    await trio.sleep(100)
    assert await waited(locks, "app") == pytest.approx(MOST_S, rel=0.1)


@on_a_jumping_clock
async def test_an_app_that_always_waits_takes_no_more_than_its_share(locks) -> None:
    await waited(locks, "app")
    begin, total = trio.current_time(), 0.0
    while trio.current_time() < begin + 10:
        total += await waited(locks, "app")
        await trio.sleep(0.05)
    assert total <= 10 * (SHARE + SHORT_SHARE) * 1.1


@on_a_jumping_clock
async def test_short_waits_of_an_honest_program_are_never_late(locks) -> None:
    """A look takes 3 ms, and a program moves 50 files a second, for a minute."""
    for _ in range(3000):
        with locks.under_lock(errno.EXDEV):
            async with locks.limit("app"):
                await trio.sleep(0.003)
        await trio.sleep(0.017)
    assert locks.late == 0


@on_a_jumping_clock
async def test_waits_at_the_same_time_count_once_and_end_together(locks) -> None:
    ends = []

    async def one() -> None:
        await waited(locks, "app")
        ends.append(trio.current_time())

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert max(ends) - begin == pytest.approx(MOST_S, rel=0.1)


@on_a_jumping_clock
async def test_without_a_lock_nothing_is_limited(locks) -> None:
    async with locks.limit("app"):
        await trio.sleep(LONG_S)
    with short():
        await trio.sleep(LONG_S)
    assert await locks.apart("app", slow) == "late"


async def slow() -> str:
    await trio.sleep(LONG_S)
    return "late"


@on_a_jumping_clock
async def test_a_wait_for_the_trail_counts_in_no_share(locks) -> None:
    begin = trio.current_time()
    with locks.under_lock(errno.EBUSY), pytest.raises(LateError), short():
        await trio.sleep(LONG_S)
    assert trio.current_time() - begin == pytest.approx(MOST_S)
    assert await waited(locks, "app") == pytest.approx(MOST_S, rel=0.1)


@on_a_jumping_clock
async def test_work_goes_on_when_its_request_has_ended(locks) -> None:
    told: list[str] = []

    async def work() -> str:
        assert is_urgent()
        assert not is_locked()  # it may wait as long as it likes
        await trio.sleep(LONG_S)
        told.append("done")
        return "result"

    with locks.under_lock(errno.EXDEV), pytest.raises(LateError) as late:
        await locks.apart("app", work, lambda: told.append("released"))
    assert late.value.errno == errno.EXDEV
    assert told == []
    await trio.sleep(2 * LONG_S)
    assert told == ["done", "released"]


@on_a_jumping_clock
async def test_a_result_in_time_belongs_to_the_request(locks) -> None:
    released: list[str] = []

    async def work() -> str:
        await trio.sleep(MOST_S / 2)
        return "result"

    with locks.under_lock(errno.EIO):
        assert await locks.apart("app", work, lambda: released.append("released")) == "result"
    assert released == []


@on_a_jumping_clock
async def test_an_exception_in_time_is_raised_and_what_is_left_is_released(locks) -> None:
    released: list[str] = []

    async def work() -> str:
        raise FileNotFoundError

    with locks.under_lock(errno.EIO), pytest.raises(FileNotFoundError):
        await locks.apart("app", work, lambda: released.append("released"))
    assert released == ["released"]


@on_a_jumping_clock
async def test_a_listing_waits_for_no_work(locks) -> None:
    released: list[str] = []
    with locks.under_lock(errno.EIO, waits=False), pytest.raises(LateError):
        await locks.apart("app", slow, lambda: released.append("released"))
    assert released == ["released"]
    assert trio.current_time() == 0 or locks.late == 1


@on_a_jumping_clock
async def test_little_work_goes_on_for_nobody(locks) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)
        await trio.sleep(LONG_S)

    with locks.under_lock(errno.EIO):
        for _ in range(50):
            with pytest.raises(LateError):
                await locks.apart("app", work)
    await trio.sleep(1)
    assert len(begun) == 16


@on_a_jumping_clock
async def test_the_decorator_tells_what_a_late_answer_is(locks) -> None:
    class Handlers:
        kernel_locks = locks

        @locked(errno.EBUSY)
        async def handler(self, seconds: float) -> str:
            async with self.kernel_locks.limit("app"):
                await trio.sleep(seconds)
            return "answer"

    assert await Handlers().handler(0.0) == "answer"
    with pytest.raises(LateError) as late:
        await Handlers().handler(LONG_S)
    assert late.value.errno == errno.EBUSY
    assert not is_locked()


@on_a_jumping_clock
async def test_in_the_mount_of_one_app_nothing_is_limited(locks) -> None:
    own = KernelLocks(shared=False)
    assert locks.shared
    with own.under_lock(errno.EIO):
        async with own.limit("app"):
            await trio.sleep(LONG_S)
        assert await own.apart("app", slow) == "late"
        assert not is_urgent()
