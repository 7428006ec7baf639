"""What the first open of a redacted file adds: ``python -m tests.bench.bench_first``. Needs root.

A raw mount and a redacted mount of one store take turns at each file, which is new to both daemons. On a
machine with other work the minimum and the processor time mean more than the median. Second opens and whole
reads follow, three of each.
"""

from __future__ import annotations

import argparse
import mmap
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench import measures
from tests.bench.targets import GALLERY, UID, Bench, Target
from tests.support.machine.namespace import enter_private_namespace

HERE: Final = Path(__file__).parent
SETTLED_S: Final = 1.0
TOUCHED_BYTES: Final = 1 << 30
WHOLE: Final = 1 << 40


class Cost(NamedTuple):
    """Processor time of a mount's processes, in ms: the daemon's threads, and the living workers."""

    daemon: float
    workers: float


def touch_memory() -> None:
    """Use and free some memory: a virtual machine's host has to find pages that were not used for a while."""
    with mmap.mmap(-1, TOUCHED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for at in range(0, TOUCHED_BYTES, mmap.PAGESIZE):
            memory[at] = 1


def on_cpu_ms(pid: int) -> float:
    """Processor time of all threads of a process (proc_schedstat: nanoseconds), in ms; 0 if it has gone."""
    found = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            found += int(task.read_text(encoding="ascii").split()[0])
        except (OSError, IndexError):
            continue
    return found / 1e6


def cost(target: Target) -> Cost:
    """Processor time so far."""
    assert target.mount is not None
    pids = target.mount.status()["sniffer"]["worker_pids"]
    return Cost(on_cpu_ms(target.mount.pid), sum(map(on_cpu_ms, pids)))


def spent(before: Cost, after: Cost) -> Cost:
    """Processor time between two moments."""
    return Cost(after.daemon - before.daemon, after.workers - before.workers)


def turns(program: Path, size: int, targets: list[tuple[Path, int]]) -> list[tuple[float, ...]]:
    """Milliseconds of open + read of `size` bytes + close, a row for each file, a column for each target."""
    words = [word for path, uid in targets for word in (str(path), str(uid))]
    done = subprocess.run([program, str(size), *words], check=True, stdout=subprocess.PIPE, timeout=300)
    return [tuple(int(word) / 1e6 for word in line.split()) for line in done.stdout.splitlines()]


def line(what: str, values: list[float]) -> None:
    """Print minimum, quarter and median of a series, in ms."""
    ordered = sorted(values)
    quarter = ordered[len(ordered) // 4]
    middle = statistics.median(ordered)
    print(f"  {what:<44} min {ordered[0]:7.3f}  quarter {quarter:7.3f}  median {middle:7.3f}")


class Series:
    """All rounds with one sample file."""

    def __init__(self, bench: Bench, program: Path, sample: Path) -> None:
        self._bench = bench
        self._program = program
        self._sample = sample
        self.firsts: list[tuple[float, ...]] = []
        self.seconds: list[tuple[float, ...]] = []
        self.wholes: list[tuple[float, ...]] = []
        self.costs: list[tuple[Cost, ...]] = []

    def run(self, rounds: int, count: int, *, whole: bool) -> None:
        """Measure so many rounds of so many files."""
        with self._bench.policyfs("bench") as raw, self._bench.policyfs("gallery") as redacted:
            for number in range(rounds):
                name = f"{self._sample.stem}-{number}"
                self._round(raw, redacted, name, count, whole=whole)

    def _round(self, raw: Target, redacted: Target, name: str, count: int, *, whole: bool) -> None:
        directory = self._bench.store / "photos" / name
        directory.mkdir(mode=0o755)
        for number in range(count):
            path = directory / f"{number}{self._sample.suffix}"
            subprocess.run(["cp", "--sparse=always", self._sample, path], check=True)
            path.chmod(0o644)
        time.sleep(SETTLED_S)
        touch_memory()
        both = [(raw.path / "photos" / name, UID), (redacted.path / "photos" / name, GALLERY)]
        before = cost(raw), cost(redacted)
        self.firsts += turns(self._program, 1, both)
        after = cost(raw), cost(redacted)
        self.costs.append(tuple(map(spent, before, after)))
        for _ in range(3):
            self.seconds += turns(self._program, 0, both)
        if whole:
            for _ in range(3):
                self.wholes += turns(self._program, WHOLE, [(directory, UID), both[1]])
        shutil.rmtree(directory)

    def show(self, count: int) -> None:
        """Print all figures."""
        print(f"{self._sample.name}, {self._sample.stat().st_size / 1e6:.1f} MB, {len(self.firsts)} files")
        line("first open, raw", [row[0] for row in self.firsts])
        line("first open, redacted", [row[1] for row in self.firsts])
        line("first open adds", [row[1] - row[0] for row in self.firsts])
        for place, what in enumerate(("raw", "redacted")):
            for part in Cost._fields:
                line(f"processor, {what}, {part}", [getattr(row[place], part) / count for row in self.costs])
        line("second open, raw", [row[0] for row in self.seconds])
        line("second open, redacted", [row[1] for row in self.seconds])
        line("second open, ratio", [row[1] / row[0] for row in self.seconds])
        if self.wholes:
            line("open + read + close, native", [row[0] for row in self.wholes])
            line("open + read + close, redacted", [row[1] for row in self.wholes])
            line("open + read + close, ratio", [row[1] / row[0] for row in self.wholes])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench_first", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=20, help="photos of each round")
    parser.add_argument("--films", type=int, default=8, help="films of each round")
    parser.add_argument("--photo", type=Path, help="the photo to measure")
    parser.add_argument("--film", type=Path, help="the film to measure")
    parser.add_argument("--on", type=Path, help="directory of the store")
    arguments = parser.parse_args()
    if arguments.photo is None and arguments.film is None:
        parser.error("nothing to measure: name a photo (--photo), a film (--film), or both")
    enter_private_namespace()
    directory = Path(tempfile.mkdtemp(prefix="policyfs-bench-", dir=arguments.on))
    directory.chmod(0o711)
    try:
        program = measures.build_client(directory, HERE / "turns.c")
        place = directory / "place"
        place.mkdir(mode=0o711)
        with Bench(place) as bench:
            (bench.store / "photos").mkdir(mode=0o755)
            samples = ((arguments.photo, arguments.photos), (arguments.film, arguments.films))
            for sample, count in samples:
                if sample is None or not count:
                    continue
                series = Series(bench, program, sample)
                series.run(arguments.rounds, count, whole=count == arguments.photos)
                series.show(count)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
