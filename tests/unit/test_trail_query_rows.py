"""Listings in which one refusal is one row."""

from __future__ import annotations

import pytest

from policyfs.trail.lines.record import BadLine, Place, Record, parse_line
from policyfs.trail.query.rows import AT_ONCE_NS, HELD, WINDOW_NS, Again, Row, Rows
from tests.support.mount.trail import SECOND_NS, START_NS, a_denial, an_event, line_of

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 3)


def record_of(event, seq: int = 1) -> Record:
    found = parse_line(line_of(event, seq), PLACE)
    assert isinstance(found, Record)
    return found


def at(second: float, event) -> Record:
    return record_of(event._replace(time_ns=START_NS + round(second * SECOND_NS)))


def folded(*items: Record | BadLine) -> list[Row]:
    rows = Rows()
    found = [row for item in items for row in rows.add(item)]
    return [*found, *rows.rest()]


def test_a_refusal_that_is_tried_again_by_other_calls_and_processes_is_one_row() -> None:
    (row,) = folded(
        at(0, a_denial(operation="lookup", syscall="lookup", pid=1)),
        at(1, a_denial(pid=2)),
        at(2, a_denial(pid=2, repeats=5, since_ns=START_NS + SECOND_NS)),
        at(9, a_denial(operation="stat", syscall="stat", pid=3)),
    )
    assert row.item == at(0, a_denial(operation="lookup", syscall="lookup", pid=1))
    assert row.again == Again(8, (("open", 6), ("lookup", 1), ("stat", 1)), START_NS + 9 * SECOND_NS)


@pytest.mark.parametrize(
    "other",
    [
        a_denial(b"/Private/b.jpg"),
        a_denial(app="maps"),
        a_denial(uid=10012),
        a_denial()._replace(errno=2),
        a_denial()._replace(rules=("another",)),
        a_denial(note="another cause"),
        a_denial(new_path=b"/x"),
        a_denial(policy_digest="cd" * 32),
        a_denial(folded="directory", repeats=3),
        an_event(b"/Private/a.jpg"),
    ],
)
def test_another_cause_app_or_path_has_a_row_of_its_own(other) -> None:
    rows = folded(at(0, a_denial()), at(1, other), at(2, a_denial()))
    assert [(row.item.event.path, row.again and row.again.times) for row in rows] == [
        (b"/Private/a.jpg", 2),
        (other.path, None),
    ]


def test_what_was_allowed_is_told_each_time_and_the_order_stays() -> None:
    opened, bad = an_event(b"/a"), BadLine(PLACE, "no")
    rows = folded(at(0, opened), at(1, a_denial()), at(2, opened), bad, at(3, a_denial()), at(4, opened))
    assert [row.item for row in rows] == [at(0, opened), at(1, a_denial()), at(2, opened), bad, at(4, opened)]
    assert [row.newest for row in rows] == [1, 5, 3, 4, 6]


def test_nothing_waits_but_behind_a_refusal_and_only_for_its_time() -> None:
    rows, opened = Rows(), at(1, an_event())
    assert [row.item for row in rows.add(opened)] == [opened]
    assert list(rows.add(at(2, a_denial()))) == []
    assert list(rows.add(opened)) == []
    late = at(2 + WINDOW_NS / SECOND_NS, a_denial())
    assert [row.item for row in rows.add(late)] == [at(2, a_denial()), opened]
    assert [row.item for row in rows.rest()] == [late]


def test_what_waits_is_bounded() -> None:
    rows = Rows()
    told = [row for number in range(HELD + 10) for row in rows.add(at(0, a_denial(b"/%d" % number)))]
    assert [row.item.event.path for row in told] == [b"/%d" % number for number in range(10)]
    assert len(list(rows.rest())) == HELD


def test_who_follows_hears_of_a_refusal_at_once_and_of_its_repeats_once() -> None:
    rows = Rows(at_once=True)
    assert [row.again for row in rows.add(at(0, a_denial()))] == [None]
    assert list(rows.add(at(1, a_denial()))) == []
    assert list(rows.add(at(2, a_denial(repeats=4)))) == []
    assert [row.item for row in rows.add(at(3, an_event()))] == [at(3, an_event())]
    assert list(rows.due(START_NS + AT_ONCE_NS - 1)) == []
    (more,) = rows.due(START_NS + AT_ONCE_NS)
    assert more.again == Again(5, (("open", 5),), START_NS + 2 * SECOND_NS, more=True)
    assert [row.again for row in rows.add(at(AT_ONCE_NS / SECOND_NS, a_denial()))] == [None]
