"""Writes that the event loop begins: on record as by a thread, whatever becomes of the write."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import Audit
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.journal.writing.ticket import Ticket
from policyfs.kernel.bridge import Appender
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, kinds, paths, segments, verified

WAIT_S = 20.0


class Held:
    """The appender, whose writes last until `go` is set."""

    def __init__(self) -> None:
        self._appender = Appender()
        self.go = threading.Event()
        self.begun = False

    def begin(self, fd: int, offset: int, data: bytes, /) -> bool:
        self.begun = True
        return self._appender.begin(fd, offset, data)

    def wait(self, seconds: float, /) -> bool:
        return (not self.begun or self.go.is_set()) and self._appender.wait(seconds)

    def result(self) -> tuple[int, int]:
        assert self.go.wait(WAIT_S)
        return self._appender.result()

    def close(self) -> None:
        self._appender.close()


def ticket_of(journal: Journal, path: bytes) -> Ticket:
    ticket = journal.admit(an_event(path), Audit.REQUIRED)
    assert ticket is not None
    return ticket


def committers() -> set[threading.Thread]:
    """The committing threads of all journals, those of other tests included."""
    return {thread for thread in threading.enumerate() if thread.name == "committer"}


def put(journal: Journal, path: bytes) -> Ticket:
    """Commit one event as the event loop does, and wait for it."""
    ticket = ticket_of(journal, path)
    assert journal.at_once([ticket]).wait(WAIT_S)
    return ticket


def flushed(journal: Journal, meanwhile: Callable[[], object] = lambda: None) -> int:
    """Flush as the event loop does; return the number of its steps, at most 1000."""
    steps = 0
    for _ in journal.flush_steps():
        meanwhile()
        steps += 1
        if steps == 1000:
            break
    return steps


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_required_event_is_on_record_without_a_python_thread(tmp_path: Path) -> None:
    of_others = committers()
    with a_journal(tmp_path, appender=Appender()) as journal:
        assert not committers() - of_others
        for number in range(50):
            ticket = ticket_of(journal, b"/%d" % number)
            commit = journal.at_once([ticket])
            if not commit.is_done:  # a busy machine
                assert commit.wait(WAIT_S)
            ticket.check()
            assert paths(tmp_path / MOUNT_ID)[-1] == b"/%d" % number
    assert verified(tmp_path / MOUNT_ID).whole


def test_queued_events_go_before_and_are_flushed_by_the_loop(tmp_path: Path) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        journal.admit(an_event(b"/first"), Audit.BEST_EFFORT)
        put(journal, b"/second").check()
        assert paths(tmp_path / MOUNT_ID) == [b"/first", b"/second"]
        for number in range(250):
            journal.admit(an_event(b"/%d" % number), Audit.BEST_EFFORT)
        flushed(journal)
        journal.flush()  # a busy machine: a slice may have taken too long
        assert journal.stats().queued == 0
        assert not flushed(journal)
    assert len(paths(tmp_path / MOUNT_ID)) == 252
    assert verified(tmp_path / MOUNT_ID).whole


def test_who_takes_the_lock_ends_the_write_first(tmp_path: Path) -> None:
    held = Held()
    with a_journal(tmp_path, appender=held) as journal:
        slow, next_one = ticket_of(journal, b"/slow"), ticket_of(journal, b"/next")
        first, second = journal.at_once([slow]), journal.at_once([next_one])
        assert not first.wait(0.05)
        assert not second.wait(0.05)
        with pytest.raises(JournalError):
            slow.check()
        assert journal.stats().seq == 1, "nobody relies on lines that may not be in the file"
        held.go.set()
        assert first.wait(WAIT_S)
        assert second.wait(WAIT_S)
        for ticket in (slow, next_one):
            ticket.check()
        journal.tell("others")
    assert paths(tmp_path / MOUNT_ID) == [b"/slow", b"/next"]
    assert verified(tmp_path / MOUNT_ID).whole


def test_an_end_waits_for_the_write(tmp_path: Path) -> None:
    held = Held()
    with a_journal(tmp_path, appender=held) as journal:
        ticket = ticket_of(journal, b"/last")
        commit = journal.at_once([ticket])
        threading.Timer(0.1, held.go.set).start()
    assert commit.wait(WAIT_S)
    ticket.check()
    assert kinds(tmp_path / MOUNT_ID)[-2:] == ["event", "close"]


@pytest.mark.parametrize("left", [0, 100])
def test_a_write_that_fails_leaves_no_trace_and_is_refused(tmp_path: Path, left: int) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        put(journal, b"/before").check()
        [segment] = segments(tmp_path / MOUNT_ID)
        whole = segment.read_bytes()
        journal.admit(an_event(b"/queued"), Audit.BEST_EFFORT)
        with room_for(len(whole) + left):
            refused = put(journal, b"/refused")
            with pytest.raises(JournalError, match="too large"):
                refused.check()
            assert segment.read_bytes() == whole
        assert journal.stats().failing
        put(journal, b"/after").check()
        assert not journal.stats().failing
        journal.flush()
    assert paths(tmp_path / MOUNT_ID) == [b"/before", b"/after", b"/queued"]
    assert "gap" in kinds(tmp_path / MOUNT_ID)
    assert verified(tmp_path / MOUNT_ID).whole


def test_a_changed_file_is_left_after_a_record_of_damage(tmp_path: Path) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        put(journal, b"/before").check()
        [segment] = segments(tmp_path / MOUNT_ID)
        with segment.open("ab") as file:
            file.write(b"forged\n")
        put(journal, b"/after").check()
        assert not journal.stats().failing
    assert len(segments(tmp_path / MOUNT_ID)) == 2
    last = segments(tmp_path / MOUNT_ID)[-1].read_bytes()
    assert b'"damage"' in last
    assert b"/after" in last


def test_segments_are_closed_and_begun_as_ever(tmp_path: Path) -> None:
    options: dict[str, Any] = {"segment_bytes": 3000, "appender": Appender()}
    with a_journal(tmp_path, **options) as journal:
        for number in range(60):
            put(journal, b"/%d" % number).check()
    assert len(segments(tmp_path / MOUNT_ID)) > 8
    assert paths(tmp_path / MOUNT_ID) == [b"/%d" % number for number in range(60)]
    assert verified(tmp_path / MOUNT_ID).whole


def test_flushing_ends_where_nothing_can_be_written(tmp_path: Path) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        put(journal, b"/before").check()
        [segment] = segments(tmp_path / MOUNT_ID)
        with room_for(segment.stat().st_size):
            journal.admit(an_event(b"/queued"), Audit.BEST_EFFORT)
            assert flushed(journal) < 10
            journal.flush()  # it finds out the reason
            assert journal.stats().failing
        journal.flush()
        assert not journal.stats().failing
    assert paths(tmp_path / MOUNT_ID) == [b"/before", b"/queued"]


def test_a_changed_file_is_found_by_a_flush(tmp_path: Path) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        put(journal, b"/before").check()
        [segment] = segments(tmp_path / MOUNT_ID)
        with segment.open("ab") as file:
            file.write(b"forged\n")
        journal.admit(an_event(b"/after"), Audit.BEST_EFFORT)
        assert flushed(journal) < 10
        journal.flush()
    assert b'"damage"' in segments(tmp_path / MOUNT_ID)[-1].read_bytes()


def test_flushing_ends_while_events_keep_coming(tmp_path: Path) -> None:
    with a_journal(tmp_path, appender=Appender()) as journal:
        journal.admit(an_event(b"/first"), Audit.BEST_EFFORT)
        assert flushed(journal, lambda: journal.admit(an_event(b"/next"), Audit.BEST_EFFORT)) < 10


def test_a_flush_ends_while_events_keep_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []

    def pause(_seconds: float) -> None:
        pauses.append(1)
        if len(pauses) < 1000:
            journal.admit(an_event(b"/next"), Audit.BEST_EFFORT)

    with a_journal(tmp_path) as journal:
        journal.admit(an_event(b"/first"), Audit.BEST_EFFORT)
        monkeypatch.setattr("policyfs.journal.writing.journal.time.sleep", pause)
        journal.flush()
        monkeypatch.undo()
    assert 0 < len(pauses) < 10


def test_a_flush_is_due_until_the_end_of_a_write_was_seen(tmp_path: Path) -> None:
    held = Held()
    with a_journal(tmp_path, appender=held) as journal:
        journal.flush()
        assert not journal.is_due
        journal.record(an_event(b"/one"), Audit.BEST_EFFORT)
        assert flushed(journal) == 1
        assert journal.is_due
        held.go.set()
        journal.flush()
        assert paths(tmp_path / MOUNT_ID) == [b"/one"]
