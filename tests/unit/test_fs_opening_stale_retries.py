"""Second tries after ESTALE: known by their threads, and waited for a moment."""

from __future__ import annotations

import threading
from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from policyfs.fs.opening.stale_retries import (
    _COMES_S,
    _ENDS_S,
    _MOST,
    _SEEKS_S,
    MOST_RESTING,
    SecondTries,
)
from tests.support.models.clock import Clock
from tests.support.mount.file_system import on_trio

APP = "gallery"


def settled(tries: SecondTries) -> bool:
    found: list[bool] = []

    @on_trio
    async def run() -> None:
        found.append(await tries.settled(0.003))

    run()
    return found[0]


def test_only_the_next_open_of_a_thread_is_its_second_try() -> None:
    tries = SecondTries(Clock())
    assert not tries.begins(1)
    tries.sent_back(1, APP)
    assert not tries.begins(2)
    assert tries.begins(1)
    assert not tries.begins(1)
    tries.ends(1)


def test_a_change_waits_until_second_tries_have_come_and_ended() -> None:
    tries = SecondTries(Clock())
    assert settled(tries)
    tries.sent_back(1, APP)
    assert not settled(tries)
    assert tries.begins(1)
    assert not settled(tries), "it is under way"
    tries.ends(1)
    assert settled(tries)


def test_two_second_tries_of_one_thread_must_both_end() -> None:
    tries = SecondTries(Clock())
    for _ in range(2):
        tries.sent_back(1, APP)
        assert tries.begins(1)
    tries.ends(1)
    assert not settled(tries)
    tries.ends(1)
    assert settled(tries)


def test_one_that_does_not_come_is_not_awaited_for_ever() -> None:
    clock = Clock()
    tries = SecondTries(clock)
    tries.sent_back(1, APP)
    clock.now_s += _COMES_S - 0.01
    assert not settled(tries)
    clock.now_s += 0.02
    assert settled(tries)
    assert not tries.begins(1), "what comes as late is a first try"


def test_those_awaited_are_bounded_and_late_ones_make_room() -> None:
    clock = Clock()
    tries = SecondTries(clock)
    for thread in range(_MOST):
        tries.sent_back(thread, APP)
    half = _MOST // 2
    assert not tries.begins(half)
    tries.sent_back(half, "backup")
    assert tries.begins(half), "there is room for others"
    tries.ends(half)
    assert tries.begins(0)
    tries.ends(0)
    clock.now_s += _COMES_S + 0.01
    tries.sent_back(_MOST, APP)
    tries.sent_back(_MOST + 1, APP)
    assert tries.begins(_MOST)
    tries.ends(_MOST)


@on_trio
async def test_the_wait_ends_with_the_second_try() -> None:
    tries = SecondTries()
    tries.sent_back(1, APP)
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(0.005)
            assert tries.begins(1)
            await trio.sleep(0.005)
            tries.ends(1)

        nursery.start_soon(later)
        assert await tries.settled(5)


def test_it_is_known_whether_any_is_awaited_or_under_way() -> None:
    clock = Clock()
    tries = SecondTries(clock)
    assert not tries.is_any
    tries.sent_back(1, APP)
    assert tries.is_any
    assert tries.begins(1)
    assert tries.is_any
    tries.ends(1)
    assert not tries.is_any
    tries.sent_back(2, APP)
    clock.now_s += _COMES_S + 0.01
    assert not tries.is_any


@on_trio
async def test_no_first_try_begins_before_the_change_that_waits_for_second_tries() -> None:
    tries = SecondTries()
    tries.sent_back(1, APP)
    order: list[str] = []

    async def first_try() -> None:
        if tries.holds(2, APP):
            await tries.first_try(APP, lambda: order.append("rests")).waits()
        order.append("first try")

    async with trio.open_nursery() as nursery:

        async def change() -> None:
            assert await tries.settled(5)
            order.append("change")

        nursery.start_soon(change)
        await trio.sleep(0.003)  # it has begun to wait
        nursery.start_soon(first_try)
        await trio.sleep(0.01)
        assert order == ["rests"]
        assert not tries.holds(1, APP), "it is the second try"
        assert not tries.holds(0, APP), "it may be one"
        assert tries.begins(1)
        tries.ends(1)
    assert order == ["rests", "change", "first try"]
    await first_try()
    assert order == ["rests", "change", "first try", "first try"]


