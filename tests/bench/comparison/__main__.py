"""Measure policyfs beside other file systems in one run: ``python -m tests.bench.comparison``. Needs root.

Every row is measured in rounds, in which all contenders take turns. Prints medians and ratios to the first
contender, and writes build/comparison.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.comparison import figures, goals, reference
from tests.bench.comparison.contenders import DEFAULT, Contender, Ground, Setting, make_store
from tests.bench.comparison.programs import SEARCHED, name_users
from tests.bench.comparison.row import Row, Work
from tests.bench.comparison.rows import build_loop, chosen, fill_store
from tests.bench.fairness import computing
from tests.bench.report import write_into
from tests.support.machine.namespace import clear_away, enter_private_namespace
from tests.support.machine.processes import tool_as

CHECKOUT: Final = Path(__file__).resolve().parents[3]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="comparison", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[], help="rows whose names contain one of these")
    parser.add_argument(
        "--mounts", nargs="+", default=list(DEFAULT), help="contenders; the first is the base"
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=DIR", help="a mount of --store")
    parser.add_argument("--store", type=Path, help="an empty directory that the peers are mounts of")
    parser.add_argument("--on", nargs="+", choices=["disk", "tmpfs"], default=["disk", "tmpfs"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement of a rate")
    parser.add_argument("--settle", type=float, default=65.0, help="seconds that files lie before the rounds")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside the rounds")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "build" / "comparison.json")
    parser.add_argument("--compare", type=Path, help="an earlier JSON: say what changed beyond the noise")
    parser.add_argument("--write", action="store_true", help="put the goals into docs/performance.md")
    found = parser.parse_args(words)
    if bool(found.peer) != bool(found.store):
        parser.error("--peer and --store go together")
    return found


@contextlib.contextmanager
def place(on: str, directory: Path, store: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield a directory on the disk or on a tmpfs of its own, and the name of the store's file system."""
    where = directory / on
    where.mkdir()
    if on == "tmpfs":
        tool_as(0, "mount", "-t", "tmpfs", "-o", "size=4g,mode=0711", "tmpfs", where, check=True)
    where.chmod(0o711)
    kind = tool_as(0, "stat", "-f", "-c", "%T", store or where, check=True).stdout.decode().strip()
    try:
        yield where, "ext4" if kind == "ext2/ext3" else kind
    finally:
        clear_away(where)
        if on == "tmpfs":
            tool_as(0, "umount", "-l", where)


def measure(asked: argparse.Namespace, where: Path, kind: str, ground: Ground) -> list[figures.Figures]:
    """Measure all chosen rows in one store."""
    rows = chosen(asked.rows)
    make_store(ground.store)
    archive, outside = fill_store(ground.store, {row.name for row in rows}, where)
    work = Work(build_loop(where), asked.seconds, archive, outside)
    found: list[figures.Figures] = []
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in (*asked.mounts, *ground.peers):
            if why := ground.missing(name):
                print(f"without {name}: {why}")
            else:
                contenders.append(stack.enter_context(ground.contender(name)))
        time.sleep(asked.settle)
        stack.enter_context(computing(asked.busy))
        for row in rows:
            if lacking := [name for name in row.programs if shutil.which(name, path=SEARCHED) is None]:
                print(f"without {row.name}: {', '.join(lacking)} not installed")
                continue
            found.append(in_rounds(row, work, contenders, kind, asked.rounds))
            print(found[-1].line(), flush=True)
    return found


def in_rounds(row: Row, work: Work, contenders: list[Contender], kind: str, rounds: int) -> figures.Figures:
    """Measure one row: in each round all contenders, one after the other."""
    found = figures.Figures(row.name, kind, row.unit)
    taking_part = [one for one in contenders if not (row.several and one.alone)]
    for turn in range(rounds):
        for contender in list(taking_part):
            counts = contender.mount.fuse_counters() if contender.mount and turn == rounds - 1 else None
            spent_us = contender.spent_us()
            try:
                measured = row.measure(work, contender)
            except AssertionError as error:  # a file system that cannot do this work
                print(f"{row.name}: without {contender.name}: {str(error)[-200:].strip()}")
                taking_part.remove(contender)
                found.rounds.pop(contender.name, None)
                continue
            found.add(contender.name, measured.value)
            if counts is not None and contender.mount is not None and measured.operations:
                spent_us = contender.spent_us() - spent_us
                found.processor_us[contender.name] = spent_us / measured.operations
                found.requests[contender.name] = {
                    opcode: (count - counts.get(opcode, 0)) / measured.operations
                    for opcode, count in contender.mount.fuse_counters().items()
                    if count != counts.get(opcode, 0)
                }
    return found


def main() -> int:
    """Command line of the comparison."""
    asked = arguments()
    if os.geteuid() != 0:
        print("comparison: needs root", file=sys.stderr)
        return 1
    peers = {name: Path(path) for name, _, path in (peer.partition("=") for peer in asked.peer)}
    for name in asked.mounts:
        if name not in DEFAULT:
            Setting.of(name)  # raises before anything is measured
    enter_private_namespace()
    directory = Path(tempfile.mkdtemp(prefix="policyfs-comparison-"))
    directory.chmod(0o711)
    found: list[figures.Figures] = []
    machine = f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(machine)
    try:
        name_users(directory)
        built = directory / "reference"
        built.mkdir()
        hp = reference.build(built) if "hp" in asked.mounts else None
        for on in ["store"] if asked.store else asked.on:
            with place(on, directory, asked.store) as (where, kind):
                ground = Ground(where, asked.store or where / "store", peers, hp)
                found += measure(asked, where, kind, ground)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        figures.save(asked.json, machine, found)
    print(figures.table(found))
    print(reached := goals.table(found))
    if asked.write:
        write_into(CHECKOUT / "docs" / "performance.md", "goals", f"Measured on {machine}.\n\n{reached}")
    if asked.compare:
        changed = [one for one in figures.differences(figures.load(asked.compare), found) if one.counts]
        print("\n".join(one.line() for one in changed) or "nothing changed beyond the noise")
    return 0


if __name__ == "__main__":
    sys.exit(main())
