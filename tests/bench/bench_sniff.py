"""What sniffing costs, with the real workers: ``python -m tests.bench.bench_sniff``. Needs root.

Prints one JSON object: times in microseconds (median and 99th percentile of a request's whole
round trip as the daemon's event loop sees it), requests per second with many at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from policyfs.content.kinds import SNIFF_BYTES
from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.worker import Detector
from tests.support.samples import media

LOCATION = frozenset({"location"})


def microseconds(seconds: list[float]) -> dict[str, float]:
    """The two figures of a series."""
    ordered = sorted(seconds)
    return {
        "median_us": round(statistics.median(ordered) * 1e6, 1),
        "p99_us": round(ordered[int(len(ordered) * 0.99)] * 1e6, 1),
        "count": len(ordered),
    }


async def series(function: Callable[[], Awaitable[object]], count: int) -> dict[str, float]:
    """Time one call after the other."""
    for _ in range(min(20, count)):
        await function()
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        await function()
        seconds.append(time.perf_counter() - begin)
    return microseconds(seconds)


async def flood(sniffer: Sniffer, fd: int, count: int) -> float:
    """Requests per second with `count` tasks asking at once."""
    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for lane in range(count):
            nursery.start_soon(partial(sniffer.kind_of_fd, fd, lane=lane))
    return round(count / (time.perf_counter() - begin))


async def after_a_death(sniffer: Sniffer, fd: int) -> None:
    """One request that first needs a new worker."""
    for pid in sniffer.stats().worker_pids:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            while os.readlink(f"/proc/{pid}/fd/3"):
                await trio.lowlevel.checkpoint()
    await sniffer.kind_of_fd(fd)


async def measure(sniffer: Sniffer, photos: dict[str, int], text: int) -> dict[str, object]:
    """Everything but the start."""
    four, eight, clean = photos["four"], photos["eight"], photos["clean"]
    head = os.pread(four, SNIFF_BYTES, 0)
    kind, plan = await sniffer.locate(eight, LOCATION)
    return {
        "kind_of_fd_photo_4mb": await series(lambda: sniffer.kind_of_fd(four), 2000),
        "kind_of_fd_text_64kib": await series(lambda: sniffer.kind_of_fd(text), 200),
        "kind_of_head_64kib": await series(lambda: sniffer.kind_of_head(head), 2000),
        "locate_photo_8mb_with_place": await series(lambda: sniffer.locate(eight, LOCATION), 100),
        "locate_photo_320x240_without_place": await series(lambda: sniffer.locate(clean, LOCATION), 300),
        "locate_answer": {"kind": kind, "outcome": plan.outcome.value, "patches": len(plan.patches)},
        "first_request_after_all_workers_died": await series(lambda: after_a_death(sniffer, four), 30),
        "kinds_per_second_500_at_once": await flood(sniffer, four, 500),
        "failed": dict(sniffer.stats().failed),
    }


def main() -> int:
    """Make the photos, measure, print."""
    with tempfile.TemporaryDirectory(prefix="policyfs-bench-") as name:
        directory = Path(name)
        media.picture(directory / "four.jpg", width=2592, height=1944, seed=5, noise=True)
        media.write_tags(directory / "four.jpg", media.place_tags(media.HOME))
        media.big_photo(directory / "eight.jpg")
        media.photo(directory / "clean.jpg", place=None)
        (directory / "text").write_bytes(b"The quick brown fox, 42 times.\n" * 3000)
        photos = {key: os.open(directory / f"{key}.jpg", os.O_RDONLY) for key in ("four", "eight", "clean")}
        text = os.open(directory / "text", os.O_RDONLY)
        begin = time.perf_counter()
        sniffer = Sniffer.start()
        started = time.perf_counter() - begin
        try:
            result = trio.run(measure, sniffer, photos, text)
        finally:
            sniffer.close()
        detector = Detector()
        head = os.pread(photos["four"], SNIFF_BYTES, 0)
        seconds = []
        for _ in range(500):
            begin = time.perf_counter()
            detector.kind(head)
            seconds.append(time.perf_counter() - begin)
        result["libmagic_alone_in_process"] = microseconds(seconds)
        result["start_ms"] = round(started * 1000, 1)
        result["photo_bytes"] = {key: os.fstat(fd).st_size for key, fd in photos.items()}
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
