"""Requests that pyfuse3 does not know, from the kernel's bytes to the reply's, on the real file system."""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.inodes.caller import Admitted
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.operations import Request, Work
from policyfs.kernel.protocol import Opcode
from policyfs.store import ranges as store_ranges
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, TYPES, errno_of

STRANGER = 4242
GETFLAGS = 0x80086601
SETFLAGS = 0x40086602
HOLE_AFTER = struct.Struct("=QQI4x")
COPY = struct.Struct("=7Q")
IOCTL = struct.Struct("=QIIQII")


def request(opcode: Opcode, body: bytes, nodeid: int = 1, uid: int = CAMERA) -> Request:
    header = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 7, nodeid, uid, uid, os.getpid(), 0, 0)
    return Request(header + body)


async def answer(made: Parts, opcode: Opcode, body: bytes, nodeid: int = 1, uid: int = CAMERA) -> bytes:
    return await made.whole.requests()[opcode](request(opcode, body, nodeid, uid))


def quick(
    made: Parts, opcode: Opcode, body: bytes, nodeid: int = 1, uid: int = CAMERA
) -> bytes | Work | None:
    return made.whole.quick_requests()[opcode](request(opcode, body, nodeid, uid))


def quick_errno(made: Parts, *what) -> int:
    with pytest.raises(pyfuse3.FUSEError) as refused:
        quick(made, *what)
    return refused.value.errno


def fsync_of(fh: int, *, datasync: bool = False) -> bytes:
    return struct.pack("=QI4x", fh, datasync)


def xattr_of(name: bytes, size: int = 100) -> bytes:
    return struct.pack("=I4x", size) + name + b"\0"


BODIES = {
    Opcode.FALLOCATE: struct.pack("=QQQII", 999, 0, 1, 0, 0),
    Opcode.LSEEK: HOLE_AFTER.pack(999, 0, os.SEEK_HOLE),
    Opcode.COPY_FILE_RANGE: COPY.pack(999, 0, 1, 999, 0, 1, 0),
    Opcode.COPY_FILE_RANGE_64: COPY.pack(999, 0, 1, 999, 0, 1, 0),
    Opcode.FSYNC: fsync_of(999),
    Opcode.FSYNCDIR: fsync_of(999),
    Opcode.READDIR: struct.pack("=QQI", 999, 0, 4096),
}
"""Requests of handles that nobody has."""


@on_trio
async def test_no_request_of_an_unknown_handle_or_node_ends_the_mount(store: Path) -> None:
    """It has an answer, and stands in the log."""
    with parts(store, engine_of(OPEN)) as made:
        slow, fast = made.whole.requests(), made.whole.quick_requests()
        asked = [request(opcode, body) for opcode, body in BODIES.items()]
        asked.append(request(Opcode.STATX, bytes(40), nodeid=999))
        asked.append(request(Opcode.IOCTL, IOCTL.pack(0, 0, GETFLAGS, 0, 0, 8), nodeid=999))
        asked.append(request(Opcode.GETXATTR, xattr_of(b"user.a"), nodeid=999))
        for one in asked:
            made.bugs.clear()
            if one.opcode in fast:
                with pytest.raises(pyfuse3.FUSEError, match=os.strerror(errno.EIO)):
                    fast[one.opcode](one)
            if one.opcode in slow:
                assert await errno_of(slow[one.opcode](one)) == errno.EIO
            handlers = (one.opcode in fast) + (one.opcode in slow)
            assert [type(bug) for bug in made.bugs] == [KeyError] * handlers
            assert handlers > 0


@on_trio
async def test_only_admitted_callers_are_answered(store: Path) -> None:
    with parts(store, engine_of(OPEN), app="camera", admitted=Admitted(CAMERA, frozenset({CAMERA}))) as made:
        node = await made.walk("/a.jpg", CAMERA)
        for opcode, body in (
            (Opcode.STATX, b""),
            (Opcode.IOCTL, IOCTL.pack(0, 0, GETFLAGS, 0, 0, 8)),
            (Opcode.GETXATTR, xattr_of(b"user.a")),
        ):
            assert await errno_of(answer(made, opcode, body, node.nodeid, MAPS)) == errno.EACCES, opcode
            assert await errno_of(answer(made, opcode, body, node.nodeid)) != errno.EACCES, opcode
        body = xattr_of(b"security.capability")
        assert quick_errno(made, Opcode.GETXATTR, body, node.nodeid, MAPS) == errno.EACCES


# -- bytes -------------------------------------------------------------------------------------------


