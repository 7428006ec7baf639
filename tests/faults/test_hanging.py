"""A store whose calls hang: another machine, or the process of a FUSE file system, does not answer.

What waits with it, and what does not; and that all goes on when it answers again.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.daemon.control import control
from policyfs.kernel import bridge, session
from policyfs.kernel.bridge import pyfuse3
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount import faulty, layers
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, written
from tests.support.mount.stores import Mounts
from tests.support.mount.tinyfs import Options, Tiny, TinyFs

SLOW = 4
"""The node of /slow."""
TEXT = b"hello world\n"
BACKGROUND = 256
"""More requests in the background than libfuse's own limit, and than the tasks of the daemon."""


class SlowToWrite(TinyFs):
    """Writes to /slow wait, and STATFS, as reads of it do."""

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if fh in self.slow:
            await self.wait()
        return await super().write(fh, off, buf)

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.slow: set[int] = set()

    async def open(self, inode, flags, ctx):
        info = await super().open(inode, flags, ctx)
        if inode == SLOW:
            self.slow.add(info.fh)
        return info

    async def statfs(self, ctx):
        if self.waiting.is_set():
            await self.gate.wait()
        return await super().statfs(ctx)


@pytest.fixture
def slow(request, arena: Path, mounts: Mounts, monkeypatch) -> Iterator[tuple[Mount, Tiny]]:
    """A mount whose store is a FUSE file system with one file that hangs; it may have a policy of its own,
    and so many zeros behind its text."""
    # The server of the store has nobody else wait, however many wait for it.
    monkeypatch.setattr(pyfuse3, "main", functools.partial(pyfuse3.main, max_tasks=1000))
    monkeypatch.setattr(session, "take_turns", lambda *_: bridge.take_turns(0))
    policy, zeros = getattr(request, "param", (faulty.POLICY, 0))
    store, backing = arena / "fuse-store", arena / "tiny-backing" / "file"
    store.mkdir()
    backing.parent.mkdir(mode=0o700)
    backing.write_bytes(TEXT + bytes(zeros))
    tiny = Tiny(store, backing, Options(kind=SlowToWrite))
    monkeypatch.undo()
    mount = mounts.prepare(policy, store, "--no-passthrough")
    mount.expected_mediated = True
    mount.start()
    try:
        yield mount, tiny
    finally:
        tiny.call("let_go")
        wrong = mount.stop()
        tiny.stop()
    assert wrong == []


def _read(channel, path: Path) -> bytes:
    return path.read_bytes()


def _write(channel, path: Path) -> int:
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.write(fd, b"HELLO")
    finally:
        os.close(fd)


def read_all_at_once(channel, path: Path, first: int) -> None:
    """Reads of as many pages as one uid has requests under way, and of one more."""
    files = [os.open(path, os.O_RDONLY) for _ in range(session.UNDER_WAY + 1)]
    for file in files:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    channel.send("open")
    channel.recv()
    readers = [
        threading.Thread(target=os.pread, args=(file, 10, (first + number) << 16))
        for number, file in enumerate(files)
    ]
    for reader in readers:
        reader.start()
    channel.send("they wait")
    for reader in readers:
        reader.join()


def _read_one_each(channel, path: Path, uids: range, first: int) -> None:
    """One read for each uid, of a page of its own. The kernel sends a thread's own uid (setfsuid(2))."""
    libc = ctypes.CDLL(None)

    def one(uid: int) -> None:
        libc.setfsuid(uid)
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        opened.wait()
        told.wait()
        os.pread(file, 10, (first + uid - uids.start) << 16)

    opened, told = threading.Barrier(len(uids) + 1), threading.Event()
    readers = [threading.Thread(target=one, args=(uid,)) for uid in uids]
    for reader in readers:
        reader.start()
    opened.wait()
    channel.send("open")
    channel.recv()
    told.set()
    for reader in readers:
        reader.join()


