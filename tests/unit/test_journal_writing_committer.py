"""The thread that puts events on record: whatever fails, who waits is told, and the next is served."""

from __future__ import annotations

import threading

import pytest

from policyfs.journal.writing.committer import Committer
from policyfs.journal.writing.ticket import Ticket
from tests.support.mount.trail import an_event

WAIT_S = 20.0


@pytest.fixture
def ticket() -> Ticket:
    return Ticket(an_event(), 0.0)


def recorded(tickets) -> None:
    for each in tickets:
        each.error = None


def test_a_thread_that_could_not_be_started_is_started_for_the_next(monkeypatch, ticket) -> None:
    committer = Committer(recorded)
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert committer.begin([ticket]).wait(WAIT_S)
    ticket.check()
    monkeypatch.setattr(threading.Thread, "start", start)
    assert committer.begin([ticket]).wait(WAIT_S)
    committer.close()


def test_a_bug_is_told_to_who_waits_and_the_thread_goes_on(ticket) -> None:
    bugs = [MemoryError("none left")]

    def write(tickets) -> None:
        if bugs:
            raise bugs.pop()
        recorded(tickets)

    committer = Committer(write)
    assert committer.begin([ticket]).wait(WAIT_S)
    with pytest.raises(MemoryError):
        ticket.check()
    assert committer.begin([ticket]).wait(WAIT_S)
    ticket.check()
    committer.close()


def test_what_was_recorded_before_a_bug_stays_recorded(ticket) -> None:
    def write(tickets) -> None:
        recorded(tickets)
        raise ValueError("afterwards")

    committer = Committer(write)
    assert committer.begin([ticket]).wait(WAIT_S)
    ticket.check()
    committer.close()
