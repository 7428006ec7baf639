"""An app keeps the kernel's lock of a directory: it removes a file that it writes by splice(2) from a pipe in
which nothing comes. (In passthrough the kernel has the file's lock while it waits for the pipe.)"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.attack.guards_mounted import FEW
from tests.faults.test_killed_waiting import notifies
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.policy_ends import LATE_S, Tries, ending

MANY = 20


def _splice(channel: Connection, path: Path) -> None:
    """Write a file from an empty pipe, until killed."""
    come, _go = os.pipe()
    fd = os.open(path, os.O_WRONLY)
    channel.send("begun")
    os.splice(come, fd, 4096)


def _unlink(channel: Connection, path: Path) -> None:
    channel.send("begun")
    os.unlink(path)


def _stands_in(child: Child, function: str) -> bool:
    return function in Path(f"/proc/{child.pid}/stack").read_text()


@pytest.fixture
def holding() -> Iterator[Callable[[Path], None]]:
    """`holding(path)`: an app holds the directory of this file from now on."""
    made: list[Child] = []

    def begin(path: Path) -> None:
        for function, inside in ((_splice, "fuse_passthrough_splice_write"), (_unlink, "vfs_unlink")):
            child = start_as(CAMERA, function, path)
            made.append(child)
            assert child.receive() == "begun"
            wait_for(lambda child=child, inside=inside: _stands_in(child, inside), f"it is in {inside}")

    yield begin
    for child in made:
        child.kill()


def _sent(mount: Mount) -> int:
    return int(mount.status()["notifications"]["sent"])


def _in_hand(mount: Mount, held: Path) -> None:
    """Something changes in a held directory of the store: the kernel does not take the notification."""
    before = mount.status()["watch"]["events"]
    (held / "new").write_bytes(b"x")
    wait_for(lambda: mount.status()["watch"]["events"] > before, "the daemon knows of it")


def test_the_kernel_is_told_of_all_other_directories(store_on, mounts_on, holding) -> None:
    """Attack E5.4: Keep the kernel's lock of a directory, so that the kernel takes no notification about
    any directory
    Guard: policyfs/kernel/notify.py::Notifier.tend
    Also: ::test_the_kernel_is_told_of_others_while_many_directories_are_held,
    tests/unit/test_kernel_notify.py::test_another_thread_goes_on_while_one_message_hangs
    Without: ::test_it_is_told_of_nothing_where_one_thread_tells_all
    """
    store = store_on("ext4")
    faulty.furnish(store)
    mount = mounts_on.start(faulty.POLICY, store)
    call_as(GALLERY, os.listdir, mount / "Checked")
    holding(mount / "DCIM/a.jpg")
    _in_hand(mount, store / "DCIM")
    wait_for(lambda: mount.status()["notifications"]["hanging"] == 1, "another thread goes on")
    assert call_as(GALLERY, os.listdir, mount / "Checked") == ["a.jpg"]  # once more, as below
    for number in range(3):
        before = _sent(mount)
        (store / f"Checked/{number}").write_bytes(b"x")
        wait_for(lambda before=before: _sent(mount) > before, "the kernel is told")
        assert len(call_as(GALLERY, os.listdir, mount / "Checked")) == number + 2  # and asks again
    assert mount.status()["bugs"] == 0


def test_the_kernel_is_told_of_others_while_many_directories_are_held(store_on, mounts_on, holding) -> None:
    """One thread hangs for each of them."""
    store = store_on("ext4")
    _furnish(store, MANY)
    mount = mounts_on.start(faulty.POLICY, store)
    call_as(GALLERY, os.listdir, mount / "Checked")
    for number in range(MANY):
        holding(mount / f"DCIM/{number}/a.jpg")
    for number in range(MANY):
        _in_hand(mount, store / f"DCIM/{number}")
    wait_for(lambda: mount.status()["notifications"]["hanging"] == MANY, "one thread hangs for each", 30.0)
    # Once more: another test may have dropped all caches. Of what it does not keep the kernel is not told.
    call_as(GALLERY, os.listdir, mount / "Checked")
    before = _sent(mount)
    (store / "Checked/new").write_bytes(b"x")
    wait_for(lambda: _sent(mount) > before, "the kernel is told")
    assert sorted(call_as(GALLERY, os.listdir, mount / "Checked")) == ["a.jpg", "new"]
    assert mount.status()["bugs"] == 0


def test_it_is_told_of_nothing_where_one_thread_tells_all(store_on, without, holding) -> None:
    store = store_on("ext4")
    faulty.furnish(store)
    mount = without("one-notifier", faulty.POLICY, store)
    call_as(GALLERY, os.listdir, mount / "Checked")
    holding(mount / "DCIM/a.jpg")
    _in_hand(mount, store / "DCIM")
    wait_for(lambda: notifies(mount.pid), "the one thread waits")  # what comes before is sent
    before = _sent(mount)
    (store / "Checked/new").write_bytes(b"x")
    with pytest.raises(AssertionError, match="the kernel is told"):
        wait_for(lambda: _sent(mount) > before, "the kernel is told", 3.0)


def _hold(store: Path, mount: Mount, holding: Callable[[Path], None], count: int) -> None:
    """Hold that many directories, in each of which something changes."""
    call_as(GALLERY, os.listdir, mount / "Checked")
    for number in range(count):
        holding(mount / f"DCIM/{number}/a.jpg")
    for number in range(count):
        _in_hand(mount, store / f"DCIM/{number}")


def _furnish(store: Path, count: int) -> None:
    faulty.furnish(store)
    for number in range(count):
        directory = store / f"DCIM/{number}"
        directory.mkdir()
        (directory / "a.jpg").write_bytes(b"x")
        for path in (directory, directory / "a.jpg"):
            os.chown(path, CAMERA, CAMERA)


def test_an_app_that_holds_more_than_there_are_threads_stops_nothing(store_on, without, holding) -> None:
    """Half of them are for directories. Then names expire all together, which waits for no directory.

    Attack E5.5: Keep the locks of more directories than there are threads for notifications
    Guard: policyfs/kernel/notify.py::Notifier._may_expire
    Also: tests/unit/test_kernel_notify.py::test_no_more_directories_take_a_thread_than_may
    Without: ::test_it_stops_all_where_directories_may_take_each_thread
    """
    store = store_on("ext4")
    _furnish(store, 2 * FEW)
    mount = without("few-notifiers", faulty.POLICY, store)
    _hold(store, mount, holding, 2 * FEW)
    wait_for(lambda: mount.status()["notifications"]["hanging"] == FEW // 2, "half of the threads hang", 30.0)
    wait_for(lambda: mount.status()["notifications"]["queued"] == 0, "all else is told")
    for number in range(3):
        (store / f"Checked/{number}").write_bytes(b"x")
        seen = {"a.jpg", *map(str, range(number + 1))}
        wait_for(lambda seen=seen: set(call_as(GALLERY, os.listdir, mount / "Checked")) == seen, "it is seen")
        (store / "Checked/0").unlink()
        wait_for(lambda: call_as(GALLERY, code_of, os.stat, mount / "Checked/0") == "ENOENT", "it is gone")
        (store / "Checked/0").write_bytes(b"x")
        wait_for(lambda: call_as(GALLERY, code_of, os.stat, mount / "Checked/0") == "", "it is back")
    assert mount.status()["notifications"]["hanging"] == FEW // 2
    assert mount.status()["bugs"] == 0


def test_it_stops_all_where_directories_may_take_each_thread(store_on, without, holding) -> None:
    store = store_on("ext4")
    _furnish(store, 2 * FEW)
    mount = without("few-for-all", faulty.POLICY, store)
    _hold(store, mount, holding, 2 * FEW)
    wait_for(lambda: mount.status()["notifications"]["hanging"] == FEW, "all threads hang", 30.0)
    before = _sent(mount)
    (store / "Checked/new").write_bytes(b"x")
    with pytest.raises(AssertionError, match="the kernel is told"):
        wait_for(lambda: _sent(mount) > before, "the kernel is told", 3.0)


def test_an_exception_ends_while_a_reload_waits_for_a_held_directory(store_on, mounts_on, holding) -> None:
    """The lock that says which policy is in force was held until the kernel had dropped all names.

    Attack D1.4: Use what a policy allows after its end or before its record: hold a directory's lock,
    open many files, or let the trail's disk hang while the policy changes
    Guard: policyfs/daemon/policies/reload.py::Reload.end_exceptions,
    policyfs/fs/access/ledger.py::PolicyRecord.wait
    Also:
    tests/faults/test_hanging_policy.py::test_a_reload_that_cannot_be_recorded_opens_nothing_and_closes_what_it_closes
    Without: tests/faults/test_hanging_policy.py::test_it_opens_where_an_unrecorded_policy_counts
    """
    store = store_on("ext4")
    faulty.furnish(store)
    policy, end_s = ending(5.0)
    mount = mounts_on.start(policy, store)
    mount.expected_log += ["slow to drop", "dropped all names at once"]
    assert call_as(GALLERY, os.listdir, mount / "DCIM")
    holding(mount / "DCIM/a.jpg")
    gallery = Tries(GALLERY, mount / "Checked/a.jpg")
    time.sleep(max(0.0, end_s - 0.5 - time.monotonic()))
    os.kill(mount.pid, signal.SIGHUP)
    time.sleep(end_s + LATE_S + 0.5 - time.monotonic())
    last_s = gallery.last_s()
    gallery.child.kill()
    assert end_s - 1 < last_s < end_s + LATE_S
