"""The words for what a journal itself recorded as wrong."""

from __future__ import annotations

import pytest

from policyfs.trail.chain.verification import Break, Report, describe_trouble
from policyfs.trail.lines.record import Place, Record

PLACE = Place("0123456789abcdef", "00000001.jsonl", 7)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            "recovered",
            {"bytes": 12, "segment": "s"},
            "after a crash, 12 bytes of a cut line were found at the end of s",
        ),
        (
            "damage",
            {"segment": "s", "found": "truncated"},
            "segment s was changed from outside: truncated",
        ),
        (
            "gap",
            {"unsure_after": 9, "reason": "EIO"},
            "lines after seq 9 may not have reached the disk (EIO)",
        ),
        (
            "gap",
            {"dropped": 3, "refused": 2, "first": "a", "last": "b", "reason": "queue full"},
            "3 events dropped, 2 requests refused between a and b (queue full)",
        ),
    ],
)
def test_trouble_is_told_in_a_sentence(kind: str, fields: dict[str, object], words: str) -> None:
    assert describe_trouble(Record(PLACE, kind, 7, 0, fields, None)) == words


def test_a_trail_with_a_break_is_not_whole() -> None:
    sound = Report("id", 1, 2, 3, "head", (), (Break(PLACE, "a note"),))
    assert sound.whole
    assert not sound._replace(breaks=(Break(PLACE, "edited", "edited"),)).whole
