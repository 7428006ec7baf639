"""Locks that are waited for: granted when they are free, given up at a signal, never in anyone's way."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import policyfs_process
from tests.support.mount.lockplace import UIDS, Place, how
from tests.support.mount.stores import Mounts
from tests.support.programs.lockers import SORTS, Locker, blocker, lock, waits_natively

PAIRS = (("raw", "checked"), ("checked", "own"), ("own", "store"), ("store", "raw"), ("raw", "redacted"))
"""Who holds a lock, and who waits for it."""


@pytest.fixture(scope="module")
def place(module_arena: Path, module_mounts: Mounts, media: dict[str, Path]) -> Place:
    return Place(module_arena, module_mounts, media["photo_with_place.jpg"])


def waits(place: Place, one: Locker, *lock: object, number: int = 1, file: str = "f") -> None:
    """Start to wait for a lock; returns when the daemon has the request (number: of that sort now)."""
    one.start("wait", file, *lock)
    wait_for(lambda: place.waiting >= number, "somebody waits")


@pytest.mark.parametrize("sort", SORTS)
def test_who_waits_gets_it_when_it_is_free(place: Place, locker, sort: str) -> None:
    for one, other in PAIRS:
        name = place.file()
        holder, waiter = locker(one, name), locker(other, name)
        wanted = "read" if other == "redacted" and sort != "flock" else "write"
        assert holder.lock(sort, "write") == "ok"
        if other == "store":  # which waits in the kernel, natively
            waiter.start("wait", "f", sort, wanted)
            wait_for(lambda: waits_natively(waiter.pid), "it waits")  # noqa: B023 - at once
        else:
            waits(place, waiter, sort, wanted)
        assert not waiter.answered()
        assert holder.lock(sort, "unlock") == "ok"
        assert waiter.answer() == "ok"
        assert holder.lock(sort, "write") == "EAGAIN"
        holder.kill()
        waiter.kill()


@pytest.mark.parametrize("sort", SORTS)
def test_a_signal_ends_the_wait(place: Place, locker, sort: str) -> None:
    name = place.file()
    holder, waiter, third = locker("own", name), locker("raw", name), locker("checked", name)
    holder.lock(sort, "write")
    waits(place, waiter, sort, "write")
    waiter.signal()
    assert waiter.answer() == "EINTR"
    assert place.waiting == 0
    holder.lock(sort, "unlock")
    assert third.lock(sort, "write") == "ok"  # what was interrupted was not granted after all


@pytest.mark.parametrize("sort", SORTS)
def test_killing_who_waits_frees_it(place: Place, locker, sort: str) -> None:
    name = place.file()
    holder, waiter, last = locker("raw", name), locker("checked", name), locker("raw", name)
    holder.lock(sort, "write")
    waits(place, waiter, sort, "write")
    waits(place, last, sort, "write", number=2)
    waiter.kill()  # returns when it is gone
    wait_for(lambda: place.waiting == 1, "one waits")
    holder.kill()  # so does its lock
    assert last.answer() == "ok"


def test_the_first_to_come_is_the_first_to_get_it(place: Place, locker) -> None:
    name = place.file()
    holder = locker("raw", name)
    holder.lock("posix", "write")
    crowd = [locker(side, name) for side in ("checked", "raw", "checked", "raw")]
    for number, one in enumerate(crowd, 1):
        waits(place, one, "posix", "write", 0, 10, number=number)
    holder.lock("posix", "unlock")
    for number, one in enumerate(crowd):
        assert one.answer() == "ok"
        assert not any(later.answered() for later in crowd[number + 1 :])
        one.lock("posix", "unlock")


def test_who_waits_for_each_other(place: Place, locker) -> None:
    """POSIX locks natively end in EDEADLK, and so they do in one mount."""
    for side in ("native", "raw", "own"):
        name = place.file()
        one, other = locker(side, name), locker(side, name)
        one.lock("posix", "write", 0, 1)
        other.lock("posix", "write", 1, 1)
        one.start("wait", "f", "posix", "write", 1, 1)
        wait_for(lambda: place.waiting or waits_natively(one.pid), "one waits")  # noqa: B023 - at once
        assert other("wait", "f", "posix", "write", 0, 1) == errno.errorcode[errno.EDEADLK], side
        other.lock("posix", "unlock", 1, 1)
        assert one.answer() == "ok"
        one.kill()


def test_a_circle_through_two_mounts_is_ended_by_a_signal(place: Place, locker) -> None:
    """No daemon sees all of it: both wait, the mounts go on, and a signal ends it."""
    name = place.file()
    one, other = locker("raw", name), locker("own", name)
    one.lock("posix", "write", 0, 1)
    other.lock("posix", "write", 1, 1)
    waits(place, one, "posix", "write", 1, 1)
    waits(place, other, "posix", "write", 0, 1, number=2)
    assert one_stat(place, "raw", name) == one_stat(place, "own", name)
    one.signal()
    assert one.answer() == "EINTR"
    one.lock("posix", "unlock", 0, 1)
    assert other.answer() == "ok"


def one_stat(place: Place, side: str, name: str) -> int:
    return call_as(UIDS[side], lambda: os.stat(place.path(side, name)).st_ino)


def test_waiting_costs_no_time(place: Place, locker) -> None:
    """Eight wait a second for what another mount holds; the daemon hardly works."""
    name = place.file()
    holder = locker("own", name)
    holder.lock("flock", "write")
    crowd = [locker("raw", name) for _ in range(8)]
    for number, one in enumerate(crowd, 1):
        waits(place, one, "flock", "read", number=number)
    before, began = cpu_s(place.shared.pid), time.monotonic()
    while time.monotonic() - began < 1.0:
        one_stat(place, "raw", name)
        time.sleep(0.1)  # the second that is measured, not a wait for anything
    used = cpu_s(place.shared.pid) - before
    assert used < 0.3, f"{used:.2f} s of CPU"
    holder.lock("flock", "unlock")
    assert [one.answer() for one in crowd] == ["ok"] * 8


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_more_waiters_than_a_daemon_has_tasks(place: Place, locker) -> None:
    """A mount in which 140 requests wait answers all others, and lets every one of them go."""
    name = place.file()
    holder = locker("raw", name)
    holder.lock("flock", "write")
    crowd = start_as(UIDS["raw"], crowd_of_threads, place.path("raw", name), 140)
    try:
        wait_for(lambda: place.waiting == 140, "140 wait", 30.0)
        assert holder("size", "f") > 1000
        assert holder("read", "f", 2, 0) == b"\xff\xd8"
        assert locker("checked", name).lock("posix", "write") == "ok"
        holder.kill()
        assert crowd.result() == ["ok"] * 140
    finally:
        crowd.kill()


def crowd_of_threads(_channel: object, path: Path, number: int) -> list[str]:
    """Each thread opens the file, waits for it, has it, and closes it."""
    answers: list[str] = []

    def have_it() -> None:
        fd = os.open(path, os.O_RDONLY)
        answers.append(lock(fd, "flock", "write", wait=True))
        os.close(fd)

    threads = [threading.Thread(target=have_it) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_the_end_of_a_mount_ends_the_wait(place: Place, mounts: Mounts, locker) -> None:
    """umount says who is in the way; the daemon's end is nobody's hang."""
    mount = mounts.start(place.shared.policy, place.store)
    name = place.file()
    outside = locker("store", name)
    outside.lock("flock", "write")
    waiter = locker("raw", name)
    waiter("open", "g", str(mount / name), how("raw"))
    waiter.start("wait", "g", "flock", "read")
    wait_for(lambda: mount.status()["locks"]["waiting"] == 1, "it waits")
    said = policyfs_process("umount", mount.mountpoint, environment=mount.environment)
    assert (said.returncode, "busy" in said.stderr) == (1, True), said
    mount.expected_log = ["detached while busy"]
    assert mount.stop() == []
    assert waiter.answer() in {"ENOTCONN", "ECONNABORTED", "EIO", "ENODEV"}


def test_who_has_it_is_said(place: Place, locker) -> None:
    """F_GETLK names the process, also one that another view or the store lets lock."""
    name = place.file()
    one, outside = locker("raw", name), locker("store", name)
    one.lock("posix", "write", 10, 5)
    outside.lock("posix", "read", 30, 5)
    for side in ("raw", "checked"):
        asker = locker(side, name)
        assert asker("blocker", "f", "posix", "read", 0, 20) == ("write", 10, 5, one.pid)
        assert asker("blocker", "f", "posix", "write", 20, 0) == ("read", 30, 5, outside.pid)
        assert asker("blocker", "f", "posix", "read", 20, 0) == ("unlock", 0, 0, 0)
    elsewhere = locker("own", name)
    assert elsewhere("blocker", "f", "posix", "read", 0, 20) == ("write", 10, 5, 0)
    with (place.store / name).open("rb+") as file:  # natively an OFD lock has no process
        assert blocker(file.fileno(), "posix", "read", 0, 20) == ("write", 10, 5, -1)
