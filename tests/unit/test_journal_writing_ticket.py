"""Tickets, their groups, and reasons with advice."""

from __future__ import annotations

import errno

import pytest

from policyfs.journal.writing.ticket import (
    SLICE,
    SLICE_BYTES,
    JournalError,
    Ticket,
    cannot_record,
    in_groups,
    open_directory,
    reason_of,
)
from policyfs.trail.lines.bounds import memory_bytes
from tests.support.mount.trail import an_event


def tickets(count: int, path: bytes = b"/a") -> list[Ticket]:
    return [Ticket(an_event(path=path), 0.0) for _ in range(count)]


def test_a_ticket_is_an_error_until_it_is_on_record():
    (ticket,) = tickets(1)
    with pytest.raises(JournalError):
        ticket.check()
    ticket.error = None
    ticket.check()
    ticket.error = MemoryError()
    with pytest.raises(MemoryError):
        ticket.check()


@pytest.mark.parametrize(
    ("count", "groups"),
    [(0, []), (1, [1]), (SLICE, [SLICE]), (SLICE + 1, [SLICE, 1]), (2 * SLICE, [SLICE, SLICE])],
)
def test_groups_are_bounded_in_number(count, groups):
    made = tickets(count)
    found = list(in_groups(made))
    assert [len(group) for group in found] == groups
    assert [ticket for group in found for ticket in group] == made


def test_groups_are_bounded_in_bytes():
    path = b"/" * 4000
    each = -(-SLICE_BYTES // memory_bytes(an_event(path=path)))
    assert 1 < each < SLICE
    assert [len(group) for group in in_groups(tickets(2 * each + 1, path))] == [each, each, 1]
    assert [len(group) for group in in_groups(tickets(2, b"/" * SLICE_BYTES))] == [1, 1]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EWOULDBLOCK, "already running"),
        (errno.EROFS, "--trail"),
        (errno.ENOENT, "mkdir -p -m 700 /var/trail"),
        (errno.EIO, "the daemon's log"),
    ],
)
def test_reasons_come_with_advice(number, advice):
    error = OSError(number, "what the system says")
    assert reason_of("/var/trail", error).startswith("what the system says (")
    assert advice in reason_of("/var/trail", error)
    assert "/var/trail" in str(cannot_record("/var/trail", error))


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalError, match="cannot record"):
        open_directory(str(tmp_path / "file" / "trail"))
