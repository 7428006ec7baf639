"""Patches in copies, and in bytes that were read."""

from __future__ import annotations

import os
import threading

import pytest
import trio

from policyfs.content.plans import pack_plan, unpack_plan
from policyfs.domain import Patch, Ranges
from policyfs.fs.redacted import patching
from policyfs.fs.sharing import pauses
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.frozen import Frozen, Version
from policyfs.trail.lines.line import RANGES_LIMIT
from tests.support.mount.file_system import on_trio

SIZE = 80_000


@pytest.fixture
def copy():
    fd = os.memfd_create("copy")
    os.write(fd, b"x" * SIZE)
    with Frozen(fd, "memfd", SIZE, Version(SIZE, 0, 0)) as made:
        yield made


@on_trio
async def test_others_go_on_while_a_copy_gets_many_patches(copy: Frozen, monkeypatch) -> None:
    """A plan may have 262,144 patches. All at once, every other request waited for 400 ms."""
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)  # others have a turn after each step
    patches = tuple(Patch(8 * number, b"yy", 0) for number in range(SIZE // 8))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        others_went_on = await patching.apply_all(copy, patches)
        nursery.cancel_scope.cancel()
    assert turns >= len(patches) // patching.AT_ONCE - 2
    assert others_went_on
    assert os.pread(copy.fd, SIZE, 0) == b"yyxxxxxx" * (SIZE // 8)


@on_trio
async def test_others_go_on_while_a_copy_gets_long_patches(copy: Frozen, monkeypatch) -> None:
    """128 of them at once would be 128 MiB."""
    monkeypatch.setattr(patching, "_BYTES_AT_ONCE", 1000)
    lengths: list[int] = []
    apply = patching.apply

    def noted(copy: Frozen, part: tuple[Patch, ...]) -> None:
        lengths.append(sum(patch.size for patch in part))
        apply(copy, part)

    monkeypatch.setattr(patching, "apply", noted)
    patches = tuple(Patch(300 * number, zeros=300) for number in range(9))
    assert await patching.apply_all(copy, patches)
    assert lengths == [1200, 1200, 300]
    assert os.pread(copy.fd, 2701, 0) == bytes(2700) + b"x"


@on_trio
async def test_a_thread_patches_a_clone(monkeypatch) -> None:
    """The disk may be slow, or hang: blocks that are changed in part must be read from it."""
    threads: list[int] = []
    apply = patching.apply

    def noted(copy: Frozen, part: tuple[Patch, ...]) -> None:
        threads.append(threading.get_ident())
        apply(copy, part)

    monkeypatch.setattr(patching, "apply", noted)
    fd = os.memfd_create("clone")
    os.write(fd, b"x" * 100)
    with Frozen(fd, "reflink", 100, Version(100, 0, 0)) as clone:
        assert await patching.apply_all(clone, (Patch(3, b"ab"),)), "what was decided before is decided again"
        assert os.pread(clone.fd, 100, 0) == b"xxxab" + b"x" * 95
        assert threads != [threading.get_ident()]
        assert not await patching.apply_all(clone, ())


@on_trio
@pytest.mark.parametrize("count", [0, 1, patching.AT_ONCE])
async def test_few_patches_are_applied_with_no_turn_in_between(copy: Frozen, count: int) -> None:
    """So nothing that was found before must be looked at again."""
    patches = tuple(Patch(number, b"y") for number in range(count))
    with trio.CancelScope() as scope:
        scope.cancel()  # ends at the first checkpoint
        others_went_on = await patching.apply_all(copy, patches)
    assert not others_went_on
    assert os.pread(copy.fd, SIZE, 0).count(b"y") == count


def test_bytes_that_were_read_are_patched_where_patches_touch_them() -> None:
    patches = (Patch(2, b"ab"), Patch(6, zeros=3))
    assert patching.patched(memoryview(bytearray(b"xxxxxxxxxx")), 0, patches) == b"xxabxx\0\0\0x"
    assert patching.patched(memoryview(bytearray(b"xxxx")), 3, patches) == b"bxx\0"
    data = memoryview(bytearray(b"xx"))
    assert patching.patched(data, 4, patches) is data
    assert data == b"xx"


@on_trio
async def test_a_thread_patches_bytes_with_very_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop everybody would wait: for 60,000 of them 40 ms, at each read."""
    threads: list[int] = []
    patched = patching.patched

    def noted(data: memoryview, offset: int, patches: tuple[Patch, ...]) -> memoryview:
        threads.append(threading.get_ident())
        return patched(data, offset, patches)

    monkeypatch.setattr(patching, "patched", noted)
    most = patching._INLINE_PATCHES
    patches = tuple(Patch(8 * number, b"yy") for number in range(3 * most))
    for offset, count in ((8 * most - 1, most), (8 * most - 1, most + 1)):
        data = memoryview(bytearray(b"x" * 8 * count))
        found = await patching.patched_read(data, offset, patches)
        assert found == (b"x" + b"yyxxxxxx" * count)[: 8 * count]
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [True, False]


def test_the_trail_gets_the_first_ranges_of_a_plan_and_their_sum() -> None:
    few = Plan(Outcome.PATCH, (Patch(3, b"ab"), Patch(9, zeros=4)))
    assert patching.ranges_of(few) == Ranges(((3, 2), (9, 4)), 2, 6)
    patches = tuple(Patch(8 * number, zeros=3) for number in range(RANGES_LIMIT + 1))
    _, many = unpack_plan(pack_plan("a/b", Plan(Outcome.PATCH, patches)), 1 << 20)
    ranges = patching.ranges_of(many)
    number = len(patches)
    assert (len(ranges.first), ranges.number, ranges.total_bytes) == (RANGES_LIMIT, number, 3 * number)
