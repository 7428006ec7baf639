"""D2: one app is denied without a pause. The trail stays small, the daemon too, and nobody else waits."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.attack.test_silenced import APP, NEIGHBOUR, POLICY, furnish
from tests.support.counts import count
from tests.support.mounts import Mount, policyfs
from tests.support.processes import start_as, wait_for
from tests.support.stores import Mounts

DENIALS: Final = count(3000, 30_000)
MEMORY_KB: Final = 24 * 1024
SLOWEST_S: Final = 5.0

NAMES: Final[dict[str, Callable[[int], str]]] = {
    "one name": lambda number: "seen",
    "always another": lambda number: f"private/{number}",
}


def _flood(channel: Connection, directory: Path, name: Callable[[int], str]) -> int:
    """Ask for what is denied, as fast as it gets answers; how often it was."""
    channel.send("going")
    denied = 0
    for number in range(DENIALS):
        try:
            os.close(os.open(directory / name(number), os.O_RDONLY))
        except OSError as error:
            denied += error.errno in {errno.EACCES, errno.ENOENT}
    return denied


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


def test_a_flood_that_cannot_be_counted_takes_no_more_room_than_there_is(
    mounts: Mounts, empty_store: Path
) -> None:
    mount = mounts.start(POLICY, furnish(empty_store), "--trail-segment", "256K", "--trail-keep", "2")
    _, memory = flooded(mount, NAMES["always another"])
    assert memory < MEMORY_KB
    segments = list(mount.trail_dir.glob("*.jsonl"))
    assert sum(segment.stat().st_size for segment in segments) < 4 * 256 * 1024
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0


def test_each_is_written_out_where_repeats_are_not_counted(without, empty_store: Path) -> None:
    mount = without("unfolded", POLICY, furnish(empty_store))
    written, _ = flooded(mount, NAMES["one name"])
    assert written > DENIALS * 200
