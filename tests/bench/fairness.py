"""Figures of one app beside others: its creates and moves beside an app that makes the daemon wait under
locks of the kernel, and its creates on a machine whose processors are busy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from tests.bench import measures
from tests.bench.report import RATIO
from tests.bench.session import Session
from tests.bench.targets import UID, Bench, Target
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.programs import kernel_locks
from tests.support.samples import media

SECONDS: Final = 10.0
NAMES: Final = 20_000
PHOTOS: Final = 4_000
BUSY: Final = 8
CREATES_S: Final = 2.0


def locks(session: Session, where: str, bench: Bench) -> None:
    """The 99th percentile of an app's creates and moves, beside each way to make the daemon wait."""
    place = bench.directory / "tags.jpg"
    media.picture(place, width=200, height=150)
    media.write_tags(place, media.place_tags(media.HOME))
    bench.store.chmod(0o700)
    kernel_locks.furnish(bench.store, place.read_bytes(), names=NAMES, gone=PHOTOS, photos=PHOTOS)
    policy, mountpoint = bench.work / "locks.yaml", bench.directory / "locks"
    policy.write_text(kernel_locks.POLICY, encoding="utf-8")
    mountpoint.mkdir()
    for name in kernel_locks.TRIES:
        mount = Mount(bench.store, mountpoint, policy, work=bench.work)
        mount.wrapper = ("setsid",)  # a session of its own, as a service has
        mount.start()
        try:
            waits = kernel_locks.measure(mount, name, SECONDS)
        finally:
            mount.stop()
        print(f"    {waits}")
        for what, p99 in (("creates", waits.create_p99), ("moves", waits.move_p99)):
            session.add(f"p99 of {what} beside {name}", where, "ms", {"policyfs": p99}, "<= 20 ms")


def _creates(directory: str) -> float:
    """Files a second that one process makes, closes and removes."""
    os.setsid()
    begin, count = time.monotonic(), 0
    while time.monotonic() < begin + CREATES_S:
        os.close(os.open(f"{directory}/made-{os.getpid()}", os.O_CREAT | os.O_WRONLY))
        os.unlink(f"{directory}/made-{os.getpid()}")
        count += 1
    return count / CREATES_S


def _compute(channel) -> None:
    os.setsid()
    channel.send("computing")
    while not channel.poll():
        for _ in range(100_000):
            pass


@contextlib.contextmanager
def computing(processes: int) -> Iterator[None]:
    """While inside, processes compute, each in a session of its own."""
    children = [start_as(UID, _compute) for _ in range(processes)]
    try:
        for child in children:
            assert child.receive() == "computing"
        yield
    finally:
        for child in children:
            child.send("end")
        for child in children:
            child.result(60)


@contextlib.contextmanager
def _mergerfs(bench: Bench) -> Iterator[Target]:
    where = bench.directory / "mergerfs"
    where.mkdir()
    options = "allow_other,cache.files=partial"
    subprocess.run(["mergerfs", "-o", options, str(bench.store), str(where)], check=True, timeout=30)
    wait_for(lambda: mounts_below(where), "mergerfs is mounted")
    try:
        yield Target("mergerfs", where)
    finally:
        subprocess.run(["umount", str(where)], check=False, timeout=30)


def busy(session: Session, where: str, bench: Bench) -> None:
    """Creates a second through mergerfs and policyfs, alone and beside processes that compute."""
    with _mergerfs(bench) as mergerfs, bench.policyfs(leads=True) as policyfs:
        ratios = {}
        for processes in (0, BUSY):
            with computing(processes):
                values = measures.medians(
                    [mergerfs, policyfs], lambda target: call_as(UID, partial(_creates, str(target.path)))
                )
            ratios[processes] = values[RATIO]
            what = f"create + unlink beside {processes} busy processes (ratio: to mergerfs)"
            session.add(what, where, "1/s", values)
        lost = {"policyfs": ratios[0] / ratios[BUSY]}
        session.add(f"the ratio alone to the ratio beside {BUSY}", where, "", lost, "<= 2")
