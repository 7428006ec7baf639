"""What happens to opens, sizes and look-ups while a frozen copy is in the making."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.domain import NO_FACTS, UNNAMED, Decision, Op
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.namespace.setattr import Change
from policyfs.fs.redacted import copies as copies_module
from policyfs.fs.redacted import patching
from policyfs.fs.redacted.copies import Refused
from policyfs.fs.redacted.plans import PLANS_MAX
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store import frozen as frozen_module
from policyfs.store.copies import Copy
from policyfs.store.frozen import Frozen
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import errno_of
from tests.support.samples import jpegs

GALLERY, MAPS = 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
LONGER, LONGEST = PHOTO + b"more", PHOTO + b"more and more"
HALF = b"\xff\xd8\xff half"
HIDE = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""
BY_KIND = f"""{HIDE}\
- {{id: no, deny: [read], who: {{app: gallery}}, when: {{type: text/x-c}}, paths: "/**"}}
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    return tmp_path / "a.jpg"


def thread(made: Parts, number: int) -> Caller:
    """One of the gallery's threads."""
    caller = made.caller(GALLERY)
    caller.pid = number
    return caller


async def look_up(made: Parts, number: int) -> Node:
    entry = await made.lookup.lookup(made.root, b"a.jpg", thread(made, number))
    return made.nodes.get(entry.st_ino)


class Opens:
    """Opens of one node by several threads, each begun when the ones before wait."""

    def __init__(self, made: Parts, node: Node, nursery: trio.Nursery) -> None:
        self.made = made
        self.node = node
        self.nursery = nursery
        self.handles: list[Handle] = []
        self.errors: list[int] = []

    async def begin(self, number: int) -> None:
        self.nursery.start_soon(self._open, number)
        await self.made.sniffed.wanted()

    async def _open(self, number: int) -> None:
        try:
            caller = thread(self.made, number)
            self.handles.append(await self.made.opener.open(self.node, os.O_RDONLY, caller))
        except Exception as error:
            self.errors.append(getattr(error, "errno", 0))


async def while_made(made: Parts, threads: int, meanwhile: Callable[[Node], Awaitable[object]]) -> Opens:
    """Several threads open a photo; something happens while the first one's copy is in the making."""
    node = await look_up(made, 1)
    made.sniffed.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        opens = Opens(made, node, nursery)
        for number in range(threads):
            await opens.begin(number + 1)
        await meanwhile(node)
        made.sniffed.gate.set()
    return opens


@on_trio
async def test_a_node_that_shows_the_file_as_it_is_now_serves_an_open_whose_decision_took_long(
    photo, monkeypatch
) -> None:
    monkeypatch.setattr(KindEvidence, "demand", lambda self: None)  # as where a lease is had: it is sniffed
    with parts(photo.parent, engine_of(BY_KIND)) as made:
        node = await look_up(made, 1)
        gate = made.sniffed.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            opens = Opens(made, node, nursery)
            await opens.begin(1)  # waits for the kind, which its decision hangs on
            photo.write_bytes(LONGER)
            made.sniffed.gate = None
            await opens.begin(2)
            gate.set()
        assert opens.errors == []
        assert [len(await made.reader.read(handle, 0, 1 << 20)) for handle in opens.handles] == [
            len(LONGER)
        ] * 2


@on_trio
async def test_a_size_that_was_told_while_a_copy_was_made_that_never_came_to_be_is_taken_back(photo) -> None:
    photo.write_bytes(HALF)
    told: list[int] = []

    async def completed(node: Node) -> None:
        photo.write_bytes(PHOTO)
        told.append((await made.lookup.getattr(node, thread(made, 3))).st_size)

    with parts(photo.parent, engine_of(HIDE)) as made:
        opens = await while_made(made, 2, completed)
        assert opens.errors == [errno.EACCES]
        [handle] = opens.handles
        assert len(await made.reader.read(handle, 0, 1 << 20)) == told[0] == len(PHOTO)


@on_trio
async def test_the_size_of_an_old_copy_is_taken_back_by_the_next_open(photo) -> None:
    """Its entry is still believed: no look-up comes before."""
    with parts(photo.parent, engine_of(HIDE)) as made:
        node = await look_up(made, 1)
        old = await made.opener.open(node, os.O_RDONLY, thread(made, 1))
        photo.write_bytes(LONGER)
        assert (await made.lookup.getattr(node, thread(made, 1))).st_size == len(PHOTO)
        await made.release(old)
        made.notes.sizes.clear()
        await made.opener.open(node, os.O_RDONLY, thread(made, 1))
        assert made.notes.sizes == [node.nodeid]


