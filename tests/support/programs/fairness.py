"""How long an app waits for its opens while another app does all it can to keep the daemon busy."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.machine.deep import descend, opened_down
from tests.support.machine.processes import Child, start_as
from tests.support.mount.daemons import Mount

QUIET, FLOOD = 10010, 10020
LISTED: Final = 100_000
FLOODERS: Final = 8
DEEP_LEVELS: Final = 990

POLICY: Final = """
apiVersion: policyfs/v1
kind: Policy
metadata: {name: fair}
apps:
  quiet: {uid: 10010}
  flood: {uid: 10020}
rules:
  - id: quiet.own
    allow: [all]
    who: {app: quiet}
    paths: ["/quiet/***"]
  - id: flood.own
    allow: [all]
    who: {app: flood}
    paths: ["/flood/***"]
  - id: flood.sniffed
    require: {redact: [location]}
    who: {app: flood}
    paths: ["/flood/photos/**"]
  - id: flood.checked
    require: {content: [text/plain]}
    who: {app: flood}
    paths: ["/flood/notes/**"]
"""
"""Two apps, of which neither sees the other's files."""


def furnish(store: Path, photo: bytes, *, listed: int = LISTED, photos: int = 200) -> None:
    """Make both apps' files. listed: names in /flood/many."""
    for name in ("quiet", "flood", "flood/many", "flood/photos", "flood/notes", "flood/made"):
        (store / name).mkdir(mode=0o777)
        (store / name).chmod(0o777)
    for number in range(16):
        (store / f"quiet/file{number}").write_bytes(b"quiet")
    for number in range(listed):
        os.close(os.open(store / f"flood/many/name{number:06}", os.O_CREAT | os.O_WRONLY, 0o666))
    for number in range(photos):
        (store / f"flood/photos/{number}.jpg").write_bytes(photo)


# ---------------------------------------------------------------- what floods


def storm(root: str, number: int, turn: int) -> None:
    """Opens, creates, deletes and stats of names of its own, and of the other app's: 4 denials."""
    for path in (f"{root}/flood/notes", f"{root}/quiet/file{turn % 16}", f"{root}/quiet/none{turn}"):
        with contextlib.suppress(OSError):
            os.stat(path)
    for path in (f"{root}/quiet/file{turn % 16}", f"{root}/made-{number}", f"{root}/flood/none"):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDWR))
    name = f"{root}/flood/made/{number}"
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(name)
    with contextlib.suppress(OSError):
        os.mkdir(f"{root}/mine-{number}")


def listing(root: str, number: int, turn: int) -> None:
    """One listing of the long directory."""
    del number, turn
    os.listdir(f"{root}/flood/many")


def sniffing(root: str, number: int, turn: int) -> None:
    """Photos that are new each time: each must be looked at and copied."""
    path = f"{root}/flood/photos/{(turn * FLOODERS + number) % 200}.jpg"
    with contextlib.suppress(OSError):
        os.utime(path, ns=(turn, time.time_ns()))
        with open(path, "rb") as file:
            file.read(4096)


def writing(root: str, number: int, turn: int) -> None:
    """Many small writes to a file whose writes are checked."""
    fd = os.open(f"{root}/flood/notes/{number}", os.O_CREAT | os.O_WRONLY, 0o600)
    for _ in range(50):
        os.write(fd, b"some words of text\n" * 10)
    os.close(fd)
    del turn


_DEEP: Final[dict[int, list[int]]] = {}
"""Of each flooder, directories one in the other."""


def deep(root: str, number: int, turn: int) -> None:
    """New names, stats and moves in a tree as deep as can be, nearest to its end."""
    if not turn:
        if not os.path.exists(f"{root}/flood/deep{number}"):
            os.mkdir(f"{root}/flood/deep{number}")
            os.chdir(f"{root}/flood/deep{number}")
            descend(DEEP_LEVELS)
        _DEEP[number] = opened_down(f"{root}/flood/deep{number}", DEEP_LEVELS)
        return
    fds = _DEEP[number]
    end, top = fds[-1 - turn * 7 % 300], fds[1]
    calls: tuple[Callable[[], object], ...] = (
        lambda: os.stat(f"none{turn}", dir_fd=end),
        lambda: os.mkdir("new", dir_fd=end),
        lambda: os.rename("new", "newer", src_dir_fd=end, dst_dir_fd=fds[turn * 13 % DEEP_LEVELS]),
        lambda: os.rmdir("newer", dir_fd=fds[turn * 13 % DEEP_LEVELS]),
        lambda: os.rename("d", "e", src_dir_fd=top, dst_dir_fd=top),
        lambda: os.rename("e", "d", src_dir_fd=top, dst_dir_fd=top),
        lambda: os.stat("none", dir_fd=end),
        lambda: os.fstat(end),
    )
    for call in calls:
        with contextlib.suppress(OSError):
            call()


