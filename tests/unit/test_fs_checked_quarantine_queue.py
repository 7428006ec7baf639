"""Refused files on their way to the quarantine: a few of each app, each on record, none lost silently."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.domain import Op, RuleMatch
from policyfs.fs.checked.quarantine_queue import _CROWDED, _WAITING_EACH, QuarantineQueue
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.pending_writes import Refusal
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.store.quarantine import Limits, Quarantine
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN

TYPES = (RuleMatch("types", "content", Op.WRITE),)
REFUSAL = Refusal("text/plain", "content must be image/jpeg", TYPES, True, 1)
ROOMY = Limits(1 << 20, 100)


class Queued:
    """A queue of its own on a file system, and its quarantine."""

    def __init__(self, made: Parts, root: Path, limits: Limits = ROOMY) -> None:
        self.made = made
        self.warned: list[str] = []
        self.quarantine = Quarantine(root / "kept")
        self.queue = QuarantineQueue(
            tree=made.tree, recorder=made.gate.recorder, quarantine=self.quarantine, limits=limits,
            mount="/mnt", store=str(made.store), warn=lambda message, _path: self.warned.append(message),
        )  # fmt: skip

    async def handle(self, uid: int = CAMERA) -> Handle:
        return await self.made.open("/a.jpg", os.O_RDWR, uid)

    def take(self, handle: Handle, data: bytes = b"refused") -> None:
        fd = os.memfd_create("refused")
        os.pwrite(fd, data, 0)
        self.queue.take(handle, fd, REFUSAL)

    def records(self) -> list[tuple[str, int, str]]:
        return [
            (event.decision, event.errno, event.note)
            for event in self.made.sink.events
            if event.operation == "quarantine"
        ]

    def kept(self) -> list[bytes]:
        found = []
        for entry in self.quarantine.entries():
            fd = self.quarantine.open(entry)
            found.append(os.pread(fd, 1 << 20, 0))
            os.close(fd)
        return found


@on_trio
async def test_a_refused_file_is_kept_in_the_background_and_on_record(store: Path, tmp_path_factory) -> None:
    with parts(store, engine_of(OPEN)) as made:
        queued = Queued(made, tmp_path_factory.mktemp("q"))
        handle = await queued.handle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queued.queue.run)
            queued.take(handle, b"first")
            queued.take(handle, b"second")
            with trio.fail_after(10):
                while queued.queue.stats().kept < 2:  # noqa: ASYNC110 - it tells nobody
                    await trio.sleep(0.002)
            nursery.cancel_scope.cancel()
        assert sorted(queued.kept()) == [b"first", b"second"]
        assert queued.queue.stats().waiting == 0
        (one, _) = queued.records()
        assert (one[0], one[2].endswith("bytes: content must be image/jpeg")) == ("allow", True)
        entry = queued.quarantine.entries()[0]
        assert entry.about is not None
        assert (entry.about.app, entry.about.path, entry.about.rules) == ("camera", b"/a.jpg", ("types",))
        assert entry.about.root == made.tree.identity()


@on_trio
async def test_an_app_has_only_a_few_waiting_and_takes_none_from_others(
    store: Path, tmp_path_factory
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        queued = Queued(made, tmp_path_factory.mktemp("q"))
        camera, maps = await queued.handle(), await queued.handle(MAPS)
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(_WAITING_EACH + 2):
            queued.take(camera)
        assert (queued.queue.stats().waiting, queued.queue.stats().dropped) == (_WAITING_EACH, 2)
        assert len(os.listdir("/proc/self/fd")) == descriptors + _WAITING_EACH
        assert [(verdict, code) for verdict, code, _ in queued.records()] == [("deny", errno.ENOSPC)] * 2
        assert "already waiting" in queued.records()[0][2]
        queued.take(maps)
        assert queued.queue.stats().waiting == _WAITING_EACH + 1
        queued.queue.close()
        assert queued.queue.stats().kept == _WAITING_EACH + 1
        assert len(os.listdir("/proc/self/fd")) == descriptors
        queued.take(camera)
        assert queued.queue.stats().waiting == 1, "there is room again"
        queued.queue.close()


@on_trio
async def test_the_next_file_of_an_app_with_many_waiting_waits_a_while(
    store: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        queued = Queued(made, tmp_path_factory.mktemp("q"))
        handle = await queued.handle()
        for _ in range(_CROWDED):
            await queued.queue.room(handle.caller)
            queued.take(handle)
        await queued.queue.room(made.caller(MAPS))  # of another app
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queued.queue.room, handle.caller)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            queued.queue.close()
        queued.take(handle)
        monkeypatch.setattr("policyfs.fs.checked.quarantine_queue._CROWDED", 1)
        monkeypatch.setattr("policyfs.fs.checked.quarantine_queue._ROOM_S", 0.01)
        await queued.queue.room(handle.caller)
        assert queued.queue.stats().waiting == 1, "not for ever"
        queued.queue.close()


@on_trio
async def test_what_does_not_fit_is_dropped_on_record(store: Path, tmp_path_factory) -> None:
    with parts(store, engine_of(OPEN)) as made:
        queued = Queued(made, tmp_path_factory.mktemp("q"), Limits(1 << 20, 1))
        handle = await queued.handle()
        queued.take(handle)
        queued.take(handle)
        queued.queue.close()
        assert (queued.queue.stats().kept, queued.queue.stats().dropped) == (1, 1)
        assert [verdict for verdict, _, _ in queued.records()] == ["allow", "deny"]
        assert queued.records()[1][2].startswith("the refused file is lost: the quarantine is full")


@on_trio
async def test_a_quarantine_that_cannot_be_written_loses_the_file_on_record(
    store: Path, tmp_path_factory
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        root = tmp_path_factory.mktemp("q")
        (root / "kept").write_bytes(b"no directory")
        queued = Queued(made, root)
        queued.take(await queued.handle())
        queued.queue.close()
        assert "cannot be written" in queued.records()[0][2]


@pytest.mark.parametrize("at", ["take", "close"])
def test_what_cannot_be_recorded_is_told_to_somebody(store: Path, tmp_path_factory, at: str) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            queued = Queued(made, tmp_path_factory.mktemp("q"))
            handle = await queued.handle()
            for _ in range(_WAITING_EACH):
                queued.take(handle)
            made.sink.broken = True
            if at == "take":
                with pytest.raises(pyfuse3.FUSEError) as caught:
                    queued.take(handle)
                assert caught.value.errno == errno.EIO
            queued.queue.close()
            assert len(queued.warned) == _WAITING_EACH
            told = "the trail could not take the record about this refused file: kept as "
            assert queued.warned[0].startswith(told)

    run()


@on_trio
async def test_a_file_of_a_store_that_fails_is_kept(
    store: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store does not tell the owner and the mode of its own file."""

    def failing(_tree: Tree, _fd: int) -> Stat:
        raise OSError(errno.EIO, "the disk")

    with parts(store, engine_of(OPEN)) as made:
        queued = Queued(made, tmp_path_factory.mktemp("q"))
        handle = await queued.handle()
        descriptors = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(Tree, "fstat", failing)
            queued.take(handle)
        queued.queue.close()
        assert queued.kept() == [b"refused"]
        assert len(os.listdir("/proc/self/fd")) == descriptors
        [entry] = queued.quarantine.entries()
        assert entry.about is not None
        assert (entry.about.uid, entry.about.gid, entry.about.mode) == (CAMERA, CAMERA, 0o600)
