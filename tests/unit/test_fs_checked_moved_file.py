"""Files that move to checked places, with real leases: proven while nobody could change them.

Each test runs in a forked child, because a lease keeper comes before all threads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from policyfs.domain import KIND_EMPTY
from policyfs.fs.checked.moved_file import MovedFiles, Named, Settled, Unsettled
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.linux.statx import Stat
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.machine.processes import call_as
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN
from tests.support.samples import jpegs

NO_PLACE = frozenset({"location"})


class Moved:
    """The checker of moved files of a file system."""

    def __init__(self, made: Parts, keeper: LeaseKeeper | None) -> None:
        self.made = made
        self.files = MovedFiles(made.fs, made.sniffed, PlanFinder(made.sniffed, None), keeper)

    def stat(self, name: str) -> Stat:
        return self.made.tree.stat(self.made.tree.root_fd, name.encode())

    async def settled(
        self, name: str, words: frozenset[str] | None = frozenset(), stat: Stat | None = None
    ) -> Settled | None:
        stat = stat or self.stat(name)
        return await self.files.settled(self.made.root, name.encode(), stat, "a", words)


def leased(test: Callable[[Moved, Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Run a test in a child with a lease keeper; it must leave no descriptor open."""

    @functools.wraps(test)
    def run(store: Path) -> None:
        def whole() -> None:
            keeper = LeaseKeeper()

            @on_trio
            async def main() -> None:
                with parts(store, engine_of(OPEN)) as made:
                    await made.walk("/a.jpg", CAMERA)
                    before = set(os.listdir("/proc/self/fd"))
                    await test(Moved(made, keeper), store)
                    assert set(os.listdir("/proc/self/fd")) == before

            main()
            keeper.close()

        call_as(0, whole)

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


@leased
async def test_a_file_without_writers_is_settled_with_its_kind(moved: Moved, store: Path) -> None:
    assert moved.made.store == store
    found = await moved.settled("a.jpg")
    assert found is not None
    assert (found.kind, found.holds()) == ("image/jpeg", True)
    found.close()
    blind = await moved.settled("a.jpg", None)
    assert blind is not None
    assert blind.kind is None
    assert not moved.made.bugs
    blind.close()
    empty = await moved.settled("empty", NO_PLACE)
    assert empty is not None
    assert (empty.kind, empty.free_of) == (KIND_EMPTY, NO_PLACE)
    empty.close()


@leased
async def test_a_file_with_a_writer_is_not(moved: Moved, store: Path) -> None:
    with open(store / "a.jpg", "r+b"):  # noqa: ASYNC230
        assert await moved.settled("a.jpg") is None


@leased
async def test_another_file_of_the_name_is_not(moved: Moved, store: Path) -> None:
    before = moved.stat("a.jpg")
    (store / "other").write_bytes(b"other")
    (store / "other").rename(store / "a.jpg")
    assert await moved.settled("a.jpg", stat=before) is None


@leased
async def test_a_writer_that_comes_ends_the_proof(moved: Moved, store: Path) -> None:
    found = await moved.settled("a.jpg")
    assert found is not None
    with pytest.raises(BlockingIOError):
        os.open(store / "a.jpg", os.O_WRONLY | os.O_NONBLOCK)
    assert not found.holds()
    found.close()
    os.close(os.open(store / "a.jpg", os.O_WRONLY | os.O_NONBLOCK))


@leased
async def test_a_second_name_ends_the_proof(moved: Moved, store: Path) -> None:
    found = await moved.settled("a.jpg")
    assert found is not None
    os.link(store / "a.jpg", store / "b.jpg")
    assert not found.holds()
    found.close()


@leased
async def test_attributes_that_may_tell_end_the_proof_where_words_are_forbidden(
    moved: Moved, store: Path
) -> None:
    (store / "plain.jpg").write_bytes(jpegs.plain())
    for words, holds in ((NO_PLACE, False), (frozenset[str](), True)):
        found = await moved.settled("plain.jpg", words)
        assert found is not None
        assert found.holds()
        os.setxattr(store / "plain.jpg", "user.note", b"47.8, 13.0")
        assert found.holds() is holds
        os.removexattr(store / "plain.jpg", "user.note")
        assert found.holds()
        found.close()


@leased
async def test_words_that_a_file_is_free_of_and_the_reason_if_it_is_not(moved: Moved, store: Path) -> None:
    (store / "plain.jpg").write_bytes(jpegs.plain())
    clean, placed = await moved.settled("plain.jpg", NO_PLACE), await moved.settled("a.jpg", NO_PLACE)
    assert clean is not None
    assert placed is not None
    assert (clean.free_of, clean.why) == (NO_PLACE, "")
    assert placed.free_of == frozenset()
    assert "location" in placed.why
    clean.close()
    placed.close()


@leased
async def test_without_leases_nothing_is_settled(moved: Moved, store: Path) -> None:
    assert await Moved(moved.made, None).settled("a.jpg") is None
    named = Named(os.open(store / "a.jpg", os.O_PATH))
    assert named.holds()
    named.close()
    unsettled = Unsettled(os.open(store / "a.jpg", os.O_PATH))
    assert not unsettled.holds()
    unsettled.close()