@on_trio
async def test_ranges_are_allocated_and_holes_found(store: Path) -> None:
    (store / "sparse").write_bytes(b"words")
    os.truncate(store / "sparse", 1 << 20)
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        body = struct.pack("=QQQII", handle.fh, 100, 8192, 0, 0)
        assert await answer(made, Opcode.FALLOCATE, body) == b""
        assert (store / "a.jpg").stat().st_size == 8292
        sparse = await made.open("/sparse", os.O_RDONLY, CAMERA)
        found = await answer(made, Opcode.LSEEK, HOLE_AFTER.pack(sparse.fh, 0, os.SEEK_HOLE))
        plain = os.open(store / "sparse", os.O_RDONLY)
        assert struct.unpack("=Q", found) == (os.lseek(plain, 0, os.SEEK_HOLE),)
        os.close(plain)
        body = HOLE_AFTER.pack(sparse.fh, 1 << 20, os.SEEK_DATA)
        assert await errno_of(answer(made, Opcode.LSEEK, body)) == errno.ENXIO


@pytest.mark.parametrize(
    ("opcode", "reply"),
    [(Opcode.COPY_FILE_RANGE, struct.Struct("=II")), (Opcode.COPY_FILE_RANGE_64, struct.Struct("=Q"))],
)
def test_a_range_is_copied_from_the_first_handle_to_the_second(
    store: Path, opcode: Opcode, reply: struct.Struct
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            source = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
            target = await made.open("/empty", os.O_RDWR, CAMERA)
            flagged = COPY.pack(source.fh, 4, 1, target.fh, 2, 10, 1)
            assert await errno_of(answer(made, opcode, flagged)) == errno.EINVAL
            assert (store / "empty").read_bytes() == b""
            body = COPY.pack(source.fh, 4, target.node.nodeid, target.fh, 2, 10, 0)
            assert reply.unpack(await answer(made, opcode, body))[0] == 10
            assert (store / "empty").read_bytes() == bytes(2) + PHOTO[4:14]

    run()


@on_trio
async def test_the_app_that_writes_takes_the_turns_of_a_copy(store: Path, monkeypatch) -> None:
    """A few at once; other apps' copies go on beside them."""
    go_on, begun = threading.Event(), []

    def slow(source: int, source_at: int, target: int, target_at: int, length: int) -> int:
        begun.append(length)
        assert length == 1 or go_on.wait(20)
        return length

    monkeypatch.setattr(store_ranges, "copy", slow)
    with parts(store, engine_of(OPEN)) as made:
        handles = {uid: await made.open("/a.jpg", os.O_RDWR, uid) for uid in (CAMERA, MAPS)}

        def body(source: int, target: int, length: int) -> bytes:
            return COPY.pack(handles[source].fh, 0, 1, handles[target].fh, 0, length, 0)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(answer, made, Opcode.COPY_FILE_RANGE, body(MAPS, CAMERA, 2))
            await trio.testing.wait_all_tasks_blocked()
            try:
                while len(begun) < 2:  # a thread begins when the machine lets it  # noqa: ASYNC110
                    await trio.sleep(0.001)
                await answer(made, Opcode.COPY_FILE_RANGE, body(MAPS, MAPS, 1))
                assert begun == [2, 2, 1]
            finally:
                go_on.set()
        assert begun.count(2) == 5


# -- fsync -------------------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Inodes that were made durable; whether data alone."""
    done: list[tuple[int, bool]] = []
    fsync = Tree.fsync

    def noting(self: Tree, fd: int, datasync: bool = False) -> None:
        done.append((os.fstat(fd).st_ino, datasync))
        fsync(self, fd, datasync)

    monkeypatch.setattr(Tree, "fsync", noting)
    return done


@pytest.mark.parametrize("datasync", [False, True])
def test_a_file_without_held_bytes_is_synced_by_a_thread(
    store: Path, synced: list[tuple[int, bool]], datasync: bool
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
            work = quick(made, Opcode.FSYNC, fsync_of(handle.fh, datasync=datasync))
            assert isinstance(work, Work)
            assert synced == []
            work.call()
            assert synced == [(os.stat(store / "a.jpg").st_ino, datasync)]

    run()


@pytest.mark.parametrize("datasync", [False, True])
def test_held_bytes_are_judged_first_and_then_synced(
    store: Path, synced: list[tuple[int, bool]], datasync: bool
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + TYPES)) as made:
            handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(CAMERA))
            await made.write(handle, 0, PHOTO[:3])
            body = fsync_of(handle.fh, datasync=datasync)
            assert quick(made, Opcode.FSYNC, body) is None
            assert await answer(made, Opcode.FSYNC, body) == b""
            assert (store / "new").read_bytes() == PHOTO[:3]
            assert synced == [(os.stat(store / "new").st_ino, datasync)]
            await made.release(handle)
            refused, _ = await made.creator.create(made.root, b"bad", 0o644, os.O_RDWR, made.caller(CAMERA))
            await made.write(refused, 0, PHOTO[:2])
            assert await errno_of(answer(made, Opcode.FSYNC, fsync_of(refused.fh))) == errno.EPERM
            assert (store / "bad").read_bytes() == b""

    run()


