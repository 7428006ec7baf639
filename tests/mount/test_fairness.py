"""An app that floods the daemon makes no other wait for all that it asks: users take turns.

Times mean little on a busy machine, so most of this is about order: the daemon is stopped while
requests pile up, and goes on; who is answered when is then its own choice.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest

from policyfs.fs.opening.stale_retries import MOST_RESTING
from policyfs.kernel import session
from policyfs.linux.libc import LIBC
from tests.support.machine.deep import clear
from tests.support.machine.processes import Child, pause, start_as, wait_for
from tests.support.machine.turns import SLICES, turns_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import fairness
from tests.support.programs.fairness import FLOOD, QUIET

pytestmark = pytest.mark.mount

MANY = 60
LISTED = 8_000


@pytest.fixture
def fair(arena: Path, mounts: Mounts):
    """`fair(*options, listed=N, guard="", notes=None, policy=POLICY)`: a running shared mount of two apps.
    notes: where the daemon notes for whom it answers each LOOKUP."""

    def start(
        *options: str, listed: int = 0, guard: str = "", notes: Path | None = None,
        policy: str = fairness.POLICY,
    ) -> Mount:  # fmt: skip
        store = arena / "fair"
        store.mkdir(mode=0o700)
        fairness.furnish(store, b"no photo", listed=listed, photos=0)
        mount = mounts.prepare(policy, store, *options)
        mount.expected_mediated = True  # nothing is opened in some of these
        if notes is not None:
            mount.program = ("tests.mount.noted", str(notes), guard or "-")
        elif guard:
            mount.program = ("tests.attack.weakened", guard)
        return mount.start()

    return start


def _ask_at_once(channel, path: str, count: int, first_uid: int = 0) -> list[int]:
    """*count* threads stat a name each, at once; returns when each was answered. first_uid: of the first
    thread, and so on.
    """
    answered: list[int] = []
    path += f"-{time.monotonic_ns()}-"  # a name that nobody asked for: the kernel does not know it

    def one(number: int) -> None:
        if first_uid:
            LIBC.setfsuid(first_uid + number)  # of this thread alone; what the kernel tells a daemon
        with contextlib.suppress(FileNotFoundError):
            os.stat(f"{path}{number}")  # one name is looked up once at a time
        answered.append(time.monotonic_ns())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    channel.recv()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered


def _asking(pid: int) -> int:
    """How many threads of a process sleep until a request is answered. (The kernel counts a request as
    waiting a moment before a daemon can read it.)"""
    stacks = [(task / "stack").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum("request_wait_answer" in stack for stack in stacks)


def _turn_of_the_last(mount: Mount, notes: Path) -> int:
    """How many of MANY requests of one app, all there before, are answered before another's one."""
    flood = start_as(FLOOD, _ask_at_once, str(mount / "none"), MANY)
    quiet = start_as(QUIET, _ask_at_once, str(mount / "other"), 1)
    pause(mount.pid)
    noted = notes.stat().st_size
    try:
        flood.send("go")
        wait_for(lambda: _asking(flood.pid) == MANY, "the flood", 30)
        quiet.send("go")
        wait_for(lambda: _asking(quiet.pid) == 1, "the quiet app's request", 30)
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    quiet.result()
    flood.result()
    answered = [int(uid) for uid in notes.read_bytes()[noted:].split()]
    assert sorted(answered) == [QUIET] + [FLOOD] * MANY
    return answered.index(QUIET)


def test_one_request_waits_for_no_flood_that_came_before_it(fair, tmp_path: Path) -> None:
    """Attack D2.4: Keep the daemon busy, so that others wait: many requests at once
    Guard: policyfs/kernel/bridge.py::take_turns
    Without: ::test_without_turns_it_waits_for_most
    """
    mount = fair(notes=tmp_path / "notes")
    assert _turn_of_the_last(mount, tmp_path / "notes") <= 1


def test_without_turns_it_waits_for_most(fair, tmp_path: Path) -> None:
    """Not always for all: tasks that were about to answer may let others go first."""
    mount = fair(guard="one-line", notes=tmp_path / "notes")
    assert _turn_of_the_last(mount, tmp_path / "notes") > MANY // 2


