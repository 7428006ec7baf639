"""Ranges and files without a name, on the parts alone: what must hold at the very moment of the change."""

from __future__ import annotations

import errno
import os
import struct
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.raw_handlers import RawHandlers
from policyfs.kernel.operations import Request
from policyfs.kernel.protocol import Opcode
from policyfs.store import ranges as store_ranges
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, TYPES, errno_of

READ_ONLY = '- {id: look, allow: [see, read], who: {app: any}, paths: "/**"}\n'
ZEROS = (0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    return tmp_path


def stored(path: Path) -> bytes:
    return path.read_bytes()


@on_trio
async def test_who_loses_a_file_while_it_is_open_loses_its_ranges(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        ranges = made.data.ranges
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        assert await errno_of(ranges.allocate(handle, KEEP_SIZE | PUNCH_HOLE, 4096, 10)) == 0
        other = await made.open("/new.jpg", os.O_RDWR | os.O_TRUNC, MAPS)
        await made.write(other, 0, PHOTO)
        for mode in ZEROS:
            assert await errno_of(ranges.allocate(handle, mode, 0, 4096)) == errno.EACCES
        await made.release(other)
        assert await errno_of(ranges.allocate(handle, ZERO_RANGE, 0, 4096)) == errno.EACCES
    assert (store / "new.jpg").read_bytes() == PHOTO


@on_trio
async def test_a_range_judged_on_the_old_bytes_does_not_follow_their_end(store: Path) -> None:
    """While zeros are judged, another handle empties the file: they find an empty, held head then."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        ranges = made.data.ranges
        mine = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        made.sniffed.gate, made.sniffed.asked = trio.Event(), trio.Event()
        found: list[int] = []

        async def zero() -> None:
            found.append(await errno_of(ranges.allocate(mine, KEEP_SIZE | PUNCH_HOLE, 20, 10)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(zero)
            await made.sniffed.asked.wait()
            gate, made.sniffed.gate = made.sniffed.gate, None
            nursery.start_soon(made.writer.truncate, mine, 0)
            await trio.testing.wait_all_tasks_blocked()
            assert len(stored(store / "a.jpg")) == len(PHOTO), "the truncation waits for the judgement"
            gate.set()
        assert found in ([0], [errno.EPERM])
        assert await errno_of(ranges.allocate(mine, ZERO_RANGE, 0, 4096)) == 0  # into a draft
        assert await errno_of(ranges.allocate(mine, KEEP_SIZE, 0, 4096)) == 0
        assert await errno_of(made.sync.flush(mine)) == errno.EPERM
    assert (store / "a.jpg").read_bytes() in (PHOTO, PHOTO[:20] + bytes(10) + PHOTO[30:])


@on_trio
async def test_zeros_behind_the_end_are_judged_as_what_they_are(store: Path) -> None:
    """A file of one allowed kind, made longer over the part that is judged."""
    (store / "short.jpg").write_bytes(b"\xff\xd8\xff")
    with parts(store, engine_of(OPEN + TYPES)) as made:
        ranges = made.data.ranges
        asked: list[bytes] = []
        kind_of_head = made.sniffed.kind_of_head

        async def noting(head: bytes, *, lane=None):
            asked.append(head)
            return await kind_of_head(head, lane=lane)

        made.sniffed.kind_of_head = noting
        handle = await made.open("/short.jpg", os.O_RDWR, CAMERA)
        for mode, at, length, judged in (
            (0, 0, 100, 100),
            (ZERO_RANGE, 70_000, 10, 65_536),
            (ZERO_RANGE, 200_000, 10, None),
            (0, 0, 300_000, None),
            (KEEP_SIZE, 0, 1 << 20, None),
        ):
            asked.clear()
            code = await errno_of(ranges.allocate(handle, mode, at, length))
            if code == errno.EOPNOTSUPP:  # this disk zeroes no ranges: as long as it would be, then
                os.truncate(store / "short.jpg", at + length)
            assert code in {0, errno.EOPNOTSUPP}
            assert [len(head) for head in asked] == ([] if judged is None else [judged]), (mode, at)


@on_trio
async def test_a_readers_fsync_reaches_the_stores_file(store: Path, monkeypatch) -> None:
    synced: list[int] = []
    fsync = Tree.fsync

    def noting(self: Tree, fd: int, datasync: bool = False) -> None:
        synced.append(os.fstat(fd).st_ino)
        fsync(self, fd, datasync)

    monkeypatch.setattr(Tree, "fsync", noting)
    with parts(store, engine_of(REDACTED)) as made:
        for uid in (MAPS, GALLERY):  # raw, and a frozen copy
            handle = await made.open("/a.jpg", os.O_RDONLY, uid)
            await made.sync.fsync(handle, datasync=False)
        assert handle.node.byte_path is BytePath.COPY
        assert synced == [(store / "a.jpg").stat().st_ino] * 2
        (store / "a.jpg").unlink()
        assert await errno_of(made.sync.fsync(handle, datasync=False)) == 0


@on_trio
async def test_nothing_of_a_copy_is_copied_within_the_store(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        ranges = made.data.ranges
        copy = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        raw = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        mine, _ = await made.creator.create(made.root, b"mine", 0o644, os.O_RDWR, made.caller(GALLERY))
        target, _ = await made.creator.create(made.root, b"raw", 0o644, os.O_RDWR, made.caller(MAPS))
        assert await errno_of(ranges.copy(copy, 0, target, 0, 100)) == errno.EOPNOTSUPP
        assert await errno_of(ranges.copy(raw, 0, mine, 0, 100)) == errno.EOPNOTSUPP
        assert await ranges.copy(raw, 0, target, 0, 1 << 40) == len(PHOTO)
        assert await ranges.seek(copy, 5, os.SEEK_HOLE) == len(PHOTO)
        assert await errno_of(ranges.seek(copy, len(PHOTO), os.SEEK_DATA)) == errno.ENXIO
    assert (store / "raw").read_bytes() == PHOTO
    assert (store / "mine").read_bytes() == b""


@on_trio
async def test_the_kernel_copies_in_passthrough_if_no_blocks_can_be_shared(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        source = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        target, _ = await made.creator.create(made.root, b"raw", 0o644, os.O_RDWR, made.caller(MAPS))

        async def answer() -> int:
            return await errno_of(made.data.ranges.copy(source, 0, target, 0, 100))

        for modes, error in (
            ((Mode.PASSTHROUGH, Mode.PASSTHROUGH), errno.ENOSYS),
            ((Mode.MEDIATED, Mode.PASSTHROUGH), 0),
            ((Mode.PASSTHROUGH, Mode.MEDIATED), 0),
        ):
            source.mode, target.mode = modes
            assert await answer() == error
        made.reload(engine_of(READ_ONLY))
        source.mode = target.mode = Mode.PASSTHROUGH
        assert await answer() == errno.EACCES
        source.mode = target.mode = Mode.MEDIATED
    assert stored(store / "raw") == PHOTO[:100]


@on_trio
async def test_one_apps_long_ranges_leave_threads_for_others(store: Path, monkeypatch) -> None:
    """Sixty slow requests of one app; another app's request, and the threads of all, do not wait."""
    go_on, begun = threading.Event(), []

    def slow(fd: int, mode: int, offset: int, length: int) -> None:
        begun.append(length)
        if length == 1:
            assert go_on.wait(20)

    monkeypatch.setattr(store_ranges, "allocate", slow)
    with parts(store, engine_of(OPEN)) as made:
        operations = RawHandlers(
            made.fs, names=made.names, data=made.data, sync_directory=made.tree.fsyncdir, bugs=made
        )
        handles = {uid: await made.open("/a.jpg", os.O_RDWR, uid) for uid in (CAMERA, MAPS)}

        def request(uid: int, length: int) -> Request:
            body = struct.pack("=QQQII", handles[uid].fh, 0, length, KEEP_SIZE, 0)
            numbers = (40 + len(body), Opcode.FALLOCATE, 1, handles[uid].node.nodeid, uid, uid, 1, 0, 0)
            header = struct.pack("=IIQQIIIHH", *numbers)
            return Request(header + body)

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(operations.fallocate, request(CAMERA, 1))
            await trio.testing.wait_all_tasks_blocked()
            try:
                with trio.fail_after(5):
                    while len(begun) < 2:  # a thread begins when the machine lets it  # noqa: ASYNC110
                        await trio.sleep(0.001)
                    await operations.fallocate(request(MAPS, 2))
                    await trio.to_thread.run_sync(os.stat, store)
                assert sorted(begun) == [1, 1, 2]
            finally:
                go_on.set()
        assert begun.count(1) == 60
        assert len(operations._turns) == 0


@on_trio
async def test_a_writer_that_sees_the_file_no_more_is_not_told_its_size(store: Path) -> None:
    rules = '- {id: all, allow: [see, write], who: {app: any}, paths: "/**"}\n'
    hidden = '- {id: hide, deny: [see], paths: "/a.jpg"}\n'
    with parts(store, engine_of(rules)) as made:
        handle = await made.open("/a.jpg", os.O_WRONLY, CAMERA)
        assert await made.data.ranges.seek(handle, 0, os.SEEK_HOLE) == len(PHOTO)
        made.reload(engine_of(rules + hidden))
        assert await errno_of(made.data.ranges.seek(handle, 0, os.SEEK_HOLE)) == errno.ENOENT
        await made.release(handle)