@on_trio
async def test_a_file_emptied_by_its_path_while_a_copy_is_made_has_its_new_size(photo) -> None:
    emptied = Change(mode=None, uid=None, gid=None, size=0, atime_ns=None, mtime_ns=None, kill_priv=False)

    async def emptying(node: Node) -> None:
        await made.attribute_setter.setattr(node, emptied, None, thread(made, 2))

    with parts(photo.parent, engine_of(HIDE)) as made:
        opens = await while_made(made, 1, emptying)
        assert len(await made.reader.read(opens.handles[0], 0, 1 << 20)) == len(PHOTO), "it came before"
        assert (await made.lookup.getattr(opens.node, thread(made, 2))).st_size == 0


@on_trio
async def test_two_that_come_at_once_and_find_the_file_changed_twice_read_one_copy(photo) -> None:
    with parts(photo.parent, engine_of(HIDE)) as made:
        node = await look_up(made, 1)
        made.sniffed.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            opens = Opens(made, node, nursery)
            nursery.start_soon(opens.begin, 1)
            nursery.start_soon(opens.begin, 2)
            await trio.to_thread.run_sync(photo.write_bytes, LONGER)  # whole: a torn photo is refused
            await trio.testing.wait_all_tasks_blocked(0.05)
            photo.write_bytes(LONGEST)
            made.sniffed.gate.set()
        assert opens.errors == []
        assert made.copies.stats().copies == 1


@on_trio
async def test_the_node_of_a_second_try_is_nobody_elses_before_it_is_open(photo) -> None:
    """Another's open of it would fix it to a version, and the file may go on: ESTALE for the app."""
    with parts(photo.parent, engine_of(HIDE)) as made:
        await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        node = await look_up(made, 1)
        photo.write_bytes(LONGER)
        with pytest.raises(OSError) as stale:
            await made.opener.open(node, os.O_RDONLY, thread(made, 1))
        assert stale.value.errno == errno.ESTALE
        own = await look_up(made, 1)
        other = await look_up(made, 2)
        assert await look_up(made, 1) is own
        assert len({node, own, other}) == 3
        await made.opener.open(other, os.O_RDONLY, thread(made, 2))
        photo.write_bytes(LONGEST)
        handle = await made.opener.open(own, os.O_RDONLY, thread(made, 1))
        assert len(await made.reader.read(handle, 0, 1 << 20)) == len(LONGEST)
        photo.write_bytes(LONGEST)  # another version
        assert await look_up(made, 2) not in (own, other)


@on_trio
async def test_after_one_was_refused_others_get_the_file_as_it_has_become(photo) -> None:
    photo.write_bytes(HALF)

    async def completed(_: Node) -> None:
        photo.write_bytes(PHOTO)

    with parts(photo.parent, engine_of(HIDE)) as made:
        opens = await while_made(made, 3, completed)
        assert opens.errors == [errno.EACCES]
        for handle in opens.handles:
            got = await made.reader.read(handle, 0, 1 << 20)
            assert len(got) == len(PHOTO)
            assert not jpegs.leaks(got)
        assert made.copies.stats().copies == 1
        for handle in opens.handles:
            await made.release(handle)
        assert opens.node.open is None
        assert made.copies.stats().pinned == 0


def copies() -> list[Copy]:
    """All copies that something in this process still refers to."""
    gc.collect()
    return [held for held in gc.get_objects() if isinstance(held, Copy)]


@on_trio
async def test_copies_that_are_gone_leave_nothing_behind(photo) -> None:
    others = copies()  # of other tests
    with parts(photo.parent, engine_of(HIDE)) as made:
        for number in range(110):
            photo.write_bytes(PHOTO + b"%d" % number)
            node = await look_up(made, 1)
            await made.release(await made.opener.open(node, os.O_RDONLY, thread(made, 1)))
        held = [copy for copy in copies() if copy not in others]
        assert len(held) < 100
        assert len([copy for copy in held if copy.frozen.fd >= 0]) == 1


@on_trio
@pytest.mark.parametrize(
    "later", [Decision(allowed=False, errno=errno.EACCES), Decision(True, 0, redact=frozenset({"time"}))]
)
async def test_a_policy_that_comes_while_a_copy_gets_many_patches_decides(photo, monkeypatch, later) -> None:
    """Other requests go on meanwhile, and so may a reload."""
    monkeypatch.setattr(patching, "AT_ONCE", 1)
    with parts(photo.parent, engine_of(HIDE)) as made:
        node, who = await look_up(made, 1), thread(made, 1).principal
        before = len(os.listdir("/proc/self/fd"))
        decisions = [made.gate.judge(who, Op.READ, node, NO_FACTS), later]
        with photo.open("rb") as file:
            of_file = file.fileno(), node.ino, node.view.redact, lambda _kind: decisions.pop(0), who
            if later.allowed:
                with pytest.raises(PolicyChangedError):
                    await made.redactor.redacted(*of_file)
            else:
                refused = await made.redactor.redacted(*of_file)
                assert isinstance(refused, Refused)
                assert refused.decision is later
        assert not decisions
        assert len(os.listdir("/proc/self/fd")) == before, "a copy is left over"


