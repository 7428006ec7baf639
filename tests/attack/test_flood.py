"""D2: one app is denied without a pause. The trail stays small, the daemon too, and nobody else waits."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from policyfs.journal.accounts import BURST, RATE
from tests.attack.test_silenced import APP, NEIGHBOUR, POLICY, furnish
from tests.support.machine.counts import count
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.load

DENIALS: Final = count(3000, 30_000)
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
    while not channel.poll():
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
    mount = without("unfolded", POLICY, furnish(empty_store))
    written, _ = flooded(mount, NAMES["one name"])
    assert written > DENIALS * 200
