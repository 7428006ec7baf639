"""Figures of first looks: beside processes that compute, and at all photos of a library."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
from pathlib import Path
from typing import Final

from tests.bench.fairness import computing
from tests.bench.report import RATIO
from tests.bench.session import Session
from tests.bench.targets import GALLERY, Bench, Target
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.samples import media

BUSY: Final = 25
OPENED: Final = 50
PHOTOS: Final = 1_000
_TICK_MS: Final = 1_000 / os.sysconf("SC_CLK_TCK")
_READ_BYTES: Final = 1 << 17
_DEADLINE_S: Final = 600
"""For a library on a busy machine."""


def looks(session: Session, where: str, bench: Bench) -> None:
    """All figures of one store."""
    photos = bench.store / "photos"
    photos.mkdir(mode=0o755)
    _beside_others(session, where, bench, photos)
    _library(session, where, bench, photos)


def _furnish(photos: Path, name: str, count: int, width: int) -> Path:
    directory = photos / name
    directory.mkdir(mode=0o755)
    first = directory / "0.jpg"
    media.picture(first, width=width, height=width * 3 // 4, noise=True)
    media.write_tags(first, media.place_tags(media.HOME))
    first.chmod(0o644)
    data = first.read_bytes()
    for number in range(1, count):
        (directory / f"{number}.jpg").write_bytes(data + b"%d" % number)
        (directory / f"{number}.jpg").chmod(0o644)
    return directory


def _opens_ms(directory: str) -> list[float]:
    """Times of open + read of one byte, of each file of a directory, from a session of its own."""
    os.setsid()
    times = []
    for name in sorted(os.listdir(directory)):
        begin = time.perf_counter()
        fd = os.open(f"{directory}/{name}", os.O_RDONLY)
        os.read(fd, 1)
        times.append(1e3 * (time.perf_counter() - begin))
        os.close(fd)
    return times


def _beside_others(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """The median of first opens of photos of 4 MB, alone and beside processes that compute."""
    for processes in (0, BUSY):
        directory = _furnish(photos, f"beside-{processes}", OPENED, 2600)
        with bench.policyfs("gallery", leads=True) as app, computing(processes):
            times = call_as(GALLERY, _opens_ms, str(app.path / "photos" / directory.name))
        what = f"first open of a 4 MB photo beside {processes} busy processes"
        session.add(what, where, "ms", {"policyfs": statistics.median(times)})
        shutil.rmtree(directory)


def _read_all(directory: str) -> tuple[float, float]:
    """Read each file of a directory to its end. Return ms of wall time, and of this process's processors."""
    begin, buffer = time.perf_counter(), bytearray(_READ_BYTES)
    for name in sorted(os.listdir(directory)):
        fd = os.open(f"{directory}/{name}", os.O_RDONLY)
        while os.readv(fd, [buffer]):
            pass
        os.close(fd)
    wall = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_SELF)
    return 1e3 * wall, 1e3 * (used.ru_utime + used.ru_stime)


def _spent_ms(mount: Mount | None) -> float:
    """Processor time of the daemon and its workers so far, in ms."""
    if mount is None:
        return 0.0
    sniffer = mount.status()["sniffer"]
    spent = 0.0
    for pid in (mount.pid, sniffer["zygote_pid"], *sniffer["worker_pids"]):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        spent += sum(map(int, fields[11:15])) * _TICK_MS  # with children that have ended
    return spent


def _library(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """A library of photos of 4 MB read once, natively and through an app mount that has never seen them."""
    directory = _furnish(photos, "library", PHOTOS, 2600)
    time.sleep(1)  # older than what may change once more within one tick
    megabytes = (directory / "0.jpg").stat().st_size / 1e6
    for cold in (False, True):
        took, used = {}, {}
        for name in ("native", "policyfs"):
            _fetch(directory, cold=cold)
            with bench.policyfs("gallery", leads=True) as app:
                target = app if name == "policyfs" else Target("native", bench.store)
                before = _spent_ms(target.mount)
                place = str(target.path / "photos/library")
                took[name], own = call_as(GALLERY, _read_all, place, deadline_s=_DEADLINE_S)
                used[name] = own + _spent_ms(target.mount) - before
            for path in directory.iterdir():
                os.utime(path)  # seen by nobody
            time.sleep(1)
        found, goal = (took, "1.3 x + 5") if cold else (used, "2 x + 3")
        kind = "wall time, cold" if cold else "processor time, warm"
        each = {name: value / PHOTOS for name, value in found.items()}
        each[RATIO] = found["policyfs"] / found["native"]
        what = f"each of {PHOTOS:,} photos of {megabytes:.1f} MB, read once: {kind}"
        session.add(what, where, "ms", each, goal)
    shutil.rmtree(directory)


def _fetch(directory: Path, *, cold: bool) -> None:
    """Make the kernel keep all pages of the files of a directory, or (cold) none."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                file.read()
