"""Crashes in a chain: a daemon begins, and no end of the one before is on record."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from policyfs.trail.record import Place, Record
from policyfs.trail.restarts import KILLED, RESTARTED, Restarts

Begun = tuple[str, str, int]


def named(*records: Begun | str) -> list[str]:
    """What each record tells. A record is its kind, or with the boot id and pid of a daemon."""
    restarts, found = Restarts(), []
    for seq, one in enumerate(records, start=1):
        kind, fields = (one, {}) if isinstance(one, str) else (one[0], {"boot_id": one[1], "pid": one[2]})
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
