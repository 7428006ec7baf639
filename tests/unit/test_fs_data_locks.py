"""Lock requests on a real file: who gets a lock, who waits, and what the kernel must forget before."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.errors import PolicyfsError
from policyfs.fs.access.ledger import PolicyRecord
from policyfs.fs.data.locks import Locks
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import BytePath, StaleNodeError
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.operations import Request
from policyfs.kernel.protocol import Opcode
from policyfs.store.locking.locks import Limits, LockTable
from policyfs.store.locking.ofd import RDLCK, UNLCK, WRLCK
from policyfs.store.spans import LAST_BYTE
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of

ONE, OTHER = 0xA, 0xB
"""Two lock owners."""


class Place:
    """A file with two handles of different processes, and the locks on it."""

    def __init__(self, path: Path) -> None:
        (path / "a").write_bytes(b"0123456789")
        self.path = path / "a"
        self.tree = Tree.open(str(path))
        self.forgotten: list[tuple[int, bool]] = []
        self.found = 0
        self.gone = False
        self.bugs: list[tuple[str, BaseException]] = []
        stat = self.tree.stat(self.tree.root_fd, b"a")
        self.node = SimpleNamespace(
            nodeid=7, ino=stat.ino, btime_ns=stat.btime_ns, byte_path=BytePath.RAW,
            open=SimpleNamespace(locked=None),
        )  # fmt: skip
        self.handles = {number: self.handle(number) for number in (1, 2)}
        self.table = LockTable(Limits(64, 64, 64), lambda held: None)
        self.locks = Locks(
            SimpleNamespace(  # type: ignore[arg-type]
                tree=self.tree, handles=SimpleNamespace(get=self.handles.__getitem__),
                gate=SimpleNamespace(policy_record=PolicyRecord()),
            ),
            table=self.table, find_file=self.find,
            cache=SimpleNamespace(  # type: ignore[arg-type]
                forget_seen=self.forget,
                forget_attributes_now=lambda nodeid: self.forgotten.append((nodeid, False)),
            ),
            bugs=SimpleNamespace(bug=lambda where, error: self.bugs.append((where, error))),  # type: ignore[arg-type]
        )  # fmt: skip

    def handle(self, fh: int) -> Any:
        return SimpleNamespace(
            fh=fh, node=self.node, mode=Mode.PASSTHROUGH, writable=True,
            caller=SimpleNamespace(holder=f"app{fh}"),
        )  # fmt: skip

    def find(self, handle: object) -> int:
        self.found += 1
        if self.gone:
            raise StaleNodeError
        return self.tree.open_path(self.tree.root_fd, b"a")

    async def forget(self, nodeid: int, *, pages: bool) -> None:
        self.forgotten.append((nodeid, pages))

    def request(
        self, kind: int, start: int = 0, end: int = LAST_BYTE, *, fh: int = 1, owner: int = ONE,
        opcode: Opcode = Opcode.SETLK, flock: bool = False,
    ) -> Request:  # fmt: skip
        body = struct.pack("=QQQQIIII", fh, owner, start, end, kind, 77, flock, 0)
        return Request(struct.pack("=IIQQIIIHH", 88, opcode, 2 * fh, 7, 0, 0, 0, 0, 0) + body)

    def now(self, kind: int, start: int = 0, end: int = LAST_BYTE, **fields: Any) -> bytes | int | None:
        """What is answered at once: a body, None for "not at once", or an errno."""
        try:
            return self.locks.setlk_now(self.request(kind, start, end, **fields))
        except pyfuse3.FUSEError as error:
            return int(error.errno)

    def free(self, start: int = 0, length: int = 0) -> bool:
        """Could another program lock this part of the file in the store?"""
        with open(self.path, "r+b") as file:
            try:
                asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, length, 0)
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, asked)
            except BlockingIOError:
                return False
            return True


def _descriptors() -> int:
    """The number of open descriptors, but for those of a state's memory, which last as long as it does."""
    paths = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum("/memfd:" not in path for path in paths)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    before = _descriptors()
    made = Place(tmp_path)
    yield made
    made.locks.close()
    made.tree.close()
    assert not made.bugs
    assert _descriptors() == before, "a descriptor is left over"


def test_a_lock_is_on_the_file_of_the_store_and_ends_by_an_unlock(place: Place) -> None:
    assert place.now(WRLCK, 2, 5) == b""
    assert not place.free(2, 4)
    assert place.free(6, 4)
    assert place.now(UNLCK, 2, 5) == b""
    assert place.free()