def _read_all_ahead(channel, path: Path) -> None:
    """More pages read ahead than the kernel has requests in the background of a mount."""
    files = [os.open(path, os.O_RDONLY) for _ in range(BACKGROUND + 44)]
    readers = [
        threading.Thread(target=os.posix_fadvise, args=(file, number << 16, 4096, os.POSIX_FADV_WILLNEED))
        for number, file in enumerate(files)
    ]
    for reader in readers:
        reader.start()
    channel.send("they wait")
    for reader in readers:
        reader.join()


def _append(channel, path: Path) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        return os.write(fd, b"HELLO")
    finally:
        os.close(fd)


def content_beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(TEXT))


def content_beginning_of(channel, path: Path) -> bytes:
    return content_beginning(path)


def _free(channel, path: Path) -> int:
    return os.statvfs(path).f_bsize


@pytest.mark.parametrize("way", [_read, _write, _append])
def test_reads_writes_and_statfs_that_hang_hang_alone(slow, way) -> None:
    """Fault store.19: A read, write or append of a file of a network or FUSE store hangs, or statfs hangs
    App: The caller waits. All other callers continue ([limits](#what-the-tests-cannot-show-and-limits))
    Store: accepted bytes
    Trail: as usual
    Also: ::test_a_write_that_hangs_hangs_alone_also_after_a_reload,
    ::test_whoever_comes_later_goes_on_however_many_wait, ::test_who_opens_what_hangs_hangs_alone,
    ::test_many_users_with_a_read_each_that_hangs_leave_tasks_for_others,
    ::test_a_file_that_hangs_leaves_others_their_reads_however_much_is_read_ahead,
    tests/faults/test_hanging_writes.py::test_an_apps_writes_that_hang_leave_others_tasks_and_memory,
    tests/faults/test_hanging_writes.py::test_pages_of_one_app_that_hang_leave_others_their_write_back,
    tests/faults/test_hanging_writes.py::test_pages_of_mappings_that_hang_leave_requests_in_the_background_for_others,
    tests/faults/test_hanging_writes.py::test_many_users_with_a_read_and_a_page_that_hang_leave_tasks_for_others
    """
    mount, tiny = slow
    app = start_as(CAMERA, way, mount / "slow")
    wait_for(lambda: tiny.call("is_waiting"), "it waits for the store")
    df = start_as(CAMERA, _free, mount.mountpoint)
    # Others do all they want beside it.
    assert call_as(CAMERA, (mount / "m").read_bytes) == TEXT
    assert "slow" in call_as(CAMERA, os.listdir, mount.mountpoint)
    assert mount.status()["bugs"] == 0
    assert not app.channel.poll()
    assert not df.channel.poll()
    tiny.call("let_go")
    assert app.result() == {_read: TEXT, _write: 5, _append: 5}[way]
    assert df.result() == 4096


def _write_when_told(channel, path: Path) -> int:
    fd = os.open(path, os.O_WRONLY)
    try:
        channel.send("open")
        channel.recv()
        return os.write(fd, b"HELLO")
    finally:
        os.close(fd)


def test_a_write_that_hangs_hangs_alone_also_after_a_reload(slow) -> None:
    """A policy that hides nothing from the app leaves its writes to threads, however old the open is."""
    mount, tiny = slow
    app = start_as(CAMERA, _write_when_told, mount / "slow")
    assert app.receive() == "open"
    assert mount.reload().returncode == 0
    app.channel.send("go on")
    wait_for(lambda: tiny.call("is_waiting"), "it waits for the store")
    assert call_as(CAMERA, (mount / "m").read_bytes) == TEXT
    assert mount.status()["bugs"] == 0
    assert not app.channel.poll()
    tiny.call("let_go")
    assert app.result() == 5