@on_trio
async def test_copies_in_memory_of_files_that_cannot_be_cloned_need_room(tmp_path: Path, monkeypatch) -> None:
    """The store can clone, but not these files: the disk is full, or they have the flag of chattr +C."""
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(PHOTO + bytes(1 << 20))
    sizes = list[int]()
    with parts(tmp_path, engine_of(HIDE)) as made:
        monkeypatch.setattr(made.redactor, "_reflink", True)
        monkeypatch.setattr(made.copies, "limits", (3 << 20, 1024))
        made.sniffed.gate = trio.Event()
        freeze = copies_module.freeze

        def counted(fd: int, *arguments: Any) -> Frozen:
            frozen = freeze(fd, *arguments)
            sizes.append(frozen.memory)
            return frozen

        monkeypatch.setattr(copies_module, "freeze", counted)
        monkeypatch.setattr(frozen_module, "_clone", lambda fd, directory: None)
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(errno_of, made.open(f"/{number}.jpg", os.O_RDONLY, GALLERY))
            await made.sniffed.wanted()
            made.sniffed.gate.set()
    assert 0 < sum(sizes) <= 3 << 20


@on_trio
async def test_a_large_file_that_cannot_be_cloned_takes_no_room(tmp_path: Path, monkeypatch) -> None:
    """It is served under a lease, as on ext4."""
    (tmp_path / "a.jpg").write_bytes(PHOTO + bytes(1 << 20))
    with parts(tmp_path, engine_of(HIDE)) as made:
        monkeypatch.setattr(made.redactor, "_reflink", True)
        monkeypatch.setattr(made.redactor, "_size_cap", 1 << 19)
        monkeypatch.setattr(frozen_module, "_clone", lambda fd, directory: None)
        booked = list[int]()
        book = type(made.copies).book

        def noted(copies: Any, size: int, payer: Any) -> Any:
            booked.append(size)
            return book(copies, size, payer)

        monkeypatch.setattr(type(made.copies), "book", noted)
        await errno_of(made.open("/a.jpg", os.O_RDONLY, GALLERY))
        assert set(booked) <= {0}


BY_TWO_KINDS = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: places, require: {redact: location}, when: {type: image/png}, paths: "/**"}
- {id: times, require: {redact: time}, when: {type: image/jpeg}, paths: "/**"}
"""


@pytest.mark.parametrize("steady", [True, False], ids=["says a kind twice", "never stays with a kind"])
@on_trio
async def test_what_is_hidden_is_what_the_plan_was_made_for(
    photo: Path, monkeypatch: pytest.MonkeyPatch, steady: bool
) -> None:
    """A worker that tells two kinds in turn gets no plan for the one taken for the other's."""
    asked: list[frozenset[str]] = []

    async def says(fd: int, what: frozenset[str], **_: object) -> tuple[str, Plan]:
        asked.append(what)
        is_png = "location" not in what and not steady
        return "image/png" if is_png else "image/jpeg", Plan(Outcome.CLEAN)

    with parts(photo.parent, engine_of(BY_TWO_KINDS)) as made:
        monkeypatch.setattr(made.sniffed, "index", says)
        open_it = made.open("/a.jpg", os.O_RDONLY, GALLERY)
        if steady:
            await made.release(await open_it)
            assert asked[-1] == {"time", UNNAMED}
        else:
            assert await errno_of(open_it) == errno.EACCES
            assert len(asked) == PLANS_MAX


@on_trio
async def test_a_copy_serves_the_lane_whose_worker_made_its_plan(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was taken over by a file of one app cannot choose what another app reads."""
    with parts(photo.parent, engine_of(HIDE.replace("{app: gallery}", "{app: any}"))) as made:

        async def lies(*_: object, **__: object) -> tuple[str, Plan]:
            return "image/jpeg", Plan(Outcome.CLEAN)

        with monkeypatch.context() as lying:
            lying.setattr(made.sniffed, "index", lies)
            first = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        other = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        shown = [os.pread(handle.copy.frozen.fd, 1 << 16, 0) for handle in (first, other)]
        assert [bool(jpegs.leaks(each)) for each in shown] == [True, False]
        for handle in (first, other):
            await made.release(handle)


@pytest.mark.parametrize(
    ("leases", "times_tell"), [(True, True), (True, False), (False, True)],
    ids=["leases", "tmpfs", "no leases"],
)  # fmt: skip
@on_trio
async def test_a_copy_is_final_only_where_a_lease_and_times_tell(
    photo: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch, leases: bool, times_tell: bool
) -> None:
    """The bridge compares only size and times. On a tmpfs a write through a mapping may change neither."""
    with parts(photo.parent, engine_of(HIDE), keeper=keeper if leases else None) as made:
        monkeypatch.setattr(made.redactor._plans, "_times_tell", lambda dev: times_tell)
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert made.redactor.is_final(handle.copy) is (leases and times_tell)
        await made.release(handle)
