"""The state of a journal: counts since it was opened, and what it has sealed."""

from __future__ import annotations

from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.keys import KeyStore
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
