"""D2: one app is denied without a pause. The trail stays small, the daemon too, and nobody else waits."""

from __future__ import annotations

import errno
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from policyfs.journal.writing.accounts import BURST, DENIED_BURST, DENIED_RATE, RATE
from tests.attack.test_silenced import APP, NEIGHBOUR, POLICY, furnish
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.programs import fairness

pytestmark = pytest.mark.load

DENIALS: Final = count(2000, 30_000)
THREADS: Final = 6
MEMORY_KB: Final = 24 * 1024
SLOWEST_S: Final = 5.0

LONG: Final = "\udcff" * 240
"""Of a name: bytes that are no UTF-8 take most room, so that a flood is soon beyond the budget."""

NAMES: Final[dict[str, Callable[[int], str]]] = {
    "one name": lambda number: "seen",
    "half another": lambda number: f"{number}-{LONG}" if number % 2 else "seen",
}


def _flood(channel: Connection, directory: Path, name: Callable[[int], str]) -> int:
    """Ask for what is denied, as fast as it gets answers; how often it was."""
    channel.send("going")
    denied = [0] * THREADS

    def ask(thread: int) -> None:
        for number in range(thread, DENIALS, THREADS):
            try:
                os.close(os.open(directory / name(number // THREADS), os.O_RDWR | os.O_CREAT))
            except OSError as error:
                denied[thread] += error.errno == errno.EACCES

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(denied)


def _work(channel: Connection, directory: Path) -> tuple[int, float]:
    """An honest app's work, until the flood is over: how often it was done, and the longest time."""
    done, slowest = 0, 0.0
    (directory / "mine").write_text("mine")
    channel.send("working")
    while not channel.poll(0.002):
        start = time.monotonic()
        (directory / "mine").write_text("mine")
        assert (directory / "mine").read_text() == "mine"
        done, slowest = done + 1, max(slowest, time.monotonic() - start)
    return done, slowest


def memory_kb(mount: Mount) -> int:
    """Anonymous memory of the daemon."""
    for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not say")


def flooded(mount: Mount, name: Callable[[int], str]) -> tuple[int, int]:
    """Flood a mount beside an honest app: how many bytes of trail came of it, and kB of memory."""
    before = memory_kb(mount), trail_bytes(mount)
    honest = start_as(NEIGHBOUR, _work, mount / "strict")
    assert honest.receive() == "working"
    hostile = start_as(APP, _flood, mount.mountpoint, name)
    assert hostile.receive() == "going"
    assert hostile.result(100) == DENIALS
    honest.send("it is over")
    done, slowest = honest.result()
    assert done > 10
    assert slowest < SLOWEST_S
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "all is written")
    return trail_bytes(mount, APP) - before[1], memory_kb(mount) - before[0]


def trail_bytes(mount: Mount, uid: int = -1) -> int:
    """Bytes of the records about a uid."""
    mark = f'"uid":{uid},'.encode()
    return sum(
        len(line)
        for segment in mount.trail_dir.glob("*.jsonl")
        for line in segment.read_bytes().splitlines()
        if mark in line
    )


def test_a_flood_is_counted_and_disturbs_nobody(mounts: Mounts, empty_store: Path) -> None:
    """Attack D2.1: Flood the trail
    Guard: policyfs/trail/query/fold.py::AppFold.absorb,
    policyfs/journal/writing/accounts.py::Accounts.absorb
    Also: ::test_a_flood_of_different_names_is_counted_by_directory_and_takes_little_room,
    ::test_a_flood_of_several_processes_takes_less_than_a_megabyte,
    tests/mount/test_trail.py::test_denials_that_repeat_are_counted,
    tests/unit/test_journal_writing_journal.py::test_a_flood_of_drops_takes_no_memory
    Without: ::test_each_is_written_out_where_repeats_are_not_counted,
    ::test_each_is_written_out_where_nobody_has_a_budget,
    ::test_it_takes_more_where_denials_have_no_budget_of_their_own
    """
    mount = mounts.start(POLICY, furnish(empty_store))
    written, memory = flooded(mount, NAMES["one name"])
    assert memory < MEMORY_KB
    assert written < DENIALS * 20

    def counted() -> int:
        return sum(event.get("repeats", 1) for event in mount.events(app="app", decision="deny"))

    wait_for(lambda: counted() == DENIALS, "none is missing")


@pytest.mark.load  # what may be written grows with the time it takes
def test_a_flood_of_different_names_is_counted_by_directory_and_takes_little_room(
    mounts: Mounts, empty_store: Path
) -> None:
    """Names that are long, so that the app is beyond its budget soon."""
    mount = mounts.start(POLICY, furnish(empty_store))
    start = time.monotonic()
    written, memory = flooded(mount, NAMES["half another"])
    assert memory < MEMORY_KB
    assert written < BURST + RATE * (time.monotonic() - start)
    assert written < DENIALS * 400

    def counted() -> int:
        return sum(event.get("repeats", 1) for event in mount.events(app="app", decision="deny"))

    wait_for(lambda: counted() == DENIALS, "none is missing")
    told = mount.events(app="app", decision="deny")
    assert {event["path"] for event in told if event.get("folded") == "directory"} == {"/"}
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0


def test_each_is_written_out_where_nobody_has_a_budget(without, empty_store: Path) -> None:
    mount = without("unbudgeted", POLICY, furnish(empty_store))
    written, _ = flooded(mount, NAMES["half another"])
    assert written > DENIALS * 200


def test_each_is_written_out_where_repeats_are_not_counted(without, empty_store: Path) -> None:
    mount = without("unfolded,unbudgeted", POLICY, furnish(empty_store))
    written, _ = flooded(mount, NAMES["one name"])
    assert written > DENIALS * 200


# ---------------------------------------------------------------- as fast as several processes can


SEEN: Final = (
    fairness.POLICY.strip() + '\n  - {id: look, allow: [see], who: {app: any}, paths: ["/***"]}\n'
)
"""What is denied is seen, so that each denial is one request and one event."""
FLOODERS: Final = 6
FLOOD_S: Final = count(2, 10)
OPENS: Final = 100
"""In one round of an honest app's opens."""
SLOWER: Final = 2
ROUNDS: Final = 5


def _denied(root: str, number: int, turn: int) -> None:
    """Eight denials: four of one name, and four of names that are always new, and long in a line."""
    for of in range(4):
        for name in ("same", f"{number}-{turn}-{of}-{LONG}"):
            try:
                os.close(os.open(f"{root}/{name}", os.O_RDWR | os.O_CREAT))
            except PermissionError:
                continue
            raise AssertionError(f"{name} was not denied")


@dataclass(frozen=True)
class Flooded:
    """Denials, the seconds that they took, bytes of trail, and p99 of an honest app's opens in µs."""

    denials: int
    seconds: float
    grown: int
    p99_alone: float
    p99_beside: float


def most_bytes(seconds: float) -> float:
    """The bound of the trail of one app's denials: 1 MB in ten seconds."""
    return DENIED_BURST + DENIED_RATE * seconds + 100_000


def flood(mount: Mount) -> Flooded:
    """Measure an honest app's opens alone, and beside a flood that lasts FLOOD_S."""
    quiet = start_as(fairness.QUIET, fairness._opens, str(mount.mountpoint))

    def ask() -> list[int]:
        quiet.send(OPENS)
        return quiet.receive(120)

    ask()
    alone = [fairness.quantile(ask(), 0.99) for _ in range(ROUNDS)]
    beside, start = [], time.monotonic()
    with fairness.flooded_by(mount, _denied, FLOODERS, apart=True) as turns:
        while time.monotonic() - start < FLOOD_S:
            beside.append(fairness.quantile(ask(), 0.99))
        seconds = time.monotonic() - start
    quiet.send(0)
    quiet.result(30)
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "all is written")
    grown = trail_bytes(mount, fairness.FLOOD)
    return Flooded(8 * sum(turns), seconds, grown, statistics.median(alone), statistics.median(beside))


@pytest.fixture
def fair_store(empty_store: Path) -> Path:
    fairness.furnish(empty_store, b"", listed=0, photos=0)
    (empty_store / "same").write_text("text")
    return empty_store


@pytest.mark.alone
def test_a_flood_of_several_processes_takes_less_than_a_megabyte(mounts: Mounts, fair_store: Path) -> None:
    """100,000 denials a second are offered; as many come as two processors take."""
    mount = mounts.start(SEEN, fair_store)
    worn = flood(mount)
    print(worn, f"{worn.denials / worn.seconds:.0f} denials a second")
    assert worn.grown < most_bytes(worn.seconds)

    def counted() -> int:
        return sum(event.get("repeats", 1) for event in mount.events(app="flood", decision="deny"))

    wait_for(lambda: counted() == worn.denials, "none is missing, and none is counted twice")
    if SOAK:  # on a machine that has nothing else to do
        assert worn.p99_beside <= SLOWER * worn.p99_alone, worn


@pytest.mark.alone
def test_it_takes_more_where_denials_have_no_budget_of_their_own(without, fair_store: Path) -> None:
    mount = without("denials-unbudgeted", SEEN, fair_store)
    worn = flood(mount)
    assert worn.grown > most_bytes(worn.seconds), worn
