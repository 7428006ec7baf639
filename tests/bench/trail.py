"""What the trail costs: opens of several apps with and without it, and the journal by itself."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from policyfs.domain import Audit
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from tests.bench import measures
from tests.bench.report import RATIO
from tests.bench.session import Session
from tests.bench.targets import Bench
from tests.support.mount.daemons import Mount
from tests.support.mount.trail import MOUNT_ID, ROOMY, an_event

APPS: Final = 8
"""Each has its own budget of trail, so that none waits for it."""
UIDS: Final = range(10060, 10060 + APPS)
EVENTS: Final = 100_000
LEVELS: Final = ("off", "best_effort", "required")


def _policy(level: str) -> str:
    apps = "".join(f"  app{number}: {{uid: {uid}}}\n" for number, uid in enumerate(UIDS))
    names = ", ".join(f"app{number}" for number in range(APPS))
    return (
        f"apiVersion: policyfs/v1\nkind: Policy\nmetadata: {{name: bench}}\napps:\n{apps}rules:\n"
        f'  - {{id: all, allow: [all], who: {{app: [{names}]}}, paths: "/***", audit: {level}}}\n'
    )


@contextlib.contextmanager
def _mounted(bench: Bench, level: str) -> Iterator[Mount]:
    where, policy = bench.directory / f"trail-{level}", bench.work / f"{level}.yaml"
    where.mkdir()
    policy.write_text(_policy(level), encoding="utf-8")
    # Without answers of the bridge: they would hide the cost of a record.
    mount = Mount(bench.store, where, policy, options=("--no-avc",), work=bench.work / level).start()
    try:
        yield mount
    finally:
        for wrong in mount.stop():
            print(f"WRONG: {wrong}")


def _opens(client: Path, mount: Mount) -> float:
    """Opens a second by all apps together, each a process."""
    path = str(mount / "file")
    with ThreadPoolExecutor(APPS) as pool:
        return sum(pool.map(lambda uid: measures.rate(client, uid, "open", path), UIDS))


def opens(session: Session, where: str, bench: Bench) -> None:
    """Open + close by eight apps in a shared mount, at each level of audit; they take turns."""
    (bench.store / "file").write_text("text\n")
    (bench.store / "file").chmod(0o644)
    with contextlib.ExitStack() as stack:
        mounts = {level: stack.enter_context(_mounted(bench, level)) for level in LEVELS}
        seen: dict[str, list[float]] = {level: [] for level in LEVELS}
        costs: dict[str, list[float]] = {level: [] for level in LEVELS}
        for _ in range(measures.REPEATS):
            for level, mount in mounts.items():
                before = _cpu_s(mount.pid)
                rate = _opens(session.client, mount)
                seen[level].append(rate)
                costs[level].append((_cpu_s(mount.pid) - before) * 1e6 / (rate * measures.CLIENT_SECONDS))
        lines = {level: len(mount.events(operation="open")) for level, mount in mounts.items()}
    for level in LEVELS:
        goal = ">= 5,000/s" if level == "required" else ""
        values = {"policyfs": statistics.median(seen[level])}
        if level != "off":
            pairs = zip(seen[level], seen["off"], strict=True)
            values[RATIO] = statistics.median(with_it / without for with_it, without in pairs)
            goal = goal or ">= 0.90 of off"
        session.add(f"open + close by {APPS} apps, audit: {level}", where, "1/s", values, goal)
        cost = {"policyfs": statistics.median(costs[level])}
        session.add(f"CPU time of the daemon for one, audit: {level}", where, "µs", cost)
    print(f"    lines of opens on the trails: {lines}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def journal(session: Session, where: str, bench: Bench) -> None:
    """The journal alone: best-effort events of several apps, with segments sealed and compressed."""
    rates, costs = [], []
    for turn in range(measures.REPEATS):
        rate, cost = _journal_rate(bench.work / f"journal-{turn}")
        rates.append(rate)
        costs.append(cost)
    values = {"policyfs": statistics.median(rates)}
    session.add("best-effort events by the journal alone", where, "1/s", values, ">= 50,000/s")
    session.add("CPU time for one of these", where, "µs", {"policyfs": statistics.median(costs)})


def _journal_rate(root: Path) -> tuple[float, float]:
    """Events a second, and microseconds of processor time for one: admitted, written, sealed at the end."""
    root.mkdir()
    place, keys = str(root / MOUNT_ID), KeyStore(root / "keys")
    apps = itertools.cycle(f"app{number}" for number in range(APPS))
    with contextlib.closing(
        Journal(place, MOUNT_ID, keep=0, keys=keys, limits=ROOMY)
    ) as journal:  # fmt: skip
        events = [an_event(b"/DCIM/%d.jpg" % number, app=next(apps)) for number in range(EVENTS)]
        start, begun = time.monotonic(), time.process_time()
        for number, event in enumerate(events):
            journal.admit(event, Audit.BEST_EFFORT)
            if number % 4000 == 3999:
                journal.flush()
        while journal.stats().queued:
            journal.flush()
        seconds, cpu = time.monotonic() - start, time.process_time() - begun
        assert journal.stats().dropped == 0
    return EVENTS / seconds, cpu * 1e6 / EVENTS


def trail(session: Session, where: str, bench: Bench) -> None:
    """All figures of the trail."""
    journal(session, where, bench)
    opens(session, where, bench)