@pytest.mark.parametrize("fails", [False, True])
def test_a_directory_is_synced_also_if_its_listing_is_closed_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    (store / "d").mkdir()
    done: list[int] = []

    def fsyncdir(_: Tree, fd: int) -> None:
        done.append(os.fstat(fd).st_ino)
        if fails:
            raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(Tree, "fsyncdir", fsyncdir)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            node = await made.walk("/d", CAMERA)
            fh = await made.listings.opendir(node, made.caller(CAMERA))
            before = len(os.listdir("/proc/self/fd"))
            work = quick(made, Opcode.FSYNCDIR, fsync_of(fh))
            assert isinstance(work, Work)
            made.resolver.drop(node.nodeid)
            await made.listings.releasedir(fh & 0xFFFFFF)
            assert await errno_of(trio.to_thread.run_sync(work.call)) == (errno.EIO if fails else 0)
            assert done == [os.stat(store / "d").st_ino]
            made.resolver.dirfd(node)
            assert len(os.listdir("/proc/self/fd")) == before

    run()


@on_trio
async def test_no_descriptor_is_left_if_no_thread_can_start(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would soon have no descriptor for an open."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        fh = await made.listings.opendir(made.root, made.caller(CAMERA))
        before = len(os.listdir("/proc/self/fd"))
        for opcode, number in ((Opcode.FSYNC, handle.fh), (Opcode.FSYNCDIR, fh)):
            work = quick(made, opcode, fsync_of(number))
            assert isinstance(work, Work)
            work.drop()
        assert len(os.listdir("/proc/self/fd")) == before
        with monkeypatch.context() as limited:
            limited.setattr(sys.modules["trio._threads"], "start_thread_soon", refuse)
            assert await errno_of(answer(made, Opcode.FSYNC, fsync_of(handle.fh))) == errno.EIO
            made.sync._remote = True
            with pytest.raises(RuntimeError):
                await made.sync.flush(handle)
        assert len(os.listdir("/proc/self/fd")) == before
        await made.release(handle)


# -- names and attributes ----------------------------------------------------------------------------


@on_trio
async def test_a_listing_comes_in_parts_of_the_size_that_is_asked_for(store: Path) -> None:
    names = {b"name-%02d" % number for number in range(20)}
    (store / "d").mkdir()
    for name in names:
        (store / "d" / os.fsdecode(name)).touch()
    with parts(store, engine_of(OPEN)) as made:
        fh = await made.listings.opendir(await made.walk("/d", CAMERA), made.caller(CAMERA))
        found: list[bytes] = []
        position = parts_read = 0
        while part := await answer(made, Opcode.READDIR, struct.pack("=QQI", fh, position, 256)):
            assert len(part) <= 256
            parts_read, at = parts_read + 1, 0
            while at < len(part):
                _, position, length, _ = struct.unpack_from("=QQII", part, at)
                found.append(part[at + 24 : at + 24 + length])
                at += 24 + length + -length % 8
        assert sorted(found) == sorted(names | {b".", b".."})
        assert parts_read > 2
        await made.listings.releasedir(fh & 0xFFFFFF)


OPENDIR = struct.pack("=II", os.O_DIRECTORY, 0)
REQUIRED = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**", audit: required}
"""


@on_trio
async def test_a_directory_is_opened_and_read_on_at_once(store: Path) -> None:
    (store / "d").mkdir()
    (store / "d/one").touch()
    with parts(store, engine_of(OPEN)) as made:
        number = (await made.walk("/d", CAMERA)).nodeid
        recorded = len(made.sink.events)
        fh = struct.unpack_from("=Q", quick(made, Opcode.OPENDIR, OPENDIR, number))[0]
        assert [(e.path, e.decision) for e in made.sink.events[recorded:]] == [(b"/d", "allow")]
        first = struct.pack("=QQI", fh, 0, 256)
        assert quick(made, Opcode.READDIR, first) is None, "the store must be read, which may take long"
        assert b"one" in await answer(made, Opcode.READDIR, first)
        rest = struct.pack("=QQI", fh, 2, 256)
        assert quick(made, Opcode.READDIR, rest) == await answer(made, Opcode.READDIR, rest) != b""
        made.reload(engine_of(OPEN))
        assert quick(made, Opcode.READDIR, rest) is None, "it must be read anew"
        await made.listings.releasedir(fh & 0xFFFFFF)


@pytest.mark.parametrize(("policy", "uid"), [(REQUIRED, CAMERA), (OPEN, STRANGER)])
@on_trio
async def test_no_directory_is_opened_at_once_whose_record_comes_first(
    store: Path, policy: str, uid: int
) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(policy)) as made:
        number = (await made.walk("/d", CAMERA)).nodeid
        recorded = len(made.sink.events)
        assert quick(made, Opcode.OPENDIR, OPENDIR, number, uid) is None
        assert (len(made.listings), len(made.sink.events)) == (0, recorded)


@on_trio
async def test_a_directory_waits_for_the_record_of_the_policy_in_force(store: Path, monkeypatch) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        number = (await made.walk("/d", CAMERA)).nodeid
        monkeypatch.setattr(type(made.gate.policy_record), "is_missing", True)
        assert quick(made, Opcode.OPENDIR, OPENDIR, number) is None


@on_trio
async def test_attributes_that_nothing_has_are_answered_at_once(store: Path) -> None:
    os.setxattr(store / "a.jpg", "user.tag", b"value")
    with parts(store, engine_of(OPEN)) as made:
        number = (await made.walk("/a.jpg", CAMERA)).nodeid
        label = xattr_of(b"security.selinux")
        assert quick_errno(made, Opcode.GETXATTR, label, number) == errno.EOPNOTSUPP
        assert quick(made, Opcode.GETXATTR, label, number, STRANGER) is None, "a refusal is recorded"
        assert await errno_of(answer(made, Opcode.GETXATTR, label, number, STRANGER)) == errno.ENOENT
        assert [(e.operation, e.decision) for e in made.sink.events[-1:]] == [("getxattr", "deny")]
        assert quick(made, Opcode.GETXATTR, xattr_of(b"user.tag"), number) is None
        assert await answer(made, Opcode.GETXATTR, xattr_of(b"user.tag"), number) == b"value"
        size = await answer(made, Opcode.GETXATTR, xattr_of(b"user.tag", 0), number)
        assert struct.unpack("=I4x", size) == (5,)
        short = xattr_of(b"user.tag", 4)
        assert await errno_of(answer(made, Opcode.GETXATTR, short, number)) == errno.ERANGE


@on_trio
async def test_only_one_ioctl_is_known_and_its_answer_fits_the_caller(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(OPEN)) as made:
        number = (await made.walk("/a.jpg", CAMERA)).nodeid
        events = len(made.sink.events)
        for command in (SETFLAGS, 0x5401, 0):
            body = IOCTL.pack(0, 0, command, 0, 0, 8)
            assert await errno_of(answer(made, Opcode.IOCTL, body, number)) == errno.ENOTTY
        assert len(made.sink.events) == events
        # Not every store has flags; what it says is passed on.
        monkeypatch.setattr("policyfs.fs.namespace.setattr.inode_flags", lambda fd: 0x80000010)
        for size in (4, 8):  # the kernel says how many bytes the caller has room for
            reply = await answer(made, Opcode.IOCTL, IOCTL.pack(0, 0, GETFLAGS, 0, 0, size), number)
            assert struct.unpack_from("=iIIII", reply) == (0, 0, 0, 0, 0x80000010)
            assert len(reply) == 16 + size
        body = IOCTL.pack(0, 0, GETFLAGS, 0, 0, 8)
        assert await errno_of(answer(made, Opcode.IOCTL, body, number, STRANGER)) == errno.ENOENT


@on_trio
async def test_statx_has_the_birth_time_for_who_sees_the_file(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        reply = await answer(made, Opcode.STATX, b"", node.nodeid)
        statx = reply[32:]
        assert struct.unpack_from("=I", statx)[0] == 0xFFF, "with the birth time"
        found = os.stat(store / "a.jpg")
        assert struct.unpack_from("=QQ", statx, 32) == (found.st_ino, found.st_size)
        seconds, nanoseconds = struct.unpack_from("=qI", statx, 80)
        assert seconds * 10**9 + nanoseconds == node.btime_ns > 0
        assert await errno_of(answer(made, Opcode.STATX, b"", node.nodeid, STRANGER)) == errno.ENOENT


@on_trio
async def test_a_write_without_its_data_is_refused_and_the_kernel_drops_the_pages(store: Path) -> None:
    """The bridge has dropped the data. The kernel has filled its pages with them before."""
    with parts(store, engine_of(OPEN)) as made:
        number = (await made.walk("/a.jpg", CAMERA)).nodeid
        assert quick_errno(made, Opcode.WRITE, bytes(40), number) == errno.ENOMEM
        assert made.notes.pages == [number]
