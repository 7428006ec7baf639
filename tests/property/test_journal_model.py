"""The journal against a model: random events, floods, full disks, rotations, crashes.

Whatever happens, at any moment: a copy of the directory (what a crash would leave) can be gone
on with and is whole, every required event whose record() returned is in it once and in order, but
denials that were counted, and no refused one is. In the end every event is told, counted or in a gap.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.writing.accounts import Limits
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.kernel.bridge import Appender
from policyfs.trail.lines.bounds import cut_path
from policyfs.trail.lines.event import Event
from tests.support.machine.counts import count
from tests.support.machine.namespace import detach
from tests.support.mount.trail import (
    MOUNT_ID,
    ROOMY,
    START_NS,
    Clock,
    a_denial,
    an_event,
    read_all,
    segments,
    verified,
)

pytestmark = pytest.mark.mount

MS_REMOUNT = 32
WAIT_S = 20.0

_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def disk(arena: Path) -> Iterator[Path]:
    """A file system of 160 KiB: full every few hundred events."""
    place = arena / "disk"
    place.mkdir()
    result = _libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=163840,mode=0700")
    assert result == 0, os.strerror(ctypes.get_errno())
    yield place
    detach(str(place))


class Scenario:
    """One random life of a trail, and what must be on it."""

    def __init__(self, seed: int, disk: Path, images: Path) -> None:
        self.random = random.Random(seed)
        self.disk = disk
        self.images = images
        self.clock = Clock()
        self.number = self.steps = 0
        self.required: list[bytes] = []
        self.refused: set[bytes] = set()
        self.queued: set[bytes] = set()
        self.uncounted = False
        self.counted = 0
        self.journal = self.open()

    def open(self) -> Journal:
        return Journal(
            str(self.disk / MOUNT_ID),
            MOUNT_ID,
            keep=0,
            segment_bytes=self.random.choice([1, 3000, 20_000]),
            queue=self.random.choice([5, 300]),
            queue_bytes=self.random.choice([20_000, 1 << 20]),
            limits=self.random.choice([Limits(5000, 20_000), Limits(), ROOMY]),
            clock_ns=self.clock,
            steady_ns=lambda: START_NS + self.steps * 10_000_000,
            appender=self.random.choice([None, Appender()]),
        )

    def name(self) -> bytes:
        self.number += 1
        return cut_path(b"/%d/%b" % (self.number, b"x" * self.random.choice([0, 10, 3000])))[0]

    def step(self) -> None:
        self.steps += 1
        action = self.random.choice(
            ["required"] * 6
            + ["burst"] * 3
            + ["flush"] * 4
            + ["later"] * 3
            + ["fill", "free", "free"]
            + ["again", "image"]
        )
        getattr(self, f"do_{action}")()

    def do_required(self) -> None:
        path = self.name()
        make = self.random.choice([an_event, a_denial])
        folded = self.journal.stats().folded
        try:
            self.put(make(path, time_ns=self.clock.now_ns))
        except JournalError:
            self.refused.add(path)
        else:
            if self.journal.stats().folded == folded:
                self.required.append(path)
            else:
                assert make is a_denial, "what gave access is told"
                self.counted += 1

    def put(self, event: Event) -> None:
        """Record a required event, as a thread does or as the event loop does."""
        if self.random.random() < 0.5:
            self.journal.record(event, Audit.REQUIRED)
        elif (ticket := self.journal.admit(event, Audit.REQUIRED)) is not None:
            assert self.journal.at_once([ticket]).wait(WAIT_S)
            ticket.check()

    def do_burst(self) -> None:
        for _ in range(self.random.choice([1, 150])):
            path = self.name()
            self.queued.add(path)
            self.journal.record(an_event(path, time_ns=self.clock.now_ns), Audit.BEST_EFFORT)

    def do_flush(self) -> None:
        for _ in self.journal.flush_steps():
            if self.random.random() < 0.2:
                break
        self.journal.flush()

    def do_later(self) -> None:
        self.clock.forward(self.random.choice([-1, 0.3, 1.2]))

    def do_fill(self) -> None:
        stat = os.statvfs(self.disk)
        room = self.random.choice([0, 4096, 8192])
        with (self.disk / "ballast").open("ab") as ballast:
            ballast.write(bytes(max(0, stat.f_bavail * stat.f_frsize - room)))

    def do_free(self) -> None:
        (self.disk / "ballast").unlink(missing_ok=True)

    def do_again(self) -> None:
        self.do_free()
        self.make_room(65536)
        self.journal.close()
        if self.journal.stats().queued:  # no room even to count them
            self.uncounted = True
        self.make_room(1 << 17)
        self.journal = self.open()

    def make_room(self, size: int) -> None:
        """A disk so much bigger."""
        stat = os.statvfs(self.disk)
        options = f"size={stat.f_blocks * stat.f_frsize + size}".encode()
        assert _libc.mount(b"tmpfs", os.fsencode(self.disk), b"tmpfs", MS_REMOUNT, options) == 0

    def do_image(self) -> None:
        """What a crash leaves now, its last line perhaps cut; it must be fit to go on with."""
        image = self.images / str(self.number)
        shutil.copytree(self.disk / MOUNT_ID, image / MOUNT_ID)
        newest = segments(image / MOUNT_ID)[-1]
        self.check(image / MOUNT_ID)
        if self.random.random() < 0.5:
            with newest.open("ab") as stream:
                stream.write(b'{"type":"event","seq":1'[: self.random.randint(1, 23)])
        Journal(str(image / MOUNT_ID), MOUNT_ID, keep=0).close()
        self.check(image / MOUNT_ID)
        shutil.rmtree(image)

    def check(self, directory: Path) -> None:
        report = verified(directory)
        assert report.whole, report.breaks
        found = [event.path for record in read_all(directory) if (event := record.event) and not event.folded]
        assert len(found) == len(set(found))
        assert [path for path in found if path not in self.queued] == self.required

    def end(self) -> None:
        self.do_free()
        self.make_room(1 << 22)
        self.journal.close()
        stats = self.journal.stats()
        assert (stats.queued, stats.failing) == (0, False), stats
        self.check(self.disk / MOUNT_ID)
        self.check_gaps()

    def check_gaps(self) -> None:
        """Every event is on record, or counted as dropped, or refused."""
        records = read_all(self.disk / MOUNT_ID)
        gaps = [record.fields for record in records if record.kind == "gap"]
        recorded = sum(record.event.weight for record in records if record.event)
        dropped = sum(int(str(gap["dropped"])) for gap in gaps)
        refused = sum(int(str(gap["refused"])) for gap in gaps)
        if self.uncounted:
            assert recorded + dropped <= len(self.required) + len(self.queued) + self.counted
            assert refused <= len(self.refused)
        else:
            assert recorded + dropped == len(self.required) + len(self.queued) + self.counted
            assert refused == len(self.refused)


@pytest.mark.parametrize("seed", range(count(12, 300)))
def test_nothing_required_is_ever_missing(seed: int, disk: Path, arena: Path) -> None:
    scenario = Scenario(seed, disk, arena / "images")
    for _ in range(120):
        scenario.step()
    scenario.end()
