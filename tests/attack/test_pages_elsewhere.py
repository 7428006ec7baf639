"""An app reads or writes a file in passthrough, by pages of another file system that answers when the app
wants. The kernel has the lock of the store's file meanwhile. So only who uses that file may wait for it."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from policyfs.daemon.end import CIRCLE
from tests.support.machine.counts import first
from tests.support.machine.disks import disk
from tests.support.machine.processes import Child, is_blocked, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.faulty import CAMERA, GALLERY, PHOTO
from tests.support.mount.tinyfs import Options, Tiny, TinyFs

POLICY: Final = faulty.POLICY.replace(
    "allow: [see, read], who: {app: gallery}", "allow: [all], who: {app: gallery}"
)
"""The gallery may change what the camera uses, too."""
LOG: Final = ("waited for each other",)
ENDS_S: Final = 20.0
DENIED: Final = -1
"""What is read of a file that is no photo any more."""
ANSWER_S: Final = 10.0
WAITS_S: Final = 1.5
"""Less than the time between the first of seven looks, 0.3 s apart, and the last."""
HANGS_S: Final = 3.0


def _use(channel: Connection, slow: Path, path: Path, flags: int) -> None:
    """Read a file into a page that is not there yet, or write it from that page."""
    file = os.open(slow, os.O_RDONLY)
    fd = os.open(path, flags)
    with mmap.mmap(file, 4096, mmap.MAP_PRIVATE) as page, memoryview(page) as memory:
        channel.send("begun")
        if flags == os.O_RDONLY:
            os.preadv(fd, [memory], 0)
        else:
            os.pwrite(fd, memory, 0)


def _look(channel: Connection, path: Path) -> int:
    del channel
    with contextlib.suppress(PermissionError):
        return len(path.read_bytes())
    return DENIED


class Stuck:
    """A file system whose file /slow has no page until let_go(), and the processes that wait for that.

    kind: a class derived from TinyFs, in its place.
    """

    def __init__(self, arena: Path, kind: type[TinyFs] | None = None) -> None:
        self.directory, backing = arena / "tiny", arena / "tiny-backing" / "file"
        self.directory.mkdir()
        backing.parent.mkdir(mode=0o700)
        backing.write_bytes(bytes(4096))
        self.tiny = Tiny(self.directory, backing, Options(kind=kind, passthrough=False))
        self.children: list[Child] = []

    def use(self, path: Path, flags: int) -> Child:
        """The camera uses a file by that page, and waits for it from now on."""
        child = self.start(CAMERA, _use, self.directory / "slow", path, flags)
        assert child.receive() == "begun"
        wait_for(lambda: self.tiny.call("is_waiting"), "it waits for the page")
        return child

    def start(self, uid: int, function: Callable[..., object], *arguments: object) -> Child:
        child = start_as(uid, function, *arguments)
        self.children.append(child)
        return child

    def let_go(self) -> None:
        self.tiny.call("let_go")


@pytest.fixture
def stuck(arena: Path) -> Iterator[Stuck]:
    made = Stuck(arena)
    yield made
    made.let_go()
    for child in made.children:
        child.kill()
    made.tiny.stop()


def _stays_blocked(pid: int) -> bool:
    """True if a process waits in one call, and longer than for a disk in memory."""
    before = _switches(pid)
    for _ in range(20):
        if not is_blocked(pid):
            return False
        time.sleep(0.01)
    return _switches(pid) == before


def _switches(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if "ctxt_switches" in line]


def _touch(channel: Connection, path: Path) -> None:
    del channel
    os.utime(path)


def _remove(channel: Connection, path: Path) -> None:
    del channel
    path.unlink()


def _furnished(store: Path) -> Path:
    faulty.furnish(store)
    (store / "DCIM").chmod(0o777)
    (store / "DCIM/a.jpg").chmod(0o666)
    return store


WAYS: Final = [("xfs", os.O_RDONLY), ("xfs", os.O_RDWR), ("btrfs", os.O_RDWR), ("ext4", os.O_RDWR)]


@pytest.mark.parametrize(("kind", "flags"), WAYS)
def test_who_opens_a_copy_of_the_file_waits_alone(
    mounts_on, store_on, stuck: Stuck, kind: str, flags
) -> None:
    """Attack E5.9: Read or write a raw file by a page of the app's own FUSE mount that does not answer,
    while another app opens the redacted file (a clone waits for the lock)
    Guard: policyfs/fs/redacted/copies.py::Redactor._copied,
    policyfs/daemon/lock_circle.py::LockCircle.writer (the process that reads or writes is killed after
    30 s)
    Also: ::test_who_opens_a_copy_of_the_file_waits_until_its_user_is_killed,
    tests/unit/test_daemon_lock_circle.py::test_another_thread_counts_if_it_waits_for_the_lock_of_a_file
    Without: ::test_all_wait_where_the_loop_clones_it
    """
    mount = mounts_on.start(faulty.POLICY, _furnished(store_on(kind)))
    user = stuck.use(mount / "DCIM/a.jpg", flags)
    copy = stuck.start(GALLERY, _look, mount / "DCIM/a.jpg")
    for _ in range(3):
        assert stuck.start(GALLERY, _look, mount / "Checked/a.jpg").result(ANSWER_S) == len(PHOTO)
    stuck.let_go()
    user.result()
    assert copy.result() in ({len(PHOTO)} if flags == os.O_RDONLY else {len(PHOTO), DENIED})


@pytest.mark.parametrize(("kind", "flags"), [("xfs", os.O_RDONLY), ("btrfs", os.O_RDWR)])
def test_who_opens_a_copy_of_the_file_waits_until_its_user_is_killed(
    mounts_on, store_on, stuck: Stuck, kind: str, flags: int
) -> None:
    """A thread of the daemon waits, and no signal ends that: the daemon could not end, either."""
    mount = mounts_on.prepare(faulty.POLICY, _furnished(store_on(kind)))
    mount.program = ("tests.support.mount.short_waits",)
    mount.expected_log.extend(LOG)
    mount.start()
    user = stuck.use(mount / "DCIM/a.jpg", flags)
    copy = stuck.start(GALLERY, _look, mount / "DCIM/a.jpg")
    assert user.channel.poll(ENDS_S), "nobody has killed it"
    with pytest.raises(AssertionError, match="wait status 9"):
        user.result()
    assert copy.result(ANSWER_S) == len(PHOTO)
    assert mount.status()["bugs"] == 0


def test_all_wait_where_the_loop_clones_it(without: Callable[..., Mount], store_on, stuck: Stuck) -> None:
    mount = without("cloned-on-the-loop", faulty.POLICY, _furnished(store_on("xfs")))
    user = stuck.use(mount / "DCIM/a.jpg", os.O_RDONLY)
    stuck.start(GALLERY, _look, mount / "DCIM/a.jpg")
    looks: list[Child] = []
    while not looks or looks[-1].channel.poll(HANGS_S):
        assert len(looks) < 20, "it does not hang"
        looks.append(stuck.start(GALLERY, _look, mount / "Checked/a.jpg"))
    stuck.let_go()
    user.result()
    assert looks[-1].result() == len(PHOTO)


@pytest.mark.parametrize(
    ("kind", "flags", "change"),
    first(2, [
        ("xfs", os.O_RDONLY, _touch), ("ext4", os.O_RDWR, _remove),
        ("xfs", os.O_RDONLY, _remove), ("ext4", os.O_RDWR, _touch),
    ]),
)  # fmt: skip
def test_who_changes_or_removes_the_file_waits_until_its_user_is_killed(
    mounts_on, store_on, stuck: Stuck, kind: str, flags: int, change: Callable[..., None]
) -> None:
    """And so do all others, since the loop waits. The page never comes, and the mount goes on.

    Attack E5.10: The same, while another app removes the file or changes its attributes (by another
    view; on xfs by any view, if the first app only reads)
    Guard: policyfs/daemon/lock_circle.py::LockCircle.writer (the process that reads or writes is killed
    after 30 s)
    Also: ::test_nobody_is_killed_while_the_loop_waits_for_a_disk,
    tests/unit/test_daemon_lock_circle.py::test_the_writer_is_killed_and_the_connection_ends_only_if_it_is_still_there
    Without: ::test_all_wait_as_long_as_the_user_wants_where_nobody_looks
    """
    mount = mounts_on.prepare(POLICY, _furnished(store_on(kind)))
    mount.program = ("tests.support.mount.short_waits",)
    mount.expected_log.extend(LOG)
    mount.start()
    user = stuck.use(mount / "DCIM/a.jpg", flags)
    program = os.readlink(f"/proc/{user.pid}/exe")
    changer = stuck.start(GALLERY, change, mount / "DCIM/a.jpg")
    assert user.channel.poll(ENDS_S), "nobody has killed it"
    with pytest.raises(AssertionError, match="wait status 9"):
        user.result()
    changer.result(ANSWER_S)
    assert stuck.start(GALLERY, _look, mount / "Checked/a.jpg").result(ANSWER_S) == len(PHOTO)
    assert mount.status()["bugs"] == 0
    wait_for(lambda: mount.events(type="killed"), "the kill is on the trail")
    (killed,) = mount.events(type="killed")
    assert (killed["pid"], killed["uid"], killed["exe"]) == (user.pid, CAMERA, program)
    assert killed["reason"] == CIRCLE
    assert WAITS_S <= killed["blocked_s"] < ENDS_S
    sentence = f"killed {program} (pid {user.pid}, uid {CAMERA}) after {killed['blocked_s']} s: {CIRCLE}"
    with mount.as_environment():
        for command in (("show", f"{mount.trail_dir.name[:8]}:{killed['seq']}"), ("summary",)):
            said = policyfs("audit", *command)
            assert sentence in said.stdout, said


def test_nobody_is_killed_while_the_loop_waits_for_a_disk(
    mounts_on, store_on, arena: Path, stuck: Stuck
) -> None:
    """The process uses another mount, and the disk would answer no sooner without it."""
    beside = mounts_on.start(faulty.POLICY, _furnished(store_on("ext4")))
    (arena / "disk").mkdir()
    with disk(arena / "disk", faulty.furnish) as hanging:
        mount = mounts_on.prepare(faulty.POLICY, hanging.root)
        mount.program = ("tests.support.mount.short_waits",)
        mount.start()
        user = stuck.use(beside / "DCIM/a.jpg", os.O_RDWR)
        hanging.be(slow="r")
        try:
            look = stuck.start(GALLERY, _look, mount / "Checked/a.jpg")
            wait_for(lambda: is_blocked(mount.pid), "the loop waits for the disk")
            killed = user.channel.poll(HANGS_S)
            assert is_blocked(mount.pid), "it waited all the time"
        finally:
            hanging.be()
        assert not killed
        assert look.result() == len(PHOTO)
        stuck.let_go()
        user.result()
        assert mount.stop() == []


def test_all_wait_as_long_as_the_user_wants_where_nobody_looks(
    without: Callable[..., Mount], store_on, stuck: Stuck
) -> None:
    mount = without("circle-unseen", POLICY, _furnished(store_on("xfs")))
    user = stuck.use(mount / "DCIM/a.jpg", os.O_RDONLY)
    stuck.start(GALLERY, _touch, mount / "DCIM/a.jpg")
    wait_for(lambda: _stays_blocked(mount.pid), "the loop waits for the file")
    look = stuck.start(GALLERY, _look, mount / "Checked/a.jpg")
    assert not look.channel.poll(HANGS_S)
    stuck.let_go()
    user.result()
    assert look.result() == len(PHOTO)
