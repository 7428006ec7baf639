"""Leases of large files, where what matters is the order of things."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from policyfs.fs.inodes.handles import Handle
from policyfs.fs.redacted import copies as copies_module
from policyfs.fs.redacted import leased as leased_module
from policyfs.fs.redacted.plans import PLANS_MAX
from policyfs.redact.core.values import Outcome, Plan, PlanSize
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.layers import overlay
from tests.support.mount.steps import errno_of
from tests.support.samples import jpegs

POLICY = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""
SPARED = POLICY.replace("{app: gallery},", "{app: gallery}, unless: {type: image/jpeg},")
ALL = '- {id: all, allow: [all], who: {app: any}, paths: "/**"}\n'
TIME = ALL + '- {id: time, require: {redact: time}, who: {app: gallery}, paths: "/**"}\n'
BOTH = ALL + '- {id: hide, require: {redact: [location, time]}, who: {app: gallery}, paths: "/**"}\n'
PLACES = '- {id: places, require: {redact: location}, who: {app: gallery}, paths: "/**", unless: {%s}}\n'
KINDS, OWNERS = TIME + PLACES % "type: image/jpeg", TIME + PLACES % "owner: self"
"""Their views are the same as that of BOTH."""
PATHS = KINDS + '- {id: more, require: {redact: location}, who: {app: gallery}, paths: "/b/**"}\n'
CAMERA, GALLERY, MAPS = 10010, 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
PLACELESS = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif(place=False)))
DAMAGED = PHOTO[:900]  # no picture in it


@pytest.fixture
def made(tmp_path: Path, keeper: LeaseKeeper) -> Iterator[Parts]:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    with parts(tmp_path, engine_of(POLICY), keeper=keeper, copy_bytes=64) as file_system:
        yield file_system


@pytest.mark.mount
@on_trio
async def test_on_an_overlay_within_the_store_a_large_file_is_refused(
    tmp_path: Path, keeper: LeaseKeeper
) -> None:
    """There a lease is granted, and a change of the file below breaks nothing."""
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/a.jpg").write_bytes(PHOTO)
    with (
        overlay(tmp_path / "lower", tmp_path) as merged,
        parts(tmp_path, engine_of(POLICY), keeper=keeper, copy_bytes=64) as made,
    ):
        assert await errno_of(made.open(f"/{merged.name}/a.jpg", os.O_RDONLY, GALLERY)) == errno.EACCES
        assert "leases do not work" in made.sink.events[-1].note
        assert made.leased.report() == {"held": 0, "refused": 0, "broken": 0}
        beside = await made.open("/lower/a.jpg", os.O_RDONLY, GALLERY)
        assert not jpegs.leaks(await shown(made, beside))


@pytest.mark.mount
@on_trio
async def test_on_an_overlay_within_the_store_a_copy_is_shown_and_shown_again(
    tmp_path: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "_UNSETTLED_S", 0.0)
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/a.jpg").write_bytes(PHOTO)
    with (
        overlay(tmp_path / "lower", tmp_path) as merged,
        parts(tmp_path, engine_of(POLICY), keeper=keeper) as made,
    ):
        first = await made.open(f"/{merged.name}/a.jpg", os.O_RDONLY, GALLERY)
        assert not jpegs.leaks(await shown(made, first))
        copy = first.node.open.copy
        await made.release(first)
        second = await made.open(f"/{merged.name}/a.jpg", os.O_RDONLY, GALLERY)
        assert second.node.open.copy is copy
        assert not made.redactor.is_final(copy)


@on_trio
async def test_after_a_break_no_lease_is_taken_for_a_moment(tmp_path: Path) -> None:
    """A writer in another mount asks every few milliseconds, and does not wait in between."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff")
    with parts(tmp_path, engine_of(POLICY)) as made:
        leased = made.leased
        node, other = [await made.walk(name, 10011) for name in ("/a.jpg", "/b.jpg")]
        start = time.monotonic()
        leased._broken(node)
        await leased._rest(other.ino)
        quick = time.monotonic() - start
        await leased._rest(node.ino)
        assert time.monotonic() - start >= leased_module._REST_S > quick
        start = time.monotonic()
        await leased._rest(node.ino)
        assert time.monotonic() - start < leased_module._REST_S, "the moment is over"
        assert made.notes.pages == [node.nodeid]


