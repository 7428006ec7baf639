"""Kills are on record, each once, and the thread that kills never waits for the trail."""

from __future__ import annotations

import pytest

from policyfs.daemon.kills import Killed, Kills

ONE = Killed(77, 10010, "/bin/one", "they waited for each other", 30.04)
OTHER = Killed(78, 10011, "", "they waited for each other", 35.0)


class Told:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, object]]] = []
        self.fails = False

    def tell(self, kind: str, *records: dict[str, object]) -> None:
        if self.fails:
            raise OSError("no trail")
        self.records += [(kind, fields) for fields in records]


def test_each_kill_is_recorded_once() -> None:
    told = Told()
    kills = Kills(told)
    kills.flush()
    assert not kills.is_due
    kills.add(ONE)
    kills.add(OTHER)
    assert kills.is_due
    assert told.records == [], "nothing is written on the thread that kills"
    kills.flush()
    kills.flush()
    assert not kills.is_due
    reason = "they waited for each other"
    assert told.records == [
        ("killed", {"pid": 77, "uid": 10010, "exe": "/bin/one", "reason": reason, "blocked_s": 30.0}),
        ("killed", {"pid": 78, "uid": 10011, "exe": "", "reason": reason, "blocked_s": 35.0}),
    ]


def test_a_kill_that_cannot_be_recorded_is_not_forgotten() -> None:
    told = Told()
    told.fails = True
    kills = Kills(told)
    kills.add(ONE)
    with pytest.raises(OSError, match="no trail"):
        kills.flush()
    assert kills.is_due