def _open_leased(channel, path: str, count: int) -> int:
    """*count* threads open a file for writing, on which somebody has a lease."""
    got: list[int] = []

    def one() -> None:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
        got.append(1)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    channel.send("started")
    for thread in threads:
        thread.join()
    return len(got)


def _open_one(channel, path: str) -> float:
    before = time.monotonic()
    os.close(os.open(path, os.O_RDONLY))
    del channel
    return time.monotonic() - before


@contextlib.contextmanager
def _leased(path: Path):
    """While inside, whoever opens the file for writing waits (until the 45 s of the kernel are over)."""
    previous = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        yield
    finally:
        with contextlib.suppress(BlockingIOError):  # what the kernel says when it was taken by force
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)  # children have the descriptor, too
        os.close(fd)
        signal.signal(signal.SIGIO, previous)


def _stands_still(mount: Mount) -> bool:
    before = mount.fuse_counters()
    time.sleep(0.3)
    return mount.fuse_counters() == before


def _opened_beside(mount: Mount, within_s: float = 30) -> bool:
    """Can an app open a file while more opens of another hang than there are tasks."""
    opens = session.IN_ALL + 256 + MOST_RESTING
    path = mount.store / "flood/notes/leased"
    path.touch(mode=0o666)
    with _leased(path):
        flood: Child = start_as(FLOOD, _open_leased, str(mount / "flood/notes/leased"), opens)
        assert flood.receive() == "started"
        wait_for(lambda: mount.waiting() >= opens, "opens that hang", 30)
        wait_for(lambda: _stands_still(mount), "all of them to hang, and none on its way there", 30)
        quiet = start_as(QUIET, _open_one, str(mount / "quiet/file0"))
        deadline = time.monotonic() + within_s
        while not (done := quiet.channel.poll(0.1)) and time.monotonic() < deadline:
            pass
    quiet.result(60)
    assert flood.result(60) == opens
    return done


def test_what_hangs_in_one_app_leaves_room_for_others(fair) -> None:
    """Attack D2.5: The same by requests that hang
    Guard: policyfs/kernel/bridge.py::take_turns
    Also:
    tests/faults/test_hanging_writes.py::test_an_apps_writes_that_hang_leave_others_tasks_and_memory,
    tests/faults/test_hanging_writes.py::test_pages_of_one_app_that_hang_leave_others_their_write_back
    Without: ::test_without_a_bound_it_hangs_with_them
    """
    assert _opened_beside(fair())


@pytest.mark.soak
def test_without_a_bound_it_hangs_with_them(fair) -> None:
    assert not _opened_beside(fair(guard="one-line"), within_s=1)


def test_more_users_than_lanes(fair, tmp_path: Path) -> None:
    """Beyond 512 users at once some share a lane; nobody is forgotten."""
    mount, first, users = fair(notes=tmp_path / "notes"), 20_000, 600
    child = start_as(0, _ask_at_once, str(mount / "none"), users, first)
    before = mount.waiting()
    pause(mount.pid)
    try:
        child.send("go")
        wait_for(lambda: mount.waiting() == before + users, "requests of 600 users", 60)
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert len(child.result(60)) == users
    assert {*map(int, (tmp_path / "notes").read_text().split())} >= {*range(first, first + users)}


def test_a_killed_caller_leaves_nothing_waiting(fair) -> None:
    """Its request is read ahead, and taken back by the kernel (INTERRUPT) before its turn comes."""
    mount = fair()
    before = mount.waiting()
    pause(mount.pid)
    try:
        flood = start_as(FLOOD, _ask_at_once, str(mount / "none"), MANY)
        flood.send("go")
        wait_for(lambda: mount.waiting() == before + MANY, "the flood", 30)
        os.kill(flood.pid, signal.SIGKILL)
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    wait_for(lambda: mount.waiting() == before, "an end to all of it", 30)
    assert start_as(QUIET, _open_one, str(mount / "quiet/file0")).result() < 30


