"""Indexes as databases: SQL only reads them. tests/property/test_audit_index.py looks at what they hold."""

from __future__ import annotations

import sqlite3

import pytest

from policyfs.journal.index.database import FORMAT, Index, WrongIndexError
from tests.support.mount.trail import START_NS, an_event, index_of

HOSTILE = f"DROP TABLE about; CREATE VIEW about AS SELECT '{FORMAT}', load_extension('x'), 1, 2, 3"
EMPTY = index_of().data()


def edited(data: bytes, script: str) -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(data)
    database.executescript(script)
    return database.serialize()


def test_an_index_has_what_it_is_about() -> None:
    index = index_of(an_event(), b"bad\n", an_event(b"/b", app="maps", errno=13, rules=("a", "b")))
    assert (index.size, index.sha256, index.lines) == (7, "00", 3)
    assert [event.app for event in index.classes.values()] == ["gallery", "maps"]
    assert (index.classes[1].errno, index.classes[1].rules) == (13, ("a", "b"))
    assert index.path(1) == b"/b"
    assert Index(index.data()).lines == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b"\xff" * 5000,
        EMPTY[:4096],
        b"SQLite format 3\0" + bytes(5000),
        edited(EMPTY, "UPDATE about SET format = 'policyfs-index-4'"),
        edited(EMPTY, "DROP TABLE about"),
        edited(EMPTY, "INSERT INTO about SELECT * FROM about"),
        edited(EMPTY, HOSTILE),
    ],
)
def test_other_bytes_are_no_index(data: bytes) -> None:
    with pytest.raises(WrongIndexError):
        Index(data)


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '/etc/passwd' AS other",
        "PRAGMA trusted_schema = ON",
        "SELECT * FROM pragma_table_info('event')",
        "SELECT load_extension('x')",
        "DELETE FROM event",
        "CREATE TEMP TABLE other (x)",
        "VACUUM INTO '/tmp/other'",
    ],
)
def test_sql_only_reads(statement: str) -> None:
    index = index_of(an_event())
    with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited|denied"):
        index.query(statement)
    assert index.query("SELECT count(*) FROM event").fetchone() == (1,)


def test_the_last_event_before_a_line() -> None:
    bad = b"bad\n"
    index = index_of(bad, an_event(time_ns=START_NS), bad, an_event(time_ns=START_NS + 1))
    times = [index.time_before(line) for line in range(1, 6)]
    assert times == [None, None, START_NS, START_NS, START_NS + 1]


def test_texts_that_are_not_unicode_are_as_in_the_line() -> None:
    """Older versions recorded a byte of a mountpoint that is not UTF-8 as a lone surrogate."""
    event = an_event(mount="/mnt/\udcff", note="a\0b", rules=("\udcfe",))
    assert index_of(event).classes[0]._replace(time_ns=event.time_ns, pid=event.pid, path=event.path) == event
