"""B9: a lock that one app has, another tries to have as well, to hold for ever, or to use up.

What honest apps get by their locks is in tests/mount/test_locks*.py; here is also what happens without.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import databases
from tests.support.programs.lockers import SORTS, Locker, lock, lockers

RAW, CHECKED, OWN = 10037, 10038, 10039
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  raw: {{uid: {RAW}}}
  checked: {{uid: {CHECKED}}}
  own: {{uid: {OWN}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: kinds
    require: {{content: ["text/*", "application/*"]}}
    who: {{app: checked}}
    paths: ["/**"]
"""
DESCRIPTORS: Final = 160
"""What the daemon is given where somebody tries to use them up: an eighth of it is for locks, of which
one app alone gets half."""
ASKED: Final = 200
_CLONE_FILES: Final = 0x400


@pytest.fixture
def writable_store(empty_store: Path) -> Path:
    (empty_store / "d").mkdir()
    (empty_store / "d").chmod(0o777)
    (empty_store / "d" / "file").write_bytes(b"before\n")
    (empty_store / "d" / "file").chmod(0o666)
    return empty_store


@pytest.fixture
def started(mounts: Mounts, writable_store: Path) -> Callable[..., Mount]:
    """`started(guard, *options)`: a mount, whose daemon lacks a guard if one is named."""

    def start(guard: str, *options: str, descriptors: int = 0) -> Mount:
        mount = mounts.prepare(POLICY, writable_store, *options)
        if guard:
            mount.program = ("tests.attack.weakened", guard)
        mount.most_descriptors = descriptors
        return mount.start()

    return start


@pytest.fixture
def locker() -> Iterator[Callable[..., Locker]]:
    with lockers() as make:
        yield make


# -- to have what another has --------------------------------------------------------------------------


def taken_twice(mount: Mount, store: Path, locker) -> dict[str, list[str]]:
    """One app has the file locked; what others get who try."""
    seen: dict[str, list[str]] = {}
    for sort in SORTS:
        holder = locker(RAW, mount / "d/file")
        others = [locker(CHECKED, mount / "d/file"), locker(0, store / "d/file")]
        assert holder.lock(sort, "write") == "ok"
        seen[sort] = [other.lock(sort, "write") for other in others]
        for one in (holder, *others):
            one.kill()
    return seen


def test_a_lock_is_had_once(started, writable_store: Path, locker) -> None:
    """Attack B9.1: Take a lock that another app holds in another view, in another mount or in the store
    Guard: policyfs/store/locking/locks.py::LockTable.attempt
    Also: tests/mount/test_locks.py::test_sides_exclude_each_other,
    tests/mount/test_locks.py::test_random_locks_are_as_natively
    Without: ::test_the_kernels_own_locks_are_had_twice
    """
    assert taken_twice(started(""), writable_store, locker) == {sort: ["EAGAIN"] * 2 for sort in SORTS}


def test_the_kernels_own_locks_are_had_twice(started, writable_store: Path, locker) -> None:
    seen = taken_twice(started("locks-of-the-kernel"), writable_store, locker)
    assert seen == {sort: ["ok"] * 2 for sort in SORTS}


def torn(mounts: list[Mount], deadline_s: float) -> str:
    """What becomes of a database that two apps write in two mounts; empty: nothing is wrong."""
    one, other = mounts
    call_as(RAW, databases.create, one / "d/base", "delete")
    crew = [start_as(uid, _write, mount / "d/base", number, deadline_s)
            for number, (uid, mount) in enumerate([(RAW, one), (OWN, other)] * 2)]  # fmt: skip
    try:
        committed = [child.result(deadline_s + 60) for child in crew]
        wrong = " ".join(said for _, said in committed if said)
        check, total, done = call_as(RAW, databases.verdict, one / "d/base")
    except sqlite3.Error as error:
        return str(error)
    finally:
        for child in crew:
            child.kill()
    expected = ("ok", databases.ACCOUNTS * databases.BALANCE, sum(count for count, _ in committed))
    return wrong or ("" if (check, total, done) == expected else f"{check[:60]} {total} {done} of {expected}")


def _write(_channel: object, path: Path, number: int, seconds: float) -> tuple[int, str]:
    try:
        return databases.transfer_for(path, number, seconds), ""
    except sqlite3.Error as error:
        return 0, str(error)


def test_a_database_is_torn_where_locks_do_not_reach(started) -> None:
    """The same that tests/mount/test_locks_sqlite.py does with locks."""
    guard = "locks-of-the-kernel"
    assert torn([started(guard), started(guard, "--app", "own", "--any-uid")], 1.5)


# -- to go on with what was before -----------------------------------------------------------------------


def seen_under_a_lock(mount: Mount, store: Path, locker) -> tuple[bytes, int]:
    """An app has read a file; another writes it under a lock; what the first sees under its own."""
    (store / "d" / "file").write_bytes(b"before\n")
    os.utime(store / "d" / "file", (1e9, 1e9))  # old enough to be kept for long
    reader, writer = locker(OWN, mount / "d/file"), locker(0, store / "d/file")
    assert reader.lock("posix", "read") == "ok"
    assert (reader("read", "f", 100, 0), reader("size", "f")) == (b"before\n", 7)
    assert reader.lock("posix", "unlock") == "ok"
    assert writer.lock("posix", "write") == "ok"
    writer("write", "f", b"afterwards\n", 0)
    assert writer.lock("posix", "unlock") == "ok"
    assert reader.lock("posix", "read") == "ok"
    return reader("read", "f", 100, 0), reader("size", "f")