def _worked_ns(daemon: int) -> int:
    """The processor time of the daemon's event loop so far."""
    return int(Path(f"/proc/{daemon}/schedstat").read_text().split()[0])


def _list_once(channel, path: str, daemon: int) -> tuple[int, int, int]:
    channel.recv()
    begin = _worked_ns(daemon)
    names = len(os.listdir(path))
    return begin, _worked_ns(daemon), names


def _stat_on(channel, path: str, daemon: int) -> list[int]:
    """Looks for absent names until told to end; when each was answered."""
    answered = []
    channel.send("running")
    while not channel.poll():
        with contextlib.suppress(FileNotFoundError):
            os.stat(f"{path}-{len(answered)}")
        answered.append(_worked_ns(daemon))
    return answered


def _longest_wait_beside_a_listing(mount: Mount) -> float:
    """The most work of the event loop between two answers to one app, as a share of all during another app's
    listing."""
    quiet = start_as(QUIET, _stat_on, str(mount / "none"), mount.pid)
    assert quiet.receive() == "running"
    lister = start_as(FLOOD, _list_once, str(mount / "flood/many"), mount.pid)
    lister.send("go")
    begin, end, names = lister.result(60)
    quiet.send("end")
    assert names == LISTED
    times = [begin, *(at for at in quiet.result(60) if begin < at < end), end]
    return max(after - before for before, after in itertools.pairwise(times)) / (end - begin)


NAMES_APART = (
    fairness.POLICY + '  - {id: apart, deny: [all], who: {app: flood}, paths: ["/flood/many/*x*.gone"]}\n'
)
"""Each name of the long directory is decided by itself, which takes long."""


def test_a_long_listing_is_made_in_small_parts(fair) -> None:
    """While a long directory is listed another app is answered all the time. (On a busy machine it does not
    ask all the time, but it does in some listing.)

    Attack D2.7: The same by listing long directories
    Guard: policyfs/fs/namespace/snapshots.py::Snapshots.take
    Without: ::test_one_made_in_one_go_holds_everybody_up
    """
    mount = fair(listed=LISTED, policy=NAMES_APART)
    wait_for(lambda: _longest_wait_beside_a_listing(mount) < 0.15, "a listing without a long wait", 60)


def test_one_made_in_one_go_holds_everybody_up(fair) -> None:
    mount = fair(listed=LISTED, guard="whole-listings", policy=NAMES_APART)
    assert _longest_wait_beside_a_listing(mount) > 0.15


def test_collecting_garbage_holds_nobody_up(mounts: Mounts, empty_store: Path, tmp_path: Path) -> None:
    """What a daemon has when it begins to serve is not gone through again each time."""
    mount = mounts.prepare(fairness.POLICY, empty_store)
    mount.program, mount.executed = ("tests.mount.collecting", str(tmp_path / "noted")), True
    mount.expected_mediated = True  # nothing is opened
    mount.start()
    mount.stop()
    noted = json.loads((tmp_path / "noted").read_text())
    assert noted["took"] < noted["of_all"] / 3


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flood", fairness.FLOODS)
def test_an_open_beside_a_flood_takes_three_times_as_long_at_most(flood, arena, media, mounts) -> None:
    """The 99th percentile of 2,000 opens by its value alone, in the same run; the median of five rounds.

    Nothing is pinned: flooders, the quiet app and the daemon share the processors. For a machine
    that has nothing else to do.
    """
    store = arena / "fair"
    store.mkdir(mode=0o700)
    fairness.furnish(store, media["photo_with_place.jpg"].read_bytes())
    mount = mounts.start(fairness.POLICY, store)
    found = fairness.measure(mount, flood, rounds=5, opens=2_000)
    mount.stop()
    clear(store)
    assert statistics.median(waits.ratio for waits in found) <= 3, found


def test_the_daemon_waits_for_nobodys_slice(fair):
    mount = fair()
    assert turns_of(mount.pid) == (os.getpriority(os.PRIO_PROCESS, 0) - 10, 100_000 if SLICES else 0)
