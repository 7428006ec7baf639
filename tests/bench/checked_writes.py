"""Small writes under `content`, beside the same writes in the same mount without it.

`python -m tests.bench.checked_writes [ROUNDS]` prints medians in milliseconds. "free" is a directory without
content requirement, which is in passthrough; "mediated" is the same in a mount with --no-passthrough. LMDB is
measured if Python's `lmdb` is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.machine.namespace import enter_private_namespace
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts

UID: Final = 10050
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{writer: {{uid: {UID}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: writer}}, paths: "/***"}}
  - {{id: kind, require: {{content: ["application/*", "text/*"]}}, paths: "/checked/**"}}
"""
LINE: Final = b"12:00:00 a line of words that a program appends to its log\n"
COUNT: Final = 60


def of_sqlite(journal: str, directory: Path) -> Iterator[None]:
    path = directory / "base.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute(f"PRAGMA journal_mode={journal}")
        base.execute("CREATE TABLE words (number, word)")
        for number in range(COUNT):
            yield
            base.execute("INSERT INTO words VALUES (?, 'some words')", (number,))
    yield


def of_lmdb(directory: Path) -> Iterator[None]:
    base: Any = importlib.import_module("lmdb").open(str(directory), map_size=16 << 20)
    for number in range(COUNT):
        yield
        with base.begin(write=True) as transaction:
            transaction.put(b"%d" % number, LINE)
    yield
    base.close()


def of_lines(directory: Path, *, opens: bool = False, syncs: bool = False) -> Iterator[None]:
    log = (directory / "log").open("ab", buffering=0)
    for _ in range(COUNT * 10):
        yield
        if opens:
            log.close()
            log = (directory / "log").open("ab", buffering=0)
        log.write(LINE)
        if syncs:
            os.fsync(log.fileno())
    yield
    log.close()


WORK: Final[dict[str, Callable[[Path], Iterator[None]]]] = {
    "a transaction of LMDB": of_lmdb,
    "a transaction of SQLite, journal_mode=DELETE": partial(of_sqlite, "DELETE"),
    "a transaction of SQLite, journal_mode=WAL": partial(of_sqlite, "WAL"),
    "a line, appended through one descriptor": of_lines,
    "a line, each with fsync": partial(of_lines, syncs=True),
    "a line, each with open and close": partial(of_lines, opens=True),
}


def mean_ms(work: Callable[[Path], Iterator[None]], directory: Path) -> float:
    """Return the mean time of one step in a new directory."""
    directory.mkdir()
    steps = work(directory)
    next(steps)
    begin, number = time.perf_counter(), sum(1 for _ in steps)
    return (time.perf_counter() - begin) * 1000 / number


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    enter_private_namespace()
    with tempfile.TemporaryDirectory(prefix="policyfs-bench-") as name:
        arena = Path(name)
        arena.chmod(0o755)
        (store := arena / "store").mkdir(mode=0o700)
        for below in ("free", "checked"):
            (store / below).mkdir()
            os.chown(store / below, UID, UID)
        mounts = Mounts(arena)
        with contextlib.suppress(ImportError):  # here: a child of another uid cannot import it
            importlib.import_module("lmdb.cpython")
        try:
            app = mounts.start(POLICY, store, "--app", "writer")
            mediated = mounts.start(POLICY, store, "--app", "writer", "--no-passthrough")
            places = {"free": app / "free", "mediated": mediated / "free", "checked": app / "checked"}
            print("| work (ms) | " + " | ".join(places) + " | checked / free | checked / mediated |")
            for number, (what, work) in enumerate(WORK.items()):
                if work is of_lmdb and "lmdb" not in sys.modules:
                    continue
                times: dict[str, list[float]] = {place: [] for place in places}
                for turn in range(rounds):
                    for place, directory in places.items():
                        new = directory / f"{place}-{number}-{turn}"
                        times[place].append(call_as(UID, mean_ms, work, new, deadline_s=300))
                free, other, checked = (statistics.median(found) for found in times.values())
                ratios = f"{checked / free:.1f} | {checked / other:.1f}"
                print(f"| {what} | {free:.2f} | {other:.2f} | {checked:.2f} | {ratios} |", flush=True)
        finally:
            for wrong in mounts.stop_all():
                print("WRONG:", wrong)


if __name__ == "__main__":
    main()
