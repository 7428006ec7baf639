"""The state of a journal: counts since it was opened, and what it has sealed."""

from __future__ import annotations

import shutil
from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.sealing.keys import KeyStore
from policyfs.trail.chain.restarts import NOT_CLOSED
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event


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
