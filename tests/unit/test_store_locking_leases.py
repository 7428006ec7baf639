"""Leases against writers in other processes, on every usual kind of store.

Each test runs in a forked child: a lease keeper wants to be made before any thread is, and other
tests may have left some.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import mmap
import os
import signal
import threading
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

import pytest

from policyfs.linux.libc import file_system_type
from policyfs.store.locking import leases
from policyfs.store.locking.leases import DEFAULT_SIGNAL, LeaseKeeper, break_foreign
from policyfs.store.tree import Tree
from tests.support.machine.images import STORE_KINDS, file_system
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.layers import overlay

pytestmark = pytest.mark.mount
FAR_S = 10.0
TMPFS = 0x01021994


@pytest.fixture(scope="module", params=STORE_KINDS)
def base(request, tmp_path_factory):
    with file_system(request.param, tmp_path_factory.mktemp("leases")) as root:
        yield root


@pytest.fixture
def file(base):
    path = base / "file"
    path.write_bytes(b"before")
    yield path
    path.unlink(missing_ok=True)


def in_child(test):
    """Run the test in a forked child of one thread, and look there for leaked descriptors."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        def whole() -> None:
            before = set(os.listdir("/proc/self/fd"))
            test(*arguments, **fixtures)
            assert set(os.listdir("/proc/self/fd")) == before

        call_as(0, whole)

    return run


class Reader:
    """A keeper, and a descriptor open for reading."""

    def __init__(self, path: Path) -> None:
        self.keeper = LeaseKeeper()
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keeper.close()
        os.close(self.fd)

    def readable(self, timeout_s: float) -> bool:
        return bool(wait([self.keeper.fileno()], timeout_s))


def _write(channel, path: Path, flags: int) -> str:
    channel.send("opening")
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, b"after!")
    os.close(fd)
    return "written"


def _hold_open(channel, path: Path, how: str) -> None:
    fd = os.open(path, os.O_RDWR)
    mapping = mmap.mmap(fd, 0) if how == "mapping" else None
    if mapping is not None:
        os.close(fd)
    channel.send("holding")
    channel.recv()
    if mapping is not None:
        mapping.close()
    else:
        os.close(fd)
    channel.send("let go")
    channel.recv()