def test_another_owner_does_not_get_it_and_is_told_who_has_it(place: Place) -> None:
    async def in_the_way(kind: int, start: int, end: int) -> tuple[int, ...]:
        request = place.request(kind, start, end, fh=2, owner=OTHER, opcode=Opcode.GETLK)
        return struct.unpack("=QQII", await place.locks.getlk(request))

    assert place.now(WRLCK, 2, 5) == b""
    assert place.now(WRLCK, 5, 9, fh=2, owner=OTHER) == errno.EAGAIN
    assert place.now(RDLCK, 5, 9, fh=2, owner=OTHER) == errno.EAGAIN
    assert place.now(WRLCK, 6, 9, fh=2, owner=OTHER) == b""
    assert trio.run(in_the_way, RDLCK, 0, 4) == (2, 5, WRLCK, 77)
    assert trio.run(in_the_way, WRLCK, 6, 9) == (6, 9, UNLCK, 0), "its own"
    with open(place.path, "r+b") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 100, 10, 0))
        assert trio.run(in_the_way, WRLCK, 105, 105)[:3] == (100, 109, WRLCK), "another program's"


def test_a_range_that_is_none_is_refused(place: Place) -> None:
    for start, end in ((5, 4), (0, LAST_BYTE + 1)):
        assert place.now(WRLCK, start, end) == errno.EINVAL
    assert place.found == 0


def test_flock_and_byte_ranges_are_two_kinds_of_locks(place: Place) -> None:
    assert place.now(WRLCK, flock=True) == b""
    assert place.now(WRLCK, fh=2, owner=OTHER, flock=True) == errno.EAGAIN
    assert place.now(WRLCK, fh=2, owner=OTHER) == b""


def test_an_unlock_without_a_lock_opens_nothing(place: Place) -> None:
    assert place.now(UNLCK) == b""
    assert place.found == 0


def test_a_file_out_of_reach_has_no_locks(place: Place) -> None:
    place.gone = True
    assert place.now(RDLCK) == errno.ENOLCK


def test_a_reader_gets_a_writable_descriptor_only_through_a_writable_handle(place: Place) -> None:
    place.handles[1].writable = False
    assert place.now(RDLCK) == b""
    assert place.now(RDLCK, fh=2) == b""
    assert place.found == 1, "one owner, one descriptor"
    assert place.now(WRLCK, fh=2) == b""
    assert place.found == 2
    assert not place.free()


def test_the_kernel_forgets_the_size_only_after_a_change_of_the_file(place: Place) -> None:
    place.now(WRLCK)
    assert place.forgotten == [(7, False)], "the first lock: nothing is known"
    place.now(WRLCK, 0, 1)
    assert len(place.forgotten) == 1
    place.path.write_bytes(b"changed by the last holder")
    place.now(WRLCK, 0, 2)
    assert len(place.forgotten) == 2
    place.node.byte_path = BytePath.COPY
    place.path.write_bytes(b"a copy stays as it was opened")
    place.now(WRLCK, 0, 3)
    assert len(place.forgotten) == 2


def test_pages_of_a_mediated_file_are_forgotten_before_the_lock_is_granted(place: Place) -> None:
    place.handles[1].mode = Mode.MEDIATED
    assert place.now(WRLCK) is None, "that takes time"
    assert place.forgotten == []
    assert trio.run(place.locks.setlk, place.request(WRLCK)) == b""
    assert trio.run(place.locks.setlk, place.request(WRLCK)) == b""
    assert place.forgotten == [(7, True)] * 2