@pytest.mark.parametrize("road", ["passthrough", "mediated"])
def test_who_has_a_lock_sees_what_was_written_under_it(started, writable_store, locker, road) -> None:
    """Attack B9.3: Get a lock, and continue with bytes cached before the lock
    Guard: policyfs/fs/data/locks.py::Locks._changed
    Without: ::test_what_the_kernel_keeps_is_older_than_the_lock
    """
    options = ("--no-passthrough",) if road == "mediated" else ()
    mount = started("", "--app", "own", "--any-uid", *options)
    assert seen_under_a_lock(mount, writable_store, locker) == (b"afterwards\n", 11)


def test_what_the_kernel_keeps_is_older_than_the_lock(started, writable_store: Path, locker) -> None:
    mount = started("changes-unseen", "--app", "own", "--any-uid", "--no-passthrough")
    data, size = seen_under_a_lock(mount, writable_store, locker)
    assert (data, size) != (b"afterwards\n", 11)


# -- to keep it for ever ---------------------------------------------------------------------------------


def kept_by_a_child(mount: Mount, locker) -> str:
    """A process has a POSIX lock and ends; its child has the descriptor still."""
    one, other = locker(RAW, mount / "d/file"), locker(CHECKED, mount / "d/file")
    assert one.lock("posix", "write") == "ok"
    one.fork()
    one.kill()
    return other.lock("posix", "write")


def test_a_lock_ends_with_its_process(started, locker) -> None:
    """Attack B9.4: Keep a POSIX lock after the end of the process, by a child that has the descriptor
    Guard: policyfs/fs/data/locks.py::Locks.flushed
    Also: tests/mount/test_locks.py::test_ends_of_locks
    Without: ::test_a_lock_does_not_end_where_closes_are_unheard
    """
    assert kept_by_a_child(started(""), locker) == "ok"


def test_a_lock_does_not_end_where_closes_are_unheard(started, locker) -> None:
    assert kept_by_a_child(started("closes-unheard"), locker) == "EAGAIN"


# -- to use it up ----------------------------------------------------------------------------------------


def _take_many(channel, path: Path, number: int) -> int:
    """So many lock owners of one open file, each of which locks it; how many did, until told to end. A POSIX
    lock belongs to a table of descriptors; each thread here gets one to itself."""
    fd = os.open(path, os.O_RDWR)
    libc, end = ctypes.CDLL(None, use_errno=True), threading.Event()
    said: list[str] = []

    def take() -> None:
        assert libc.unshare(_CLONE_FILES) == 0
        said.append(lock(fd, "posix", "read", 0, 1))
        end.wait()

    threads = [threading.Thread(target=take) for _ in range(number)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(said) == number, "all have asked", 60.0)
    channel.send(said.count("ok"))
    channel.recv()
    end.set()
    for thread in threads:
        thread.join()
    return said.count("ok")


def _neighbour(path: Path, number: int) -> list[str]:
    """What an honest app is refused while it makes files and locks them."""
    wrong = []
    for n in range(number):
        try:
            fd = os.open(f"{path}.{n}", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            wrong.append(error.strerror)
            continue
        said = lock(fd, "posix", "write")
        wrong += [said] if said != "ok" else []
        os.close(fd)
    return wrong


def greed(mount: Mount) -> tuple[int, list[str]]:
    """How many locks one app got of those that it asked for, and what its neighbour was refused."""
    greedy = start_as(RAW, _take_many, mount / "d/file", ASKED)
    try:
        taken = greedy.receive(60)
        wrong = call_as(OWN, _neighbour, mount / "d/mine", 20)
        greedy.send("end")
        greedy.result(60)
    finally:
        greedy.kill()
    wait_for(lambda: mount.status()["locks"]["descriptors"] == 0, "no lock is left")
    return taken, wrong


def test_one_app_leaves_locks_for_others(started) -> None:
    """Attack B9.5: Use up locks, or make a mount hang by waiting for them
    Guard: policyfs/store/locking/locks.py::LockTable.room
    Also: tests/mount/test_locks_waiting.py::test_more_waiters_than_a_daemon_has_tasks,
    tests/mount/test_locks_waiting.py::test_the_end_of_a_mount_ends_the_wait
    Without: ::test_without_a_bound_the_neighbour_gets_nothing
    """
    mount = started("", descriptors=DESCRIPTORS)
    taken, wrong = greed(mount)
    assert (taken, wrong) == (DESCRIPTORS // 8 // 2, [])
    assert mount.status()["locks"]["refused"] == ASKED - taken


def test_without_a_bound_the_neighbour_gets_nothing(started) -> None:
    mount = started("locks-unbounded", descriptors=DESCRIPTORS)
    taken, wrong = greed(mount)
    assert taken > DESCRIPTORS // 2
    assert len(wrong) == 20
    mount.expected_log = [".*"]
