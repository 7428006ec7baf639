"""The door for requests that pyfuse3 does not know: taken, answered once, interrupted, never lost."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import threading
from pathlib import Path

import pytest

from policyfs.fs.error_boundary import guarded
from policyfs.kernel.bridge import Pending, take_requests
from policyfs.kernel.protocol import InitFlag
from policyfs.kernel.session import UNDER_WAY
from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.mount.tinyfs import ENOTSUPP, Asked, Tiny, TinyFs, error_of

_libc = ctypes.CDLL(None, use_errno=True)
_offset = ctypes.c_int64


def allocate(path: str, offset: int) -> str:
    """fallocate(2) of one byte there: None or the errno's name."""
    fd = os.open(path, os.O_RDWR)
    try:
        done = _libc.fallocate(fd, 0, _offset(offset), _offset(1))
        return "None" if done == 0 else errno.errorcode[ctypes.get_errno()]
    finally:
        os.close(fd)


def _slowly(_channel, path: str, offset: int) -> str:
    """In a child that SIGUSR1 does not end: what its call came to."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    return allocate(path, offset)


def test_without_handlers_the_old_answers(tiny) -> None:
    fs = tiny()
    assert allocate(fs.path("f"), 0) == "ENOTSUP"
    with open(fs.path("f"), "rb") as file:
        assert os.lseek(file.fileno(), 3, os.SEEK_DATA) == 3
        assert error_of(fcntl.ioctl, file.fileno(), 0x80086601, bytearray(8)) == errno.ENOTTY
    flags = fs.initialised().flags
    assert not flags & (InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS)


def test_handlers_answer_and_refuse(tiny) -> None:
    fs = tiny(door=True)
    assert [allocate(fs.path("f"), at) for at in (0, 1, 2, 3)] == ["None", "ENOSPC", "EIO", "EROFS"]
    with open(fs.path("m"), "rb") as file:
        assert os.lseek(file.fileno(), 7, os.SEEK_HOLE) == 1007
    seen = fs.call("look")
    assert seen.bugs == ["FALLOCATE: a bug"]
    assert [name for name, *_ in seen.through_door] == ["FALLOCATE"] * 4 + ["LSEEK"]
    assert fs.count("FALLOCATE") == 4
    assert os.stat(fs.path("f")).st_size == 12, "the mount goes on"


def test_a_number_that_the_kernel_takes_in_no_reply_ends_no_mount(tiny) -> None:
    fs = tiny(door=True)
    assert allocate(fs.path("f"), 8) == "EIO"
    with open(fs.path("m"), "rb") as file:
        assert error_of(os.lseek, file.fileno(), 8, os.SEEK_DATA) == errno.EIO
    assert allocate(fs.path("f"), 0) == "None", "the mount goes on"
    assert fs.call("look").bugs == []


class Guarded(TinyFs):
    """A file system whose handler of mkdir(2) is wrapped as in the daemon."""

    bugs = property(lambda self: self)

    @guarded
    async def mkdir(self, parent_inode, name, mode, ctx):
        raise OSError(ENOTSUPP, "")


def test_nor_does_it_leave_a_caller_waiting(tiny) -> None:
    fs = tiny(kind=Guarded)
    child = start_as(0, lambda _: error_of(os.mkdir, fs.path("new")))
    if not child.channel.poll(10):
        fs.stop()  # otherwise the caller could not even be killed
    assert child.result() == errno.EIO


def test_what_need_not_wait_is_answered_in_the_middle_of_the_read(tiny) -> None:
    fs = tiny(door=True)
    with open(fs.path("m"), "rb") as file:
        assert os.lseek(file.fileno(), Asked.AT_ONCE, os.SEEK_DATA) == Asked.AT_ONCE + 2000
        refused = [error_of(os.lseek, file.fileno(), at, os.SEEK_DATA) for at in (1, 2, 3)]
        assert refused == [errno.ENOSPC, errno.EIO, errno.EROFS]
        assert os.lseek(file.fileno(), 7, os.SEEK_DATA) == 1007  # left to the handler
    assert fs.call("look").bugs == ["LSEEK: a bug"]


def test_work_that_waits_for_the_disk_is_answered_by_its_thread(tiny) -> None:
    fs = tiny(door=True)
    with open(fs.path("f"), "rb") as file:
        os.fsync(file.fileno())
        assert error_of(os.fdatasync, file.fileno()) == errno.ENOSPC
    with open(fs.path("m"), "rb") as file:
        assert error_of(os.fsync, file.fileno()) == errno.EIO
    seen = fs.call("look")
    assert [event for event in seen.through_door if event[0] == "in a thread"] == [("in a thread", True)] * 2
    assert len(seen.bugs) == 1, "what no handler does is a bug, not a call that never ends"


def test_many_at_work_in_threads_leave_room_for_others(tiny) -> None:
    fs = tiny(door=True)

    def sync() -> None:
        with open(fs.path("f"), "rb") as file:
            for _ in range(20):
                os.fsync(file.fileno())

    threads = [threading.Thread(target=sync) for _ in range(2 * UNDER_WAY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    with open(fs.path("m"), "rb") as file:
        assert os.lseek(file.fileno(), 7, os.SEEK_DATA) == 1007


def test_locks_are_asked_for_where_they_are_handled(tiny) -> None:
    fs = tiny(door=True)
    assert fs.initialised().flags & InitFlag.POSIX_LOCKS
    assert fs.initialised().flags & InitFlag.FLOCK_LOCKS
    with open(fs.path("m"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert [name for name, *_ in fs.call("look").through_door][:2] == ["SETLKW", "SETLK"]


@pytest.fixture
def slow(tiny):
    """`slow(offset)`: a file system, and a child that waits in its FALLOCATE."""
    children: list[Child] = []

    def start(offset: int) -> tuple[Tiny, Child]:
        fs = tiny(door=True)
        children.append(start_as(0, _slowly, fs.path("m"), offset))
        wait_for(lambda: fs.call("is_waiting"), "the request")
        return fs, children[-1]

    yield start
    for child in children:
        child.kill()


def test_a_signal_ends_what_may_be_interrupted(slow) -> None:
    fs, child = slow(Asked.SLOW)
    os.kill(child.pid, signal.SIGUSR1)
    assert child.result() == "EINTR"
    assert os.stat(fs.path("f")).st_size == 12


def test_a_signal_does_not_end_the_rest(slow) -> None:
    fs, child = slow(Asked.SLOW_TO_THE_END)
    os.kill(child.pid, signal.SIGUSR1)
    wait_for(lambda: fs.count("INTERRUPT"), "the interrupt")
    fs.call("let_go")
    assert child.result() == "None"


def test_a_killed_caller_leaves_nothing(slow) -> None:
    fs, child = slow(Asked.SLOW)
    child.kill()
    wait_for(lambda: fs.count("INTERRUPT"), "the interrupt")
    assert os.stat(fs.path("f")).st_size == 12
    assert fs.call("look").bugs == []


def test_what_is_dropped_unanswered_is_an_error(slow) -> None:
    """The loop ends while a request waits in it: the caller is told, and not left there."""
    fs, child = slow(Asked.SLOW_TO_THE_END)
    fs.call("close_door")
    assert child.result() == "EIO"
    assert allocate(fs.path("f"), 0) == "ENOTSUP", "nobody takes it any more: libfuse answers"


def test_answers_are_given_once_and_well(tiny) -> None:
    fs = tiny(door=True)
    fs.call("answer_badly")
    assert [allocate(fs.path("f"), at) for at in (0, 1, 2)] == ["None", "EIO", "ENOSPC"]
    assert fs.call("look").bugs == ["True", "RuntimeError", *["ValueError"] * 3, "True"]


def _lock_at_once(channel, path: str, command: int, count: int) -> int:
    """*count* threads ask for a byte each, from Asked.SLOW on, and wait for the answer; how many had it."""
    fd = os.open(path, os.O_RDWR)
    locked: list[int] = []

    def lock(byte: int) -> None:
        fcntl.fcntl(fd, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        locked.append(byte)

    threads = [threading.Thread(target=lock, args=(Asked.SLOW + number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    channel.send("asked")
    for thread in threads:
        thread.join()
    os.close(fd)
    return len(locked)


def _taken(fs: Tiny, uid: int) -> int:
    return sum(who == uid for _, _, who, _ in fs.call("look").through_door)


def _taken_at_once(fs: Tiny, command: int, most: int) -> None:
    """One uid asks for twice as much as it may have under way, and *most* are taken; another's request goes
    on beside it."""
    greedy = start_as(10010, _lock_at_once, fs.path("m"), command, 2 * UNDER_WAY)
    assert greedy.receive() == "asked"
    wait_for(lambda: _pending(fs) == 2 * UNDER_WAY, "all of them")
    wait_for(lambda: _taken(fs, 10010) == most, "as many as may be taken")
    other = start_as(10011, _lock_at_once, fs.path("m"), command, 1)
    wait_for(lambda: _taken(fs, 10011) == 1, "the other's")
    assert _taken(fs, 10010) == most
    fs.call("let_go")
    assert (greedy.result(), other.result()) == (2 * UNDER_WAY, 1)
    assert fs.call("under_way") == (0, 0)


def test_what_the_door_takes_counts_as_under_way(tiny) -> None:
    """Attack D2.6: The same by requests that pyfuse3 does not handle: locks, copies, holes, statx, ioctl
    Guard: policyfs/kernel/device/_operations.c::operations_take
    Without: ::test_what_rests_does_not_count_and_all_are_taken_at_once
    """
    _taken_at_once(tiny(door=True), fcntl.F_SETLK, UNDER_WAY)


def test_what_rests_does_not_count_and_all_are_taken_at_once(tiny) -> None:
    _taken_at_once(tiny(door=True), fcntl.F_SETLKW, 2 * UNDER_WAY)


def _pending(fs: Tiny) -> int:
    """Requests that the kernel has and that are not answered."""
    return int(Path(f"/sys/fs/fuse/connections/{fs.device.conn_id}/waiting").read_text())


def test_what_is_answered_at_once_or_never_counts_no_more(tiny) -> None:
    fs = tiny(door=True)
    fs.call("answer_badly")
    for at in (0, 1, 2) * UNDER_WAY:
        allocate(fs.path("f"), at)
    assert fs.call("under_way") == (0, 0)


def test_nobody_else_makes_requests() -> None:
    with pytest.raises(TypeError):
        Pending()
    with pytest.raises(TypeError):
        take_requests("no callable", set())  # type: ignore[arg-type] # what the test is about