@pytest.mark.parametrize("way", [_read, _write])
def test_who_opens_what_hangs_hangs_alone(slow, way) -> None:
    """The kernel waits for the page that another reads, before a file of a FUSE store is open."""
    mount, tiny = slow
    apps = [start_as(CAMERA, _read, mount / "slow")]
    wait_for(lambda: tiny.call("is_waiting"), "it waits for the store")
    opens = mount.fuse("OPEN")
    apps.append(start_as(CAMERA, way, mount / "slow"))
    wait_for(lambda: mount.fuse("OPEN") > opens, "another to open it")
    assert call_as(CAMERA, (mount / "m").read_bytes) == TEXT
    assert mount.status()["bugs"] == 0
    tiny.call("let_go")
    for app in apps:
        app.result()


ANYBODY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  all: {uid: "20000-20199"}
rules:
  - {id: all, allow: [all], paths: "/***"}
"""


@pytest.mark.parametrize("slow", [(ANYBODY, 32 << 20)], indirect=True)
def test_whoever_comes_later_goes_on_however_many_wait(slow) -> None:
    """Seven users with all the requests under way that one may have, and more; of four of them there were as
    many as there were tasks."""
    mount, tiny = slow
    crowd = [start_as(20000 + n, read_all_at_once, mount / "slow", n * 40) for n in range(7)]
    for child in crowd:
        child.receive()
    for child in crowd:
        child.send("read")
        child.receive()
    wait_for(lambda: mount.fuse("READ") >= session.IN_ALL - session.UNDER_WAY, "they wait for the store")
    for uid in range(20010, 20030):
        assert call_as(uid, content_beginning, mount / "m") == TEXT
    tiny.call("let_go")
    for child in crowd:
        child.result()
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("slow", [(ANYBODY, 32 << 20)], indirect=True)
def test_many_users_with_a_read_each_that_hangs_leave_tasks_for_others(slow) -> None:
    """Beside the users who take all that may be shared, each further one may have a request under way."""
    mount, tiny = slow
    crowd = [start_as(20000 + n, read_all_at_once, mount / "slow", n * 40) for n in range(7)]
    many = start_as(0, _read_one_each, mount / "slow", range(20010, 20130), 300)
    for child in (*crowd, many):
        child.receive()
    for child in crowd:
        child.send("read")
        child.receive()
    wait_for(lambda: mount.fuse("READ") >= session.IN_ALL - session.UNDER_WAY, "they wait for the store")
    many.send("read")
    wait_for(lambda: mount.status()["requests"]["under_way"] >= session.IN_ALL + 56, "they wait, too")
    later = start_as(20199, content_beginning_of, mount / "m")
    assert later.result(20) == TEXT
    tiny.call("let_go")
    for child in (*crowd, many):
        child.result()
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("slow", [(ANYBODY, 32 << 20)], indirect=True)
def test_a_file_that_hangs_leaves_others_their_reads_however_much_is_read_ahead(slow) -> None:
    """The kernel has few requests in the background at once, and all apps of a mount share them."""
    mount, tiny = slow
    greedy = start_as(20000, _read_all_ahead, mount / "slow")
    greedy.receive()
    wait_for(lambda: sum(mount.status()["requests"].values()) >= BACKGROUND, "its reads wait")
    later = start_as(20001, content_beginning_of, mount / "m")
    assert later.result(20) == TEXT
    tiny.call("let_go")
    greedy.result()
    assert mount.status()["bugs"] == 0


@pytest.fixture
def networked(arena: Path, mounts: Mounts, tmp_path: Path) -> Iterator[tuple[Mount, Path, int]]:
    """A mount of a network store, the directory at its other end, and the pid of the server."""
    far = arena / "far"
    far.mkdir()
    faulty.furnish(far)
    with layers.network(far, tmp_path) as (store, server):
        mount = mounts.start(faulty.POLICY, store)
        mount.expected_mediated = True
        try:
            yield mount, far, server
        finally:
            os.kill(server, signal.SIGCONT)
            wrong = mount.stop()
    assert wrong == []


def _list(channel, path: Path) -> list[str]:
    return os.listdir(path)


_IN_THE_STORE = {"request_wait_answer", "fuse_wait_aborted", "fuse_lock_inode"}
"""Where the kernel waits: for an answer, or for another thread's call on the same directory."""