def names(root: str, number: int, turn: int) -> None:
    """Opens, refusals, links and renames of a file of 10,000 names."""
    place = f"{root}/flood/names{number}"
    if not turn and os.path.exists(place):
        return
    if not turn:
        os.mkdir(place)
        os.close(os.open(f"{place}/0", os.O_CREAT | os.O_WRONLY))
        for name in range(1, 10_000):
            os.link(f"{place}/0", f"{place}/{name}")
        return
    os.close(os.open(f"{place}/{turn % 10_000}", os.O_RDWR))
    with contextlib.suppress(OSError):
        os.link(f"{place}/{turn % 10_000}", f"{root}/quiet/mine")
    os.link(f"{place}/{turn % 10_000}", f"{place}/new")
    os.rename(f"{place}/new", f"{place}/newer")
    os.unlink(f"{place}/newer")


Flood = Callable[[str, int, int], None]
FLOODS: Final[dict[str, tuple[Flood, int]]] = {
    "storm": (storm, FLOODERS),
    "listing": (listing, 1),
    "sniffing": (sniffing, 4),
    "writing": (writing, 4),
    "deep": (deep, 4),
    "names": (names, 4),
}
"""What, and by how many processes at once."""


def _flood(channel, root: str, number: int, flood: Flood, apart: bool) -> int:
    if apart:
        os.setsid()
    flood(root, number, 0)
    channel.send("running")
    turn = 1
    while not channel.poll():
        flood(root, number, turn)
        turn += 1
    return turn


def flooding(mount: Mount, name: str) -> contextlib.AbstractContextManager[list[int]]:
    """While inside, every process of a flood runs: see flooded_by."""
    flood, processes = FLOODS[name]
    return flooded_by(mount, flood, processes)


@contextlib.contextmanager
def flooded_by(mount: Mount, flood: Flood, processes: int, *, apart: bool = False) -> Iterator[list[int]]:
    """While inside, that many flooders run; each ends by itself, and yields how often it went round. apart:
    each in a session of its own."""
    children: list[Child] = [
        start_as(FLOOD, _flood, str(mount.mountpoint), number, flood, apart) for number in range(processes)
    ]
    turns: list[int] = []
    try:
        for child in children:
            assert child.receive(120) == "running"
        yield turns
    finally:
        for child in children:
            with contextlib.suppress(BrokenPipeError):  # it has raised something, as its result does
                child.send("end")
        turns += [child.result(120) for child in children]


# ---------------------------------------------------------------- who waits


def _opens(channel, root: str) -> None:
    """At each message, that many opens; their times in ns come back.

    In a session of its own, as programs of another user are: where the kernel groups processes by sessions
    (sched_autogroup_enabled) it must not be weighed with those who flood.
    """
    os.setsid()
    paths = [f"{root}/quiet/file{number}" for number in range(16)]
    while count := channel.recv():
        times = []
        for number in range(count):
            before = time.perf_counter_ns()
            fd = os.open(paths[number % 16], os.O_RDONLY)
            times.append(time.perf_counter_ns() - before)
            os.close(fd)
            time.sleep(0.0005)  # quiet: one that opens a file now and then, and is not asked at once again
        channel.send(times)


def quantile(times: Sequence[int], share: float) -> float:
    """In µs."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] / 1000


@dataclass(frozen=True, slots=True)
class Waits:
    """Of one round: an open's median and 99th percentile in µs, alone and beside the flood."""

    p50_alone: float
    p99_alone: float
    p50_beside: float
    p99_beside: float

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles."""
        return self.p99_beside / self.p99_alone


def measure(mount: Mount, name: str, *, rounds: int, opens: int) -> list[Waits]:
    """Rounds of a quiet app's opens, alone and at once afterwards beside a flood."""
    quiet = start_as(QUIET, _opens, str(mount.mountpoint))
    found = []

    def ask() -> list[int]:
        quiet.send(opens)
        return quiet.receive(120)

    ask()
    for _ in range(rounds):
        alone = ask()
        with flooding(mount, name):
            beside = ask()
        found.append(
            Waits(quantile(alone, 0.5), quantile(alone, 0.99), quantile(beside, 0.5), quantile(beside, 0.99))
        )
    quiet.send(0)
    quiet.result(30)
    return found