@on_trio
async def test_no_more_than_so_many_of_those_that_wait_rest() -> None:
    """Those that go on keep their places until their opens end."""
    tries = SecondTries()
    resting: list[int] = []
    opened = trio.Event()

    async def first_try(number: int, holder: str) -> None:
        opens = tries.first_try(holder, partial(resting.append, number))
        await opens.waits()
        await opened.wait()
        opens.ends()

    async def reload(nursery: trio.Nursery, firsts: int, apps: int = 5) -> int:
        resting.clear()
        tries.sent_back(1, APP)
        nursery.start_soon(tries.settled, 5)
        await wait_all_tasks_blocked()
        for number in range(firsts):
            nursery.start_soon(first_try, number, f"app {number % apps}")
        await wait_all_tasks_blocked()
        assert tries.begins(1)
        tries.ends(1)
        await wait_all_tasks_blocked(0.01)  # longer than the pause between two looks of settled()
        assert not tries.holds(2, APP)
        return len(resting)

    async with trio.open_nursery() as nursery:
        of_one = await reload(nursery, 2 * MOST_RESTING, apps=1)
        assert of_one == MOST_RESTING // 2
        of_others = await reload(nursery, 2 * MOST_RESTING)
        assert of_others > MOST_RESTING // 4
        assert await reload(nursery, 1, apps=1) == 0, "their opens have not ended"
        opened.set()
        await wait_all_tasks_blocked()
        assert await reload(nursery, 2 * MOST_RESTING, apps=1) == of_one


@on_trio
async def test_first_tries_go_on_when_a_second_one_hangs() -> None:
    tries = SecondTries()
    tries.sent_back(1, APP)
    assert tries.begins(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tries.settled, 0.02)
        await wait_all_tasks_blocked()
        assert tries.holds(2, APP)
        with trio.fail_after(5):
            await tries.first_try(APP, lambda: None).waits()
            assert not tries.holds(2, APP)
        assert tries.is_any
        tries.ends(1)


@on_trio
async def test_only_apps_with_second_tries_wait() -> None:
    tries = SecondTries()
    tries.sent_back(1, APP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tries.settled, 5)
        await wait_all_tasks_blocked()
        assert tries.holds(2, APP)
        assert not tries.holds(3, "backup")
        tries.sent_back(3, "backup")
        assert tries.holds(4, "backup"), "else it would leave a second try to wait for at any time"
        for thread in (1, 3):
            assert tries.begins(thread)
            tries.ends(thread)
    assert not tries.holds(4, "backup")
    tries.sent_back(1, APP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tries.settled, 5)
        await wait_all_tasks_blocked()
        assert not tries.holds(4, "backup"), "a later change"
        tries.failed(1)


def test_those_of_one_app_are_known() -> None:
    tries = SecondTries(Clock())
    tries.sent_back(1, APP)
    assert tries.is_any_of(APP)
    assert not tries.is_any_of("backup")
    assert tries.begins(1)
    assert tries.is_any_of(APP)
    tries.ends(1)
    assert not tries.is_any_of(APP)


def test_none_comes_after_a_look_up_that_failed() -> None:
    clock = Clock()
    tries = SecondTries(clock)
    for thread in (0, 1, 2):
        tries.sent_back(thread, APP)
    for thread in (0, 1, 3):
        tries.failed(thread)
    clock.now_s += _ENDS_S + 0.01
    assert not tries.begins(1)
    for thread in (0, 2):  # 0 stands for several threads: another one may have failed
        assert tries.begins(thread)
        tries.failed(thread)
        tries.ends(thread)
    assert settled(tries)


@on_trio
async def test_one_may_come_after_one_look_up_that_failed() -> None:
    """The kernel looks up twice if the first answer is none or another file: a name that is being replaced
    can be gone at the first time."""
    tries = SecondTries()
    tries.sent_back(1, APP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tries.settled, 5)
        await wait_all_tasks_blocked()
        tries.failed(1)
        assert not tries.holds(1, APP), "else it meets another policy than its second LOOKUP"
        assert tries.begins(1)
        await trio.sleep(_ENDS_S + 0.02)
        assert tries.is_any, "it is under way"
        tries.ends(1)
    tries.sent_back(1, APP)
    tries.failed(1)
    tries.sent_back(1, APP)
    await trio.sleep(_ENDS_S + 0.02)
    assert tries.is_any, "a later one, of which no LOOKUP has failed"


def test_one_that_comes_too_late_is_none() -> None:
    clock = Clock()
    tries = SecondTries(clock)
    tries.sent_back(1, APP)
    clock.now_s += _COMES_S + 0.01
    assert not tries.begins(1)
    assert settled(tries)


@on_trio
async def test_none_is_awaited_of_a_thread_that_has_ended() -> None:
    tries = SecondTries()
    alive, ended = threading.Event(), threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    living = threading.Thread(target=alive.wait)
    living.start()
    try:
        tries.sent_back(ended.native_id, APP)
        assert await tries.settled(_COMES_S / 2)
        tries.sent_back(living.native_id, APP)
        assert not await tries.settled(4 * _SEEKS_S)
    finally:
        alive.set()
        living.join()
