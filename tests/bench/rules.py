"""Policies of 10, 1,000 and 10,000 rules: check, mount, reload, and what a reload costs opens beside it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.bench.big_policy import FIRST_UID, big_policy
from tests.bench.session import Session
from tests.bench.targets import Bench
from tests.support.machine.processes import start_as
from tests.support.mount.daemons import Mount

SIZES: Final = (10, 1_000, 10_000)
ROUNDS: Final = 5
HELP_GOAL: Final = "<= 150 ms"
GOALS: Final = {"check": "<= 3 s", "mount": "<= 4 s", "reload": "<= 4 s", "stall": "<= 100 ms"}


def command(*words: str | os.PathLike[str], environment: dict[str, str] | None = None) -> float:
    """Seconds of one policyfs command, with its interpreter."""
    line = [sys.executable, "-m", "policyfs.cli.main", *(os.fspath(word) for word in words)]
    start = time.perf_counter()
    subprocess.run(
        line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
        env=os.environ | (environment or {}),
    )  # fmt: skip
    return time.perf_counter() - start


def mounted(bench: Bench, policy: Path, where: Path) -> tuple[float, Mount]:
    """Seconds until a mount answers, started as a person starts it; and the mount."""
    mount = Mount(bench.store, where, policy, work=bench.work)
    mount.executed = True
    start = time.perf_counter()
    mount.start()
    return time.perf_counter() - start, mount


def opens(_channel: object, path: str, stop: str) -> list[float]:
    """Seconds of each open and close in a row, until a file named *stop* is there."""
    found = []
    while not os.path.exists(stop):
        start = time.perf_counter()
        os.close(os.open(path, os.O_RDONLY))
        found.append(time.perf_counter() - start)
    return found


def reloaded(bench: Bench, mount: Mount, policy: Path, rules: int, variant: int) -> tuple[float, ...]:
    """Seconds of one reload to another policy, of the longest open beside it, and of the longest without."""
    policy.write_bytes(big_policy(rules, variant=variant))
    longest = []
    took = 0.0
    for busy in (False, True):
        stop = bench.directory / "stop"
        stop.unlink(missing_ok=True)
        child = start_as(FIRST_UID, opens, str(mount.mountpoint / "open"), str(stop))
        time.sleep(0.3)
        if busy:
            start = time.perf_counter()
            command("reload", mount.mountpoint, environment=dict(mount.environment))
            took = time.perf_counter() - start
            time.sleep(0.7)  # what is left behind is freed
        else:
            time.sleep(1.0)
        stop.touch()
        longest.append(max(child.result()))
    return took, longest[1], longest[0]


def rules(session: Session, where: str, bench: Bench) -> None:
    """Every size, and the start of the command line."""
    helps = [command("--help") for _ in range(ROUNDS)]
    session.add("policyfs --help", where, "ms", {"policyfs": statistics.median(helps) * 1e3}, HELP_GOAL)
    (bench.store / "open").write_bytes(b"x" * 4096)
    (bench.store / "open").chmod(0o644)
    for size in SIZES:
        policy = bench.work / f"rules-{size}.yaml"
        goal = GOALS if size == SIZES[-1] else dict.fromkeys(GOALS, "")
        policy.write_bytes(big_policy(size))
        checks = [command("policy", "check", policy) for _ in range(ROUNDS)]
        mounts, figures = [], []
        for number in range(ROUNDS):
            directory = bench.directory / f"rules-{size}-{number}"
            directory.mkdir()
            policy.write_bytes(big_policy(size, variant=10 * number))
            seconds, mount = mounted(bench, policy, directory)
            mounts.append(seconds)
            figures.append(reloaded(bench, mount, policy, size, 10 * number + 1))
            for wrong in mount.stop():
                print(f"WRONG: {wrong}")
        took, beside, alone = (statistics.median(column) for column in zip(*figures, strict=True))
        check, mount_s = statistics.median(checks), statistics.median(mounts)
        add, of = session.add, f"{size:,} rules"
        add(f"policy check, {of}", where, "s", {"policyfs": check}, goal["check"])
        add(f"mount, {of}", where, "s", {"policyfs": mount_s}, goal["mount"])
        add(f"reload, {of}", where, "s", {"policyfs": took}, goal["reload"])
        add(f"longest open beside a reload, {of}", where, "ms", {"policyfs": beside * 1e3}, goal["stall"])
        add(f"longest open in one second without a reload, {of}", where, "ms", {"policyfs": alone * 1e3})
