"""How long an app's creates and moves take while another app makes the daemon wait under locks of the kernel.

The kernel holds a directory's lock during LOOKUP, READDIR, CREATE, UNLINK and the like, and a lock of the
whole mount during a RENAME between directories. What one app's request waits for, other apps wait for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.machine.processes import Child, start_as
from tests.support.mount.daemons import Mount
from tests.support.programs.fairness import quantile

QUIET, FLOOD = 10010, 10020
LONG: Final = "\udcff" * 240
"""Of a name: bytes that are no UTF-8 take most room in a record."""
THREADS: Final = 4

POLICY: Final = """
apiVersion: policyfs/v1
kind: Policy
metadata: {name: locks}
apps:
  quiet: {uid: 10010}
  flood: {uid: 10020}
defaults: {audit: best_effort}
rules:
  - id: quiet.all
    allow: [all]
    who: {app: quiet}
    paths: ["/both/***", "/quiet/***"]
  - id: flood.directories
    allow: [see]
    who: {app: flood}
    paths: ["/both"]
  - id: flood.by-kind
    allow: [see, read, delete]
    who: {app: flood}
    paths: ["/both/*"]
    when: {type: text/*}
  - id: flood.own
    allow: [all]
    who: {app: flood}
    paths: ["/flood/***"]
  - id: flood.checked
    require: {no: [location]}
    who: {app: flood}
    paths: ["/flood/checked/**"]
  - id: flood.recorded
    allow: [all]
    who: {app: flood}
    paths: ["/both/rec-*"]
    audit: required
"""


def furnish(store: Path, photo: bytes, *, names: int, gone: int, photos: int) -> None:
    """Make /both with texts, which flood sees by their kind (some to be removed); and flood's photos."""
    for name in ("both", "quiet", "flood", "flood/checked", "flood/photos", "flood/other"):
        (store / name).mkdir(mode=0o777)
        (store / name).chmod(0o777)
    for number in range(names):
        (store / f"both/text{number}").write_bytes(b"some words, %d\n" % number)
    for number in range(gone):
        (store / f"both/gone{number}").write_bytes(b"more words, %d\n" % number)
    for number in range(photos):
        (store / f"flood/photos/{number}.jpg").write_bytes(photo + b"%d" % number)


# ---------------------------------------------------------------- what makes the daemon wait


Try = Callable[[str, int, int], object]
"""A function of the mount, the number of the thread and the turn."""


def listing(root: str, number: int, turn: int) -> None:
    """List names of which each must be sniffed."""
    del number, turn
    os.listdir(f"{root}/both")


def lookups(root: str, number: int, turn: int) -> None:
    """Look up names of which each must be sniffed."""
    os.stat(f"{root}/both/text{turn * THREADS + number}")


def removals(root: str, number: int, turn: int) -> None:
    """Remove names that may be removed only for their kind."""
    os.unlink(f"{root}/both/gone{turn * THREADS + number}")


def moves(root: str, number: int, turn: int) -> None:
    """Move photos to where their places are forbidden."""
    name = f"{turn * THREADS + number}.jpg"
    os.rename(f"{root}/flood/photos/{name}", f"{root}/flood/checked/{name}")


def records(root: str, number: int, turn: int) -> None:
    """Make directories whose records are long."""
    os.mkdir(f"{root}/both/rec-{number}-{turn}{LONG}")


def creates(root: str, number: int, turn: int) -> None:
    """Make files whose records are long, and close them."""
    os.close(os.open(f"{root}/both/rec-file-{number}-{turn}{LONG}", os.O_CREAT | os.O_WRONLY))


def plain(root: str, number: int, turn: int) -> None:
    """Move directories that need no look: what others wait for then is the work alone, and the machine."""
    places = f"{root}/flood/photos/{number}", f"{root}/flood/other/{number}"
    if not turn:
        os.mkdir(places[0])
    os.rename(*(reversed(places) if turn % 2 else places))


TRIES: Final[dict[str, Try]] = {
    "plain": plain,
    "listing": listing,
    "lookups": lookups,
    "removals": removals,
    "moves": moves,
    "records": records,
    "creates": creates,
}


def _flood(channel, root: str, name: str, threads: int) -> Counter[str]:
    """Go on with a try until told to end, or until nothing is left; how often it ended with which errno."""
    attempt = TRIES[name]
    ends: Counter[str] = Counter()
    over = threading.Event()

    def run(number: int) -> None:
        turn = 0
        while not over.is_set():
            try:
                attempt(root, number, turn)
                ends["done"] += 1
            except FileNotFoundError:
                break  # that was the last one
            except OSError as error:
                ends[errno.errorcode[error.errno or 0]] += 1
            turn += 1

    running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    os.setsid()
    channel.send("running")
    for thread in running:
        thread.start()
    channel.recv()
    over.set()
    for thread in running:
        thread.join(0.1)  # the end of the process interrupts what may be interrupted
    return ends.copy()


# ---------------------------------------------------------------- who waits


def _work(channel, root: str) -> tuple[list[int], list[int]]:
    """Create, move and remove files until told to end: the times (ns) of the creates and of the moves."""
    created, moved, turn = [], [], 0
    os.setsid()
    channel.send("running")
    while not channel.poll():
        begin = time.perf_counter_ns()
        fd = os.open(f"{root}/both/mine{turn}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        created.append(time.perf_counter_ns() - begin)
        os.close(fd)
        begin = time.perf_counter_ns()
        os.rename(f"{root}/both/mine{turn}", f"{root}/quiet/mine")
        moved.append(time.perf_counter_ns() - begin)
        os.unlink(f"{root}/quiet/mine")
        turn += 1
        time.sleep(0.001)
    return created, moved


@dataclass(frozen=True, slots=True)
class Waits:
    """Of one app beside a try: the 99th percentiles and the longest of its creates and moves, in ms.

    ends: how the calls of the other app ended.
    """

    number: int
    create_p99: float
    move_p99: float
    longest: float
    ends: Counter[str]

    @property
    def p99(self) -> float:
        """The greater of both 99th percentiles, in ms."""
        return max(self.create_p99, self.move_p99)


@contextlib.contextmanager
def trying(mount: Mount, name: str, threads: int) -> Iterator[list[Counter[str]]]:
    """While inside, an app goes on with a try; then its ends are in the list."""
    child: Child = start_as(FLOOD, _flood, str(mount.mountpoint), name, threads)
    ends: list[Counter[str]] = []
    assert child.receive() == "running"
    try:
        yield ends
    finally:
        child.send("end")
        ends.append(child.result(120))


def measure(mount: Mount, name: str, seconds: float, threads: int = THREADS) -> Waits:
    """What an honest app waits for its creates and moves, while another one goes on with a try."""
    honest = start_as(QUIET, _work, str(mount.mountpoint))
    assert honest.receive() == "running"
    with trying(mount, name, threads) as ends:
        time.sleep(seconds)
        honest.send("end")
        created, moved = honest.result(120)
    return Waits(
        len(created), quantile(created, 0.99) / 1000, quantile(moved, 0.99) / 1000,
        max(created + moved) / 1e6, ends[0],
    )  # fmt: skip
