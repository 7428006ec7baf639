"""Crashes in a chain: a daemon begins, and no end of the one before is on record."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from policyfs.trail.chain.restarts import KILLED, RESTARTED, Restarts
from policyfs.trail.lines.record import Place, Record

Begun = tuple[str, str, int]


def named(*records: Begun | str) -> list[str]:
    """What each record tells. A record is its kind, or with the boot id and pid of a daemon."""
    restarts, found = Restarts(), []
    for seq, one in enumerate(records, start=1):
        kind, fields = (one, {}) if isinstance(one, str) else (one[0], {"boot_id": one[1], "pid": one[2]})
        if kind == "upgrade":
            kind, fields = "resume", {"boot_id": "boot", "pid": 9, "upgrades": True}
        found.append(
            restarts.take(Record(Place("m", "s", seq), kind, seq, 0, fields, None)).partition(";")[0]
        )
    return found


HEADER, RESUME = ("header", "boot", 7), ("resume", "boot", 8)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([HEADER, "mount", "close", RESUME, "close", ("resume", "boot", 9)], ["", "", "", "", "", ""]),
        ([HEADER, HEADER, HEADER, "close"], ["", "", "", ""]),
        ([HEADER, RESUME], ["", KILLED]),
        ([HEADER, "upgrade", RESUME, "close"], ["", "", KILLED, ""]),
        ([HEADER, "clock", RESUME, "close", ("resume", "boot", 9)], ["", "", KILLED, "", ""]),
        ([HEADER, "mount", ("resume", "boot", 7)], ["", "", KILLED]),
        ([HEADER, ("resume", "later", 7)], ["", RESTARTED]),
        ([HEADER, ("header", "boot", 8), "recovered", "recovered"], ["", KILLED, "", ""]),
        ([HEADER, HEADER, "recovered", "recovered", "close"], ["", "", KILLED, "", ""]),
        ([HEADER, ("header", "later", 7)], ["", RESTARTED]),
        ([HEADER, "clock", ("header", "boot", 8), RESUME], ["", "", KILLED, ""]),
        ([HEADER, "clock", HEADER, ("resume", "boot", 7)], ["", "", "", KILLED]),
        ([HEADER, "close", HEADER, ("resume", "boot", 7), "close"], ["", "", "", "", ""]),
        (["pruned", HEADER, "close", "recovered"], ["", "", "", ""]),
    ],
)  # fmt: skip
def test_a_daemon_that_begins_where_none_has_ended_tells_of_a_crash(
    records: Sequence[Begun | str], told: list[str]
) -> None:
    assert named(*records) == told


@pytest.mark.parametrize(
    ("events", "alive"),
    [
        ([None, None, None], 1),
        ([None, None, 5], 5),
        ([None, 5, 5], 5),
        ([None, 5, 6], 6),
        ([3, 3, 3], 1),
    ],
)
def test_the_daemon_still_ran_at_its_start_and_at_its_last_event(
    events: list[int | None], alive: int
) -> None:
    """events: before the first start, before another record, and before the start after the crash."""
    restarts = Restarts()
    starts = [("header", 1, 7), ("gap", 8, 7), ("header", 9, 8)]
    for seq, ((kind, time_ns, pid), event) in enumerate(zip(starts, events, strict=True), start=1):
        restarts.note(event)
        told = restarts.take(
            Record(Place("m", "s", seq), kind, seq, time_ns, {"boot_id": "boot", "pid": pid}, None)
        )
    assert told
    assert restarts.alive_ns == alive