class TestGrant:
    @in_child
    def test_granted_held_and_released(self, file):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            assert lease.holds()
            assert (len(reader.keeper), fcntl.fcntl(reader.fd, fcntl.F_GETSIG)) == (1, DEFAULT_SIGNAL)
            lease.release()
            lease.release()
            assert not lease.holds()
            assert len(reader.keeper) == 0
            assert reader.keeper.grant(reader.fd).holds()

    @in_child
    def test_tells_where_times_do_not_show_every_write(self, file):
        with Reader(file) as reader:
            dev = os.fstat(reader.fd).st_dev
            reader.keeper.grant(reader.fd).release()
            assert reader.keeper.is_silent(dev) is (file_system_type(reader.fd) == TMPFS)
            assert not reader.keeper.is_void(dev)

    @pytest.mark.parametrize("how", ["descriptor", "mapping"])
    @in_child
    def test_refused_while_a_writer_or_writable_mapping_lives(self, file, how):
        with Reader(file) as reader:
            writer = start_as(0, _hold_open, file, how)
            assert writer.receive() == "holding"
            assert reader.keeper.grant(reader.fd) is None
            assert len(reader.keeper) == 0
            writer.send("let go")
            assert writer.receive() == "let go"
            assert reader.keeper.grant(reader.fd).holds()
            writer.send("end")
            writer.result()

    @in_child
    def test_only_regular_files_open_for_reading(self, base, file):
        keeper = LeaseKeeper()
        os.mkfifo(base / "fifo")
        for path, flags in [
            (base, os.O_RDONLY | os.O_DIRECTORY), (base / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        ]:  # fmt: skip
            fd = os.open(path, flags)
            assert keeper.grant(fd) is None
            os.close(fd)
        fd = os.open(file, os.O_PATH)
        with pytest.raises(OSError) as caught:
            keeper.grant(fd)
        assert caught.value.errno == errno.EBADF
        os.close(fd)
        writable = os.open(file, os.O_RDWR)
        assert keeper.grant(writable) is None
        os.close(writable)
        os.unlink(base / "fifo")
        keeper.close()

    @in_child
    def test_none_where_the_file_system_refuses_all_leases(self, file, monkeypatch):
        """NFS 3, 9p and ceph refuse them with EINVAL (simple_nosetlease)."""

        def refuses(fd: int, command: int, argument: int = 0) -> int:
            if command == fcntl.F_SETLEASE:
                raise OSError(errno.EINVAL, "Invalid argument")
            return 0

        with Reader(file) as reader, monkeypatch.context() as patch:
            patch.setattr(leases.fcntl, "fcntl", refuses)
            assert reader.keeper.grant(reader.fd) is None

    @in_child
    def test_one_lease_a_descriptor(self, file):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            with pytest.raises(ValueError, match="already"):
                reader.keeper.grant(reader.fd)
            assert lease.holds()

    @in_child
    def test_many_at_once(self, base):
        keeper = LeaseKeeper()
        fds = []
        for number in range(500):
            (base / f"many{number}").write_bytes(b"x")
            fds.append(os.open(base / f"many{number}", os.O_RDONLY))
            assert keeper.grant(fds[-1]).holds()
        assert len(keeper) == 500
        keeper.close()
        keeper.close()
        for number, fd in enumerate(fds):
            os.close(fd)
            (base / f"many{number}").unlink()


class TestEarlyRelease:
    @in_child
    def test_a_writer_gets_in_before_the_loop_comes(self, file):
        with Reader(file) as reader:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            reader.keeper.release_early()
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
            told: list[bool] = []
            lease = reader.keeper.grant(reader.fd, lambda lease: told.append(lease.holds()))
            assert lease.holds()
            assert call_as(0, file.write_bytes, b"after!") == 6
            assert not lease.holds()
            assert told == []
            assert reader.readable(FAR_S)
            assert (reader.keeper.on_signal(), told) == (1, [False])
            assert not reader.readable(0)
            lease.release()
            again = reader.keeper.grant(reader.fd)
            assert again.holds()
            reader.keeper.on_signal()
            assert again.holds()

    @in_child
    def test_a_writer_that_comes_while_the_lease_is_taken_gets_in(self, file, monkeypatch):
        """The loop may ask the pool's server next, which waits for this writer's open."""

        def take(fd: int, number: int) -> bool:
            taken = leases_take(fd, number)
            writers.append(start_as(0, _write, file, 0))
            assert writers[0].receive() == "opening"
            wait_for(lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK, "the break", FAR_S)
            wait([writers[0].channel], 0.5)  # the thread has the signal by now
            return taken

        writers, leases_take = [], leases._take
        monkeypatch.setattr(leases, "_take", take)
        with Reader(file) as reader:
            reader.keeper.release_early()
            lease = reader.keeper.grant(reader.fd)
            assert wait([writers[0].channel], FAR_S), "it waits for a lease that nobody releases"
            assert writers[0].result() == "written"
            assert not lease.holds()
            assert reader.keeper.on_signal() == 1

    @in_child
    def test_the_thread_takes_no_signal_of_the_process(self, file):
        """It is started before the daemon blocks the signals that end it."""
        with Reader(file) as reader:
            reader.keeper.release_early()
            blocked = [
                line.split()[1]
                for task in os.listdir("/proc/self/task") if int(task) != os.getpid()
                for line in Path(f"/proc/self/task/{task}/status").read_text().splitlines()
                if line.startswith("SigBlk")
            ]  # fmt: skip
            (mask,) = blocked
            assert int(mask, 16) & 1 << (signal.SIGTERM - 1)


class TestBreak:
    @pytest.mark.parametrize("flags", [0, os.O_TRUNC])
    @in_child
    def test_a_writer_waits_until_the_holder_lets_go(self, file, flags):
        with Reader(file) as reader:
            broken = []
            lease = reader.keeper.grant(reader.fd, broken.append)
            assert not reader.readable(0)
            assert reader.keeper.on_signal() == 0
            writer = start_as(0, _write, file, flags)
            assert writer.receive() == "opening"
            assert reader.readable(FAR_S)
            assert not lease.holds(), "what is read from here on may not be served"
            assert os.pread(reader.fd, 9, 0) == b"before", "and yet nobody has written so far"
            assert reader.keeper.on_signal() == 1
            assert broken == [lease]
            assert not writer.channel.poll(0)
            lease.release()
            assert writer.result() == "written"
            assert len(reader.keeper) == 0

    @in_child
    def test_without_a_callback_the_keeper_lets_go_at_once(self, file):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            writer = start_as(0, _write, file, 0)
            assert reader.readable(FAR_S)
            assert reader.keeper.on_signal() == 1
            assert writer.result() == "written"
            assert lease.released
            assert reader.keeper.grant(reader.fd).holds()

    @in_child
    def test_truncate_by_path_breaks_and_unlink_rename_chmod_do_not(self, file, base):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            os.chmod(file, 0o600)
            os.utime(file)
            os.link(file, base / "second")
            os.rename(file, base / "third")
            os.close(os.open(base / "third", os.O_RDONLY))
            assert lease.holds()
            truncating = start_as(0, lambda _channel: os.truncate(base / "third", 2))
            assert reader.readable(FAR_S)
            assert not lease.holds()
            lease.release()
            truncating.result()
            os.unlink(base / "second")
            os.unlink(base / "third")

    @in_child
    def test_every_broken_lease_is_heard_of_and_a_failing_callback_holds_nobody_up(self, base, file):
        (base / "second").write_bytes(b"before")

        def fail(_lease) -> None:
            raise KeyError("bug")

        with Reader(file) as first:
            second_fd = os.open(base / "second", os.O_RDONLY)
            lease, heard = first.keeper.grant(first.fd, fail), []
            other = first.keeper.grant(second_fd, heard.append)
            writers = [start_as(0, _write, path, 0) for path in (file, base / "second")]
            wait_for(lambda: not lease.holds() and not other.holds(), "both to be broken")
            with pytest.raises(ExceptionGroup, match="lease callbacks failed") as caught:
                first.keeper.on_signal()
            assert [type(error) for error in caught.value.exceptions] == [KeyError]
            assert heard == [other]
            assert writers[0].result() == "written"
            other.release()
            assert writers[1].result() == "written"
            os.close(second_fd)
            os.unlink(base / "second")

    @in_child
    def test_a_late_signal_does_not_hit_the_next_lease_with_that_number(self, file):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            writer = start_as(0, _write, file, 0)
            wait_for(lambda: not lease.holds(), "the break")
            lease.release()
            assert writer.result() == "written"
            again = wait_for(lambda: reader.keeper.grant(reader.fd), "the writer to be gone")
            assert reader.readable(0), "the signal for the first lease is still queued"
            assert reader.keeper.on_signal() == 0
            assert again.holds()

    @in_child
    def test_when_the_signal_queue_overflows_every_lease_is_looked_at(self, file):
        with Reader(file) as reader:
            lease = reader.keeper.grant(reader.fd)
            writer = start_as(0, _write, file, 0)
            wait_for(lambda: not lease.holds(), "the break")
            signal.sigtimedwait({reader.keeper.signal}, FAR_S)
            assert not reader.readable(0)
            os.kill(os.getpid(), signal.SIGIO)
            assert reader.readable(FAR_S)
            assert reader.keeper.on_signal() == 1
            assert writer.result() == "written"

@in_child
def test_none_on_an_overlay_whatever_it_grants(tmp_path):
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/a").write_bytes(b"before")
    with overlay(tmp_path / "lower", tmp_path) as merged:
        with Reader(merged / "a") as above:
            dev = os.fstat(above.fd).st_dev
            assert not above.keeper.is_void(dev)
            assert above.keeper.grant(above.fd) is None
            assert above.keeper.is_void(dev)
            fcntl.fcntl(above.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # the kernel would grant it
        with Reader(tmp_path / "lower/a") as below:
            assert below.keeper.grant(below.fd).holds()


@in_child
def test_none_on_a_file_system_whose_server_answers_no_statfs(tmp_path):
    """Pyfuse3's own answer is ENOSYS."""
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/a").write_bytes(b"before")
    with overlay(tmp_path / "lower", tmp_path) as merged, Reader(merged / "a") as above:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(leases, "leases_mean", _no_statfs)
            assert above.keeper.grant(above.fd) is None
        assert above.keeper.is_void(os.fstat(above.fd).st_dev)


def _no_statfs(fd: int) -> bool:
    raise OSError(errno.ENOSYS, "Function not implemented")


class TestBreakForeign:
    @in_child
    def test_says_wait_while_another_holds_and_then_gives_a_descriptor(self, file):
        holder = start_as(0, _hold_lease, file)
        assert holder.receive() == "leased"
        with Tree.open(file.parent) as tree:
            fd = tree.open_path(tree.root_fd, b"file")
            assert break_foreign(fd) is None
            assert holder.receive() == "let go"
            writable = wait_for(lambda: break_foreign(fd), "the lease to be gone")
            assert fcntl.fcntl(writable, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            assert not os.get_inheritable(writable)
            holder.send("take it again")
            assert holder.receive() is None, "no lease comes in while it is open"
            holder.result()
            os.close(writable)
            os.close(fd)

    @in_child
    def test_other_refusals_are_errors(self, base):
        fd = os.open(base, os.O_PATH)
        with pytest.raises(IsADirectoryError):
            break_foreign(fd)
        os.close(fd)


def _hold_lease(channel, path: Path) -> None:
    with Reader(path) as reader:
        reader.keeper.grant(reader.fd)
        channel.send("leased")
        assert reader.readable(FAR_S)
        reader.keeper.on_signal()
        channel.send("let go")
        channel.recv()
        channel.send(reader.keeper.grant(reader.fd))


@in_child
def test_a_thread_that_would_be_killed_by_the_signal_is_refused():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with pytest.raises(RuntimeError, match="before the lease keeper"):
        LeaseKeeper()
    stop.set()
    wait_for(lambda: len(os.listdir("/proc/self/task")) == 1, "its end")  # join() returns a little earlier
    keeper = LeaseKeeper()
    later = threading.Thread(target=lambda: os.kill(os.getpid(), keeper.signal))
    later.start()
    later.join()
    assert keeper.on_signal() == 0
    keeper.close()
