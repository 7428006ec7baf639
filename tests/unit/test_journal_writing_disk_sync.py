"""Syncs to the disk: now and then, without the lock, and a failed one is told."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.journal.files.segments import TrailDirectory
from policyfs.journal.writing.disk_sync import DiskSync
from policyfs.journal.writing.writer import ChainWriter
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, Clock, an_event, read_all


class Synced:
    """A writer with its syncs, and what these told."""

    def __init__(self, trail: Path) -> None:
        self.clock, self.lock = Clock(), threading.Lock()
        self.place = TrailDirectory(str(trail))
        self.writer = ChainWriter(self.place, MOUNT_ID, segment_bytes=1 << 20, keep=0, clock_ns=self.clock)
        self.failed: list[OSError] = []
        self.unsure: list[str] = []
        self.syncs = DiskSync(
            self.writer,
            self.lock,
            self.clock,
            SECOND_NS,
            failed=self.failed.append,
            unsure=self.unsure.append,
        )

    def due(self) -> bool:
        """True if this call has synced."""
        before, is_due = self.writer.unsynced, self.syncs.is_due
        self.syncs.sync_if_due()
        assert not self.lock.locked()
        synced = before and not self.writer.unsynced
        assert synced == is_due
        return synced


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    made = Synced(tmp_path / MOUNT_ID)
    yield made
    for fd in made.writer.close():
        os.close(fd)
    made.place.close()


def test_a_sync_is_due_once_in_a_while_and_only_if_something_was_written(synced: Synced) -> None:
    assert not synced.due()
    synced.clock.forward(0.999)
    assert not synced.due()
    synced.clock.forward(0.001)
    assert synced.due()
    synced.clock.forward(5)
    assert not synced.due()
    synced.writer.write([an_event()])
    assert synced.due()
    synced.writer.write([an_event()])
    assert not synced.due(), "the last one was just now"


def test_a_clock_that_goes_back_does_not_end_the_syncs(synced: Synced) -> None:
    synced.clock.forward(-3600)
    assert synced.due()


def test_after_the_end_nothing_is_synced(synced: Synced) -> None:
    synced.clock.forward(5)
    synced.syncs.closed = True
    assert not synced.due()


def test_descriptors_are_closed_whether_they_could_be_synced_or_not(synced: Synced, tmp_path: Path) -> None:
    file, pipe = os.open(tmp_path, os.O_RDONLY), os.pipe()
    synced.syncs.sync([file, pipe[0], pipe[1]], synced.writer.seq)
    for fd in (file, *pipe):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_failed_sync_is_told_and_begins_a_new_segment(synced: Synced, tmp_path: Path) -> None:
    segment = synced.writer.segment
    read, write = os.pipe()  # a pipe cannot be synced
    file = os.open(tmp_path, os.O_RDONLY)
    synced.syncs.sync([read, file], synced.writer.seq)
    os.close(write)
    assert synced.unsure == [f"fsync: {os.strerror(errno.EINVAL)}"]
    assert synced.failed == []
    synced.writer.write([an_event()])
    assert synced.writer.segment != segment
    gap = next(record for record in read_all(tmp_path / MOUNT_ID) if record.kind == "gap")
    assert gap.fields["reason"] == synced.unsure[0]


@pytest.mark.parametrize("fails", ["fsync", "close", "both"])
def test_a_close_that_reports_an_error_makes_the_lines_unsure(
    synced: Synced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A network store reports a failed write there. The lines counted as synced after such an error."""
    close, fsync = os.close, os.fsync

    def failing(call):
        def run(fd: int) -> None:
            call(fd)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        return run

    file, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    with monkeypatch.context() as full:
        if fails != "close":
            full.setattr(os, "fsync", failing(fsync))
        if fails != "fsync":
            full.setattr(os, "close", failing(close))
        synced.syncs.sync([file, other], synced.writer.seq)
    assert synced.unsure == ["fsync: Disk quota exceeded"]
    for fd in (file, other):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    stranger = os.open(tmp_path, os.O_RDONLY)
    synced.writer.write([an_event()])
    assert synced.due() or synced.writer.unsynced
    os.close(stranger)  # still open: the writer has not closed this number a second time
    gaps = [record for record in read_all(tmp_path / MOUNT_ID) if record.kind == "gap"]
    assert [gap.fields["reason"] for gap in gaps] == synced.unsure


def test_an_error_before_the_sync_is_told_with_the_lock_held(synced: Synced) -> None:
    synced.clock.forward(5)
    held: list[bool] = []
    synced.syncs = DiskSync(
        synced.writer, synced.lock, synced.clock, 0,
        failed=lambda _error: held.append(synced.lock.locked()),
        unsure=synced.unsure.append,
    )  # fmt: skip
    with no_more_descriptors():
        synced.syncs.sync_if_due()
    assert held == [True]
    assert synced.writer.unsynced
    assert not synced.lock.locked()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
