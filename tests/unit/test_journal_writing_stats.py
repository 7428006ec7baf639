"""The state of a journal: counts since it was opened, and what it has sealed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.holds import Hold, add_hold, remove_hold
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain import removed
from policyfs.trail.chain.restarts import NOT_CLOSED
from policyfs.trail.lines.line import iso_time
from tests.support.mount.trail import MOUNT_ID, Clock, a_journal, an_event, segments, verified


def test_counts_begin_anew_and_numbers_go_on(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(), Audit.REQUIRED)
        first = journal.stats()
    with a_journal(tmp_path) as journal:
        stats = journal.stats()
        assert (stats.written, stats.queued, stats.dropped, stats.failing) == (0, 0, 0, False)
        assert stats.seq > first.seq
        assert stats.head != first.head


def test_what_was_sealed_is_named(tmp_path: Path) -> None:
    with a_journal(tmp_path, keys=KeyStore(tmp_path / "keys")) as journal:
        name = journal.stats().segment
    assert journal.stats().sealed == name
    assert not journal.stats().seal_error
    with a_journal(tmp_path) as journal:
        assert (journal.stats().sealed, journal.stats().seal_error) == ("", "")
    assert (tmp_path / MOUNT_ID / f"{name.partition('.')[0]}.seal").exists()


def test_a_daemon_that_left_no_end_is_told(tmp_path: Path) -> None:
    with a_journal(tmp_path / "killed") as journal:
        assert not journal.stats().last_end, "there was no daemon before"
        journal.record(an_event(), Audit.REQUIRED)
        shutil.copytree(tmp_path / "killed", tmp_path / "copy")  # as a kill at this moment leaves it
    with a_journal(tmp_path / "copy") as journal:
        assert journal.stats().last_end == NOT_CLOSED
    for root in ("copy", "killed"):
        with a_journal(tmp_path / root) as journal:
            assert not journal.stats().last_end, "the daemon before has ended in order"


def test_rotation_that_holds_have_stopped_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removed, "MOST_RANGES", 2)
    clock = Clock()

    def rotated(journal: Journal, segments: int) -> None:
        for _ in range(segments):
            journal.record(an_event(), Audit.REQUIRED)
            clock.forward(3600)
            journal.flush()

    with a_journal(tmp_path, clock, segment_bytes=1, keep=1) as journal:
        rotated(journal, 1)
        for number in range(4):
            since = clock.now_ns
            rotated(journal, 1)
            held = Hold(f"case-{number}", iso_time(since), iso_time(since + 1), "", "")
            add_hold(tmp_path / MOUNT_ID, held)
            rotated(journal, 6)
        assert journal.stats().kept_back == removed.KEPT_BACK
        names = [path.name for path in segments(tmp_path / MOUNT_ID)]
        for number in range(4):
            remove_hold(tmp_path / MOUNT_ID, f"case-{number}")
        rotated(journal, 4)
        assert not journal.stats().kept_back
        assert len(segments(tmp_path / MOUNT_ID)) < len(names)
    assert verified(tmp_path / MOUNT_ID).whole
