"""A6: workers killed, stopped and out of memory while photos are opened: late, refused, never raw."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.attack.parsers_broken import marked
from tests.attack.test_parsers import GALLERY, OTHER, POLICY
from tests.support.machine.counts import count
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

OPENS: Final = count(60, 1000)
SECONDS: Final = count(240, 1800)
HUNGRY_EVERY: Final = 40
"""Every so manyth photo makes the parser eat all the memory that it may have."""
LATE_S: Final = 20.0
"""An open waits for a free worker for two deadlines of 5 s, and one more for an answer."""
STOPPED: Final = 6
"""So many workers are stopped, and hang: each costs a deadline."""


def photo(number: int) -> bytes:
    """A photo with a place, and other bytes than any other."""
    words = b"eat memory" if number % HUNGRY_EVERY == HUNGRY_EVERY // 2 else b""
    comment = marked(words) if words else f"photo {number}".encode()
    return jpegs.with_segments(
        jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()), jpegs.segment(jpegs.COM, comment)
    )


assert jpegs.leaks(photo(0))  # and what tells has loaded all that it needs


def _reader(channel, directory: Path, first: int) -> list[tuple[int, str, float]]:
    """Opens and reads every second photo: its number, what came of it, and how long it took (s)."""
    channel.send("begin")
    found = []
    for number in range(first, OPENS, 2):
        start = time.monotonic()
        try:
            said = "raw" if jpegs.leaks((directory / f"{number}.jpg").read_bytes()) else "redacted"
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        found.append((number, said, time.monotonic() - start))
    return found


def _tormentor(mount: Mount, over: threading.Event, done: list[str]) -> None:
    """Kills workers, and stops some, until it is over."""
    chance = random.Random(1)
    while not over.wait(0.05):
        pids = mount.status()["sniffer"]["worker_pids"]
        if not pids:
            continue
        stops = done.count("stop") < min(STOPPED, 1 + len(done) // 20)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGSTOP if stops else signal.SIGKILL)
            done.append("stop" if stops else "kill")


def _on_record(mount: Mount) -> Counter[str]:
    """Lost workers by cause, as the trail has them."""
    lost: Counter[str] = Counter()
    for record in mount.events(type="worker"):
        lost.update(record["lost"])
    return lost


def _counted(mount: Mount) -> Counter[str]:
    """Lost workers by cause, as the daemon counts them."""
    sniffer = mount.status()["sniffer"]
    failed = {why: sniffer["failed"].get(why, 0) for why in ("deadline", "died", "lied")}
    return +Counter(failed | {"replaced": sniffer["repeated"]})


@pytest.mark.timeout(SECONDS)
def test_opens_end_in_time_and_show_nothing_whatever_becomes_of_workers(without, empty_store: Path) -> None:
    for number in range(OPENS):
        (empty_store / f"{number}.jpg").write_bytes(photo(number))
    mount = without("broken-parser", POLICY, empty_store)
    over, done = threading.Event(), []
    tormentor = threading.Thread(target=_tormentor, args=(mount, over, done))
    readers = [start_as(uid, _reader, mount.mountpoint, first) for first, uid in enumerate((GALLERY, OTHER))]
    for reader in readers:
        reader.receive()
    tormentor.start()
    try:
        found = [one for reader in readers for one in reader.result(SECONDS - 40)]
    finally:
        over.set()
        tormentor.join()
    said = [what for _, what, _ in found]
    assert len(found) == OPENS
    assert set(said) <= {"redacted", "EACCES"}, set(said)
    assert max(took for _, _, took in found) < LATE_S
    hungry = [what for number, what, _ in found if number % HUNGRY_EVERY == HUNGRY_EVERY // 2]
    assert set(hungry) == {"EACCES"}
    assert said.count("redacted") > OPENS * 0.8, "a worker that dies is no reason to refuse a photo"
    assert "kill" in done
    assert "stop" in done
    assert mount.status()["bugs"] == 0
    wait_for(lambda: mount.status()["sniffer"]["in_flight"] == 0, "no worker is asked anything")
    wait_for(lambda: _on_record(mount) == _counted(mount), "each lost worker is on record")