def test_who_waits_gets_the_lock_when_it_is_released(place: Place) -> None:
    got: list[bytes] = []

    async def main() -> None:
        asked = place.request(WRLCK, fh=2, owner=OTHER, opcode=Opcode.SETLKW)
        assert place.locks.setlk_now(asked) is None

        async def wait() -> None:
            got.append(await place.locks.setlk(asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not got
            assert place.locks.stats().waiting == 1
            place.locks.flushed(place.handles[1], ONE)

    assert place.now(WRLCK) == b""
    trio.run(main)
    assert got == [b""]
    assert not place.free()
    assert place.now(WRLCK) == errno.EAGAIN


@pytest.mark.parametrize("reused", [False, True])
def test_a_lock_that_another_thread_releases_before_its_answer_is_answered(
    place: Place, reused: bool
) -> None:
    """A close(2) by another thread closes the holder's descriptor; its number may be another file's then."""
    got: list[bytes] = []

    async def main() -> None:
        asked = place.request(WRLCK, fh=2, owner=OTHER, opcode=Opcode.SETLKW)

        async def wait() -> None:
            got.append(await place.locks.setlk(asked))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                place.locks.flushed(place.handles[1], ONE)
                place.locks.flushed(place.handles[2], OTHER)
                foreign = os.open("/dev/null", os.O_RDONLY) if reused else -1
        if reused:
            os.close(foreign)

    assert place.now(WRLCK) == b""
    known, place.forgotten[:] = place.node.open.locked, []
    trio.run(main)
    assert got == [b""]
    assert place.node.open.locked == known
    assert place.forgotten == [(7, False)], "the file may have changed"
    assert place.free()


def test_a_signal_ends_the_wait_and_leaves_nothing_behind(place: Place) -> None:
    codes: list[int] = []

    async def main() -> None:
        asked = place.request(WRLCK, fh=2, owner=OTHER, opcode=Opcode.SETLKW)

        async def wait() -> None:
            try:
                await place.locks.setlk(asked)
            except pyfuse3.FUSEError as error:
                codes.append(error.errno)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            asked.interrupt()

    assert place.now(WRLCK) == b""
    trio.run(main)
    assert codes == [errno.EINTR]
    assert place.locks.stats().waiting == 0
    assert place.now(UNLCK) == b""
    assert place.free()


def test_a_lock_of_another_program_is_tried_again(place: Place) -> None:
    async def main(fd: int) -> None:
        async def let_go() -> None:
            await trio.sleep(0.01)
            fcntl.flock(fd, fcntl.LOCK_UN)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(place.locks.ask_again)
            nursery.start_soon(let_go)
            with trio.fail_after(20):
                request = place.request(WRLCK, opcode=Opcode.SETLKW, flock=True)
                assert await place.locks.setlk(request) == b""
            nursery.cancel_scope.cancel()

    with open(place.path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        trio.run(main, file.fileno())


def test_the_last_close_releases_what_was_taken_through_the_handle(place: Place) -> None:
    assert place.now(WRLCK, flock=True) == b""
    assert place.now(WRLCK, 0, 5) == b""
    place.locks.released(place.handles[2])
    assert place.now(WRLCK, fh=2, owner=OTHER, flock=True) == errno.EAGAIN
    place.locks.released(place.handles[1])
    assert place.now(WRLCK, fh=2, owner=OTHER, flock=True) == b""


UIDS_TOLD_APART = """\
- {id: own, allow: [all], who: {app: gallery}, paths: "/users/{uid}/**"}
- {id: some, allow: [all], who: {app: gallery, uid: 10011}, paths: "/a"}
- {id: strangers, allow: [all], who: {app: stranger}, paths: "/a"}
"""
GALLERY, FIRST_STRANGER, SECOND_STRANGER = 10011, 501, 502


def _locks_of(place: Place, callers: list[Caller]) -> list[bytes | int | None]:
    """What each caller is answered that locks the file as one more owner, one after the other."""
    said = []
    for owner, caller in enumerate(callers):
        place.handles[1].caller = caller
        said.append(place.now(RDLCK, owner=owner))
    return said


@pytest.fixture
def told_apart(place: Place) -> Any:
    """A caller of a uid, under a policy that tells each of an app's uids apart; and room for four owners."""
    place.locks._table = place.table = LockTable(Limits(4, 64, 64), lambda held: None)
    engine = engine_of(UIDS_TOLD_APART)

    def caller(uid: int, app: str | None = None) -> Caller:
        def who(uid: int) -> Any:
            return engine.principal(uid) if app is None else engine.app_principal(app, uid)

        return Caller(who, uid, uid, 1, 0)

    return caller


def test_a_stranger_leaves_locks_for_other_strangers(place: Place, told_apart: Any) -> None:
    """Rules treat all strangers alike, so they have one key. But each has a share of its own."""
    first, second = told_apart(FIRST_STRANGER), told_apart(SECOND_STRANGER)
    assert first.principal.key == second.principal.key
    assert _locks_of(place, [first, first, first, second]) == [b"", b"", errno.ENOLCK, b""]


def test_the_uids_of_an_app_have_one_share_together(place: Place, told_apart: Any) -> None:
    one, other = told_apart(GALLERY, "gallery"), told_apart(GALLERY + 1, "gallery")
    assert one.principal.key != other.principal.key
    said = _locks_of(place, [one, one, other, told_apart(FIRST_STRANGER)])
    assert said == [b"", b"", errno.ENOLCK, b""]


def test_handlers_are_named_by_their_requests(place: Place) -> None:
    assert set(place.locks.requests()) == {Opcode.GETLK, Opcode.SETLK, Opcode.SETLKW}
    assert set(place.locks.quick_requests()) == {Opcode.SETLK, Opcode.SETLKW}


def test_the_next_daemon_has_the_locks_of_handles_that_go_on(place: Place) -> None:
    state = SavedState(2)
    place.locks.save_to(state.locks)
    assert place.now(WRLCK, 0, 9) == b""
    assert place.now(RDLCK, 20, 29, fh=2, owner=OTHER) == b""
    inode, before = (place.node.ino, place.node.btime_ns), place.table
    lost = {2}

    def restore(*, is_same: bool = True) -> None:
        place.locks._table = place.table = LockTable(Limits(64, 64, 64), lambda held: None)
        place.locks.restore(state.locks, is_same=lambda _fd, of: is_same and of == inode)

    place.locks._handles.is_lost = lost.__contains__  # type: ignore[method-assign]
    with pytest.raises(PolicyfsError, match="lost"):
        restore(is_same=False)
    restore()
    assert (place.locks.stats().held, [len(one.spans) for one in state.locks.read()]) == (1, [1])
    assert place.now(WRLCK, 5, 5, fh=2, owner=OTHER) == errno.EAGAIN
    assert place.now(WRLCK, 25, 25, fh=2, owner=OTHER) == b""  # that of the lost handle is released
    place.table.close()
    del before
