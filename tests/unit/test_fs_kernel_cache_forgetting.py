"""What the kernel is told to forget, of which nodes, and when the caller goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import trio
import trio.testing

from policyfs.fs.kernel_cache import forgetting
from policyfs.fs.kernel_cache.forgetting import KernelCache
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Notes, Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, REDACTED


class Asked(Notes):
    """All that was asked for, in order; what waits for the kernel is answered by *answer*."""

    def __init__(self, *, open: bool = True, epochs: bool = True) -> None:  # noqa: A002 - as its attribute
        super().__init__()
        self.open, self.epochs = open, epochs
        self.asked: list[tuple[object, ...]] = []
        self.waiting: list[Callable[[], None]] = []

    def inval_inode(self, nodeid: int, offset: int = -1, length: int = 0) -> None:
        self.asked.append(("inode", nodeid, offset))

    def inval_inodes(self, nodeids: Iterable[int]) -> None:
        self.asked.append(("all", *sorted(nodeids)))

    def inval_entry(self, parent: int, name: bytes, expire: bool) -> None:
        self.asked.append(("entry", parent, name, expire))

    def inval_then(self, nodeid: int, done: Callable[[], None], *, pages: bool) -> bool:
        self.asked.append(("then", nodeid, pages))
        self.waiting.append(done)
        return self.open

    def expire_entries(self, entries: Iterable[tuple[int, bytes]]) -> None:
        self.asked.extend(("listed", *entry) for entry in entries)

    def inc_epoch_now(self) -> bool:
        self.asked.append(("epoch",))
        return self.epochs


def told(made: Parts, **more: bool) -> Asked:
    made.whole.kernel_cache.notifier = asked = Asked(**more)  # type: ignore[assignment]
    return asked


@on_trio
async def test_before_there_is_a_session_there_is_nothing_to_forget(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        cache: KernelCache = made.whole.kernel_cache
        node = await made.walk("/a.jpg", MAPS)
        cache.notifier = None
        cache.drop_pages(node.nodeid)
        cache.forget_attributes(node.nodeid)
        cache.forget_attributes_now(node.nodeid)
        cache.forget_all_names()
        cache.reset()
        await cache.forget_names_now(node)
        await cache.forget_seen(node.nodeid, pages=True)


@on_trio
async def test_all_nodes_of_a_file_lose_all_their_names_and_the_listings_too(store: Path) -> None:
    (store / "d").mkdir()
    os.link(store / "a.jpg", store / "d/b.jpg")
    with parts(store, engine_of(REDACTED)) as made:
        mine, theirs = await made.walk("/a.jpg", MAPS), await made.walk("/d/b.jpg", GALLERY)
        directory, bystander = await made.walk("/d", MAPS), await made.walk("/empty", MAPS)
        assert mine is not theirs
        asked = told(made)
        made.whole.kernel_cache.forget_names(mine)
        root = made.root.nodeid
        assert set(asked.asked) == {
            ("entry", root, b"a.jpg", True), ("inode", root, 0), ("inode", mine.nodeid, -1),
            ("entry", directory.nodeid, b"b.jpg", True), ("inode", directory.nodeid, 0),
            ("inode", theirs.nodeid, -1),
        }  # fmt: skip
        assert bystander.nodeid not in {one[1] for one in asked.asked}


@on_trio
async def test_numbers_that_only_the_kernel_knows_are_forgotten_with_all_others(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node, asked = await made.walk("/a.jpg", MAPS), told(made)
        made.whole.kernel_cache.forget_attributes_of_all([77])
        assert asked.asked == [("all", *sorted((made.root.nodeid, node.nodeid, 77)))]


@on_trio
async def test_pages_are_dropped_and_attributes_by_themselves(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        asked = told(made)
        made.whole.kernel_cache.drop_pages(7)
        made.whole.kernel_cache.drop_pages(7, 5000, 10)
        made.whole.kernel_cache.forget_attributes(8)
        assert asked.asked == [("inode", 7, 0), ("inode", 7, 5000), ("inode", 8, -1)]


@on_trio
async def test_what_must_be_forgotten_first_is_waited_for_and_comes_last(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node, asked, done = await made.walk("/a.jpg", CAMERA), told(made), []

        async def forget() -> None:
            await made.whole.kernel_cache.forget_names_now(node)
            done.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget)
            await trio.testing.wait_all_tasks_blocked()
            assert not done
            assert ("entry", made.root.nodeid, b"a.jpg", True) in asked.asked
            assert asked.asked[-1] == ("then", node.nodeid, False), "after all names"
            await trio.to_thread.run_sync(asked.waiting[0])  # from the notifier's thread
        assert done


@on_trio
async def test_a_notifier_that_is_closed_or_never_answers_holds_nobody_up(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(forgetting, "_FORGET_S", 0.02)
    with parts(store, engine_of(OPEN)) as made:
        for is_open in (False, True):
            asked = told(made, open=is_open)
            with trio.fail_after(2):
                await made.whole.kernel_cache.forget_seen(7, pages=True)
            assert asked.asked == [("then", 7, True)]
        asked.waiting[0]()  # an answer that comes late does no harm


def test_an_answer_after_the_end_of_the_loop_is_no_error(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(forgetting, "_FORGET_S", 0.02)
    late: list[Callable[[], None]] = []

    async def main() -> None:
        with parts(store, engine_of(OPEN)) as made:
            asked = told(made)
            await made.whole.kernel_cache.forget_seen(7, pages=False)
            late.extend(asked.waiting)

    trio.run(main)
    late[0]()


@on_trio
async def test_a_kernel_without_epochs_is_told_everything_by_name(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        await made.walk("/a.jpg", CAMERA)
        asked = told(made)
        made.whole.kernel_cache.forget_all_names()
        assert asked.asked == [("epoch",)]
        resets: list[object] = []
        made.whole.changes.reset = lambda *given: resets.append(given)  # type: ignore[method-assign]
        asked.epochs = False
        made.whole.kernel_cache.forget_all_names()
        assert resets == [(asked, made.resolver)]
