"""Records about the mount itself wait for no disk, and come before each event that is admitted later."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import kept_digests, policy_text, read_pointer
from policyfs.journal.writing.segment import Segment
from tests.support.mount.trail import (
    MOUNT_ID,
    SECOND_NS,
    START_NS,
    Clock,
    a_journal,
    an_event,
    kinds,
    read_all,
    verified,
)

DIGESTS = ("ab" * 32, "cd" * 32)


def test_they_wait_for_no_write_under_way(tmp_path: Path, monkeypatch) -> None:
    append, writes, goes_on = Segment.append, threading.Event(), threading.Event()

    def slow(self: Segment, data: bytes) -> None:
        writes.set()
        assert goes_on.wait(20)
        append(self, data)

    with a_journal(tmp_path) as journal:
        monkeypatch.setattr(Segment, "append", slow)
        writer = threading.Thread(target=journal.record, args=(an_event(), Audit.REQUIRED))
        writer.start()
        assert writes.wait(20)
        written: list[bool] = []
        journal.announce("policy", {"policy": DIGESTS[0]}, written=lambda: written.append(True))
        assert (journal.is_due, journal.is_busy, written) == (True, True, [])
        goes_on.set()
        writer.join()
        journal.record(an_event(), Audit.REQUIRED)
        assert written == [True]
    assert kinds(tmp_path / MOUNT_ID) == ["header", "event", "policy", "event", "close"]


def test_a_write_that_fails_leaves_them_for_the_next_one(tmp_path: Path, monkeypatch) -> None:
    written: list[bool] = []

    def full(self: Segment, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with a_journal(tmp_path) as journal:
        with monkeypatch.context() as broken:
            broken.setattr(Segment, "append", full)
            journal.announce("detached", {}, written=lambda: written.append(True))
            journal.flush()
            assert (written, journal.stats().failing) == ([], True)
        journal.record(an_event(), Audit.REQUIRED)
        assert written == [True]
    assert kinds(tmp_path / MOUNT_ID)[:3] == ["header", "detached", "event"]


def test_the_text_of_a_policy_can_be_saved_before_its_record(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.tell("policy", policy=policy_text(DIGESTS[0], [("p.yaml", b"x")]), previous=DIGESTS[1])
        assert kept_digests(tmp_path / MOUNT_ID) == [DIGESTS[0]]
        assert read_pointer(tmp_path / MOUNT_ID) == DIGESTS
        journal.announce("close now", {})
    assert kinds(tmp_path / MOUNT_ID) == ["header", "close now", "close"]


@pytest.mark.parametrize("passed_s", [0, 10, -7200], ids=["at once", "after a hang", "the clock went back"])
def test_their_times_are_no_damage(tmp_path: Path, passed_s: int) -> None:
    """Their time is that of the announcement or, if they waited, that of the write: `policy replay` needs an
    end no earlier than it was."""
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=2000) as journal:
        for _ in range(4):
            journal.record(an_event(), Audit.REQUIRED)
        journal.announce("detached", {})
        clock.forward(passed_s)
        journal.announce("stale_handles", {})
        for _ in range(4):
            journal.record(an_event(), Audit.REQUIRED)
        clock.forward(1)
        journal.tell("detached", {})
    found = {record.kind: record for record in read_all(tmp_path / MOUNT_ID) if record.kind != "event"}
    assert found["stale_handles"].time_ns == START_NS + max(0, passed_s) * SECOND_NS
    assert ("clock" in found) == (passed_s < 0)
    assert verified(tmp_path / MOUNT_ID).whole