@on_trio
async def test_no_read_meets_a_new_lease_without_its_patches(made: Parts) -> None:
    """One read takes the lease again after a break, and the hidden parts are not located yet."""
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    assert not jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))
    assert made.leased.live == 1
    made.leased._broken(handle.node)
    made.sniffed.gate = trio.Event()
    shown: list[bytes] = []

    async def read() -> None:
        shown.append(bytes(await made.reader.read(handle, 0, len(PHOTO))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await made.sniffed.wanted()
        assert made.leased.live == 1
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert shown == [], "nobody knows yet what is to be hidden"
        made.sniffed.gate.set()
    assert len(shown) == 2
    assert not any(map(jpegs.leaks, shown))


@on_trio
async def test_what_cannot_be_shown_after_a_break_is_refused_at_each_read(made: Parts) -> None:
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    await made.reader.read(handle, 0, 64)
    made.leased._broken(handle.node)
    (made.store / "a.jpg").write_bytes(DAMAGED)
    for _ in range(3):
        assert await errno_of(made.reader.read(handle, 0, len(PHOTO))) == errno.EACCES
    made.leased._broken(handle.node)
    (made.store / "a.jpg").write_bytes(PHOTO)
    assert not jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))


@on_trio
async def test_a_read_that_a_reload_overtakes_shows_what_the_new_policy_shows(
    made: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another read has located what the new policy hides, under the same lease."""
    made.reload(engine_of(SPARED))
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    assert jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))
    read_store = leased_module.read_store

    async def overtaken(fd: int, offset: int, size: int) -> memoryview:
        monkeypatch.setattr(leased_module, "read_store", read_store)
        data = await read_store(fd, offset, size)
        made.reload(engine_of(POLICY))
        assert not jpegs.leaks(bytes(await made.reader.read(handle, offset, size)))
        return data

    monkeypatch.setattr(leased_module, "read_store", overtaken)
    assert not jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))


@on_trio
async def test_bytes_count_only_if_the_server_tells_no_other_times_after_the_read(
    made: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """chmod(2) breaks no lease, like a change while the server is down."""
    read_store = leased_module.read_store

    async def changed(fd: int, offset: int, size: int) -> memoryview:
        monkeypatch.setattr(leased_module, "read_store", read_store)
        data = await read_store(fd, offset, size)
        (made.store / "a.jpg").chmod(0o600 + made.leased.breaks)
        return data

    for delegated in (False, True):
        made.leased._delegated = delegated
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        monkeypatch.setattr(leased_module, "read_store", changed)
        assert not jpegs.leaks(await shown(made, handle))
        assert made.leased.breaks == delegated
        assert made.leased.live == 1
        await made.release(handle)


async def shown(made: Parts, handle: Handle) -> bytes:
    """What a read of the whole file shows."""
    return bytes(await made.reader.read(handle, 0, len(PHOTO)))


def own(made: Parts, app: str) -> None:
    with (made.store / "a.jpg").open("rb") as file:
        made.owners.set(file.fileno(), made.tree.fstat(file.fileno()), app)


@on_trio
async def test_a_reload_while_a_read_locates_leaves_no_plan_for_fewer_words(made: Parts) -> None:
    """The first plan is for the words of the view; the second, for those of the decision, comes too late."""
    made.reload(engine_of(BOTH))
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    made.reload(engine_of(KINDS))
    made.sniffed.gate = trio.Event()
    read: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def in_flight() -> None:
            read.append(await shown(made, handle))

        nursery.start_soon(in_flight)
        await made.sniffed.wanted()
        made.reload(engine_of(BOTH))
        made.sniffed.gate.set()
    assert not jpegs.leaks(read[0])
    assert not jpegs.leaks(await shown(made, handle))


@on_trio
async def test_a_file_is_read_on_as_its_new_path_demands(made: Parts) -> None:
    made.reload(engine_of(PATHS))
    (made.store / "b").mkdir()
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    assert jpegs.leaks(await shown(made, handle))
    target = await made.walk("/b", CAMERA)
    await made.walk("/a.jpg", CAMERA)
    await made.renamer.rename(made.root, b"a.jpg", target, b"a.jpg", 0, made.caller(CAMERA))
    assert not jpegs.leaks(await shown(made, handle))


@on_trio
async def test_a_file_is_read_on_as_its_new_owner_demands(made: Parts) -> None:
    made.reload(engine_of(OWNERS))
    own(made, "gallery")
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    assert jpegs.leaks(await shown(made, handle))
    own(made, "camera")
    assert not jpegs.leaks(await shown(made, handle))


@on_trio
async def test_the_owner_of_before_a_break_counts_for_no_bytes_of_after_it(
    made: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read begins when the lease is broken, and another app becomes the writer."""
    made.reload(engine_of(OWNERS))
    (made.store / "a.jpg").write_bytes(PLACELESS)
    own(made, "gallery")
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    await shown(made, handle)
    give_way, read = made.leased.give_way, list[bytes]()
    async with trio.open_nursery() as nursery:

        async def in_flight() -> None:
            read.append(await shown(made, handle))

        def given(ino_key: int) -> None:
            give_way(ino_key)
            nursery.start_soon(in_flight)

        monkeypatch.setattr(made.leased, "give_way", given)
        writer = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(writer, 0, PHOTO)
        await made.release(writer)
    assert read
    assert not jpegs.leaks(read[0])
    assert not jpegs.leaks(await shown(made, handle))


@on_trio
async def test_the_plans_of_one_apps_open_files_leave_memory_for_others(
    tmp_path: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan can take 70 MB, and an app may have thousands of files open."""
    monkeypatch.setattr(leased_module, "_PLAN_MEMORY", 1000)
    policy = POLICY.replace("{app: gallery}, paths", "{not: {app: camera}}, paths")
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_bytes(PHOTO)
    with parts(tmp_path, engine_of(policy), keeper=keeper, copy_bytes=64) as made:
        locate = made.sniffed.index

        async def dear(*words: Any, **named: Any) -> tuple[str | None, Plan]:
            kind, plan = await locate(*words, **named)
            return kind, dataclasses.replace(plan, plan_size=PlanSize(1, 400))

        monkeypatch.setattr(made.sniffed, "index", dear)
        first = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        second = await made.open("/b.jpg", os.O_RDONLY, GALLERY)
        assert await errno_of(made.open("/c.jpg", os.O_RDONLY, GALLERY)) == errno.EMFILE
        again = await made.open("/a.jpg", os.O_RDONLY, GALLERY)  # its plan is there already
        other = await made.open("/c.jpg", os.O_RDONLY, MAPS)
        made.leased._broken(first.node)
        assert not jpegs.leaks(await shown(made, first))
        for handle in (first, again, other):
            await made.release(handle)
        third = await made.open("/c.jpg", os.O_RDONLY, GALLERY)
        for handle in (second, third):
            await made.release(handle)
        assert made.leased._plan_memory.used == 0


@on_trio
async def test_workers_that_never_agree_on_the_kind_are_asked_a_few_times(
    made: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each plan is for the words that the kind of the plan before demanded."""
    made.reload(
        engine_of(
            ALL
            + PLACES % "type: image/png"
            + (PLACES % "type: image/jpeg").replace("places", "time").replace("location", "time")
        )
    )
    asked: list[frozenset[str]] = []

    async def says(fd: int, what: frozenset[str], **_: object) -> tuple[str, Plan]:
        asked.append(what)
        return ("image/png" if "location" in what else "image/jpeg"), Plan(Outcome.CLEAN)

    monkeypatch.setattr(made.sniffed, "index", says)
    assert await errno_of(made.open("/a.jpg", os.O_RDONLY, GALLERY)) == errno.EACCES
    assert len(asked) == PLANS_MAX


@on_trio
async def test_a_worker_that_failed_once_is_asked_again(made: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
    assert len(await shown(made, handle)) == len(PHOTO)
    made.leased._broken(handle.node)  # a writer came, and has gone

    async def fails(*_: object, **__: object) -> tuple[None, Plan]:
        return None, Plan(Outcome.REFUSE, reason="the worker took too long")

    with monkeypatch.context() as patched:
        patched.setattr(made.sniffed, "index", fails)
        assert await errno_of(made.reader.read(handle, 0, 64)) == errno.EACCES
    assert await errno_of(made.reader.read(handle, 0, 64)) == 0