def _waits_for_the_network(mount: Mount) -> bool:
    """Whether the daemon's loop waits in a call on the store, and longer than for a server that answers.
    Before it does, it reads requests, and who waits for one that was read cannot be killed."""
    for _ in range(10):
        if Path(f"/proc/{mount.pid}/wchan").read_text() not in _IN_THE_STORE:
            return False
        time.sleep(0.01)
    return True


def _start_and_wait(mount: Mount, path: Path) -> Child:
    child = start_as(CAMERA, _list, path)
    wait_for(lambda: _waits_for_the_network(mount), "the daemon waits for the server")
    return child


def test_a_server_that_answers_no_call_on_names_hangs_the_mount_until_it_answers(networked) -> None:
    """All that asks for a name waits. Who waits can be killed, and nothing is lost when it answers.

    Fault store.23: A network or FUSE store answers no call on names
    App: **The whole mount waits.** `policyfs status` reports after ten seconds that the daemon does not
    answer. Waiting processes can be killed. Passthrough waits only for the store
    Store: accepted bytes
    Trail: as usual, later
    Also: ::test_nothing_reads_ahead_of_the_loop_on_a_store_that_may_hang
    """
    mount, far, server = networked
    assert call_as(CAMERA, written, mount / "DCIM/before.jpg", LARGE) == (len(LARGE), "")
    os.kill(server, signal.SIGSTOP)
    first = _start_and_wait(mount, mount / "Checked/never-asked-for")
    others = [start_as(GALLERY, _list, mount / "DCIM"), start_as(CAMERA, _read, mount / "DCIM/a.jpg")]
    with pytest.raises(control.ControlError):  # `policyfs status` waits ten seconds, and says so
        control.ask(mount.control_socket, "status", 1.0)
    assert not any(child.channel.poll() for child in others)
    others.pop(0).kill()  # returns when it is dead
    os.kill(server, signal.SIGCONT)
    with pytest.raises(FileNotFoundError):
        first.result()
    assert others[0].result() == PHOTO
    assert (far / "DCIM/before.jpg").read_bytes() == LARGE
    assert mount.status()["bugs"] == 0


def test_nothing_reads_ahead_of_the_loop_on_a_store_that_may_hang(networked) -> None:
    """A request that was read cannot be killed until it is answered. So there are no readers."""
    mount, _, _ = networked
    assert mount.status()["vectors"] is None


def test_a_mount_that_hangs_with_its_store_can_be_ended(networked) -> None:
    """SIGTERM waits as all else does. After kill -9 `policyfs umount` frees whoever waits, at once; what is
    left of the daemon goes when the server answers.

    Fault store.25: A network or FUSE store answers no call on names, and you end the wait
    App: After `kill -9` of the daemon, `policyfs umount` frees all waiting processes at once: ENOTCONN,
    ECONNABORTED
    Store: accepted bytes
    Trail: The trail lacks its end. The next mount resumes the trail
    """
    mount, _, server = networked
    os.kill(server, signal.SIGSTOP)
    app = _start_and_wait(mount, mount / "Checked/never-asked-for")
    os.kill(mount.pid, signal.SIGKILL)
    with mount.as_environment():
        said = policyfs("umount", mount.mountpoint)
    assert said.returncode == 0, said
    assert not mount.is_mounted()
    with pytest.raises(OSError, match=r"not connected|abort"):
        app.result(20)
    os.kill(server, signal.SIGCONT)
    assert mount.process.wait(20) == -signal.SIGKILL
    mount.expected_exit = -signal.SIGKILL
    mount.control_socket.unlink(missing_ok=True)
