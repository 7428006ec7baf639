"""G1: one app makes the daemon wait in requests during which the kernel holds a lock; others do not wait.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from policyfs.fs.sharing.kernel_locks import MOST_S
from tests.attack.guards_kernel_locks import SLOW_S
from tests.support.machine.counts import count
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.kernel_locks import FLOOD, POLICY, QUIET, Waits, furnish, measure

NAMES: Final = 4
SECONDS: Final = 0.9
BOUND_MS: Final = 1000 * (MOST_S + SLOW_S) / 2
"""Between the longest wait that may be, and the shortest one without the guard; the rest is other work."""
ENDS: Final = {
    "lookups": {"done", "EIO"},
    "removals": {"done", "EBUSY", "EIO"},  # the look-up of a name comes first
    "moves": {"EXDEV"},
    "listing": {"done"},  # the last one, since then all kinds are known
}
"""Of each try, how its calls may end. Never with ENOENT: the next sync deletes a file that seems gone."""
Started = Callable[..., Mount]


@pytest.fixture
def shelf(empty_store: Path, media: dict[str, Path]) -> Path:
    furnish(empty_store, media["photo_with_place.jpg"].read_bytes(), names=NAMES, gone=2, photos=2)
    return empty_store


def started(without: Started, guards: str, store: Path) -> Mount:
    mount = without(guards, POLICY, store)
    mount.expected_mediated = True
    return mount


def waits_of(mount: Mount, name: str) -> Waits:
    waits = measure(mount, name, SECONDS, threads=2)
    print(name, waits)
    return waits


def test_others_do_not_wait_for_an_app_s_files_to_be_looked_at(without: Started, shelf: Path) -> None:
    """Attack E5.2: Make the daemon wait under a lock of the kernel: by names, removals, moves and listings
    that depend on content, or by long records
    Guard: policyfs/fs/sharing/kernel_locks.py::KernelLocks.limit,
    policyfs/fs/sharing/kernel_locks.py::KernelLocks.apart,
    policyfs/fs/namespace/snapshots.py::Snapshots.hangs_on_facts
    Also: ::test_a_listing_with_an_undecided_name_does_not_end_as_if_it_were_whole,
    tests/unit/test_fs_sharing_kernel_locks.py
    Without: ::test_they_wait_where_such_waits_have_no_end
    """
    mount = started(without, "slow-looks", shelf)
    for name, ends in ENDS.items():
        waits = waits_of(mount, name)
        assert waits.longest < BOUND_MS
        assert set(waits.ends) <= ends


def test_they_wait_where_such_waits_have_no_end(without: Started, shelf: Path) -> None:
    mount = started(without, "slow-looks,waits-without-end", shelf)
    for name in ENDS:
        assert waits_of(mount, name).longest > BOUND_MS


def test_others_do_not_wait_for_an_app_s_budget_for_records(without: Started, shelf: Path) -> None:
    """Attack E5.3: The same by records that use up the app's budget
    Guard: policyfs/fs/access/audit.py::Recorder.pay
    Also: ::test_who_makes_files_and_closes_them_is_slowed_but_not_refused
    Without: ::test_they_wait_where_it_is_paid_at_once
    """
    mount = started(without, "dear-records", shelf)
    waits = waits_of(mount, "records")
    assert waits.longest < BOUND_MS
    assert set(waits.ends) == {"done", "EBUSY"}


def test_they_wait_where_it_is_paid_at_once(without: Started, shelf: Path) -> None:
    mount = started(without, "dear-records,paid-at-once", shelf)
    assert waits_of(mount, "records").longest > BOUND_MS


def test_who_makes_files_and_closes_them_is_slowed_but_not_refused(without: Started, shelf: Path) -> None:
    """The close waits instead, under no lock."""
    mount = started(without, "costly-records", shelf)
    waits = waits_of(mount, "creates")
    assert waits.longest < BOUND_MS
    assert set(waits.ends) == {"done"}


def _make_beside_removed_files(_channel: Connection, path: str) -> tuple[int, float]:
    """Make files while the kernel still uses the nodes of removed ones. Return how often a new file got the
    inode number of a removed one, and the longest time of a create (s)."""
    numbers: set[int] = set()
    reused, longest = 0, 0.0
    for turn in range(count(60, 150)):
        begin = time.monotonic()
        fd = os.open(f"{path}/mine{turn}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        longest = max(longest, time.monotonic() - begin)
        number = os.fstat(fd).st_ino
        os.close(fd)
        os.open(f"{path}/mine{turn}", os.O_PATH)
        os.unlink(f"{path}/mine{turn}")
        reused += number in numbers
        numbers.add(number)
    return reused, longest


def test_a_new_file_waits_for_no_notification_about_its_directory(
    store_on: Callable[[str], Path], mounts_on: Mounts
) -> None:
    """The notification waits for the directory's lock, and the create has it. The create must not wait for
    the notifier because of another node of its inode number: that of a removed file."""
    store = store_on("ext4")
    furnish(store, b"", names=0, gone=0, photos=0)
    mount = mounts_on.start(POLICY, store)
    child = start_as(QUIET, _make_beside_removed_files, str(mount / "both"))
    while not child.channel.poll():
        (store / "both/theirs").touch()  # the daemon tells the kernel of each change
        (store / "both/theirs").unlink()
    reused, longest = child.result()
    assert reused, "ext4 gives no inode number a second time"
    assert longest < MOST_S


# ---------------------------------------------------------------- what is told of names that are undecided


def _list_twice(channel: Connection, path: str) -> tuple[list[str], int, int]:
    """Listings through one descriptor: all of the first, and what ends the second."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    first = os.listdir(fd)
    channel.send("listed")
    channel.recv()
    try:
        return first, len(os.listdir(fd)), 0
    except OSError as error:
        return first, -1, error.errno or 0


def test_a_listing_with_an_undecided_name_does_not_end_as_if_it_were_whole(
    without: Started, shelf: Path
) -> None:
    """The second one begins anew without OPENDIR, so there is no time to look into the new file."""
    mount = started(without, "slow-looks", shelf)
    for path in (shelf / "both").iterdir():
        path.unlink()
    (shelf / "both/old").write_text("words")
    child = start_as(FLOOD, _list_twice, str(mount / "both"))
    assert child.receive() == "listed"
    (shelf / "both/new").write_text("words")
    child.send("go on")
    assert child.result() == (["old"], -1, 5)


def test_who_waits_for_a_listing_can_be_killed(without: Started, shelf: Path) -> None:
    mount = started(without, "slow-looks", shelf)
    child = start_as(FLOOD, lambda channel: channel.send("begins") or os.listdir(mount / "both"))
    assert child.receive() == "begins"
    wait_for(lambda: mount.status()["sniffer"]["requests"] >= 1, "the daemon looks into files")
    begin = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert time.monotonic() - begin < SLOW_S * NAMES / 2
    child.kill()
