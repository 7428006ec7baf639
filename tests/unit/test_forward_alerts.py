"""Alerts: the first at once, and exact counts of the rest."""

from __future__ import annotations

import json

import pytest

from policyfs.forward.alerts import Alert
from policyfs.forward.config import AlertDoc
from policyfs.forward.follower import BAD, BROKEN, GAP, Item
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import Place, Record, parse_line
from tests.support.models.clock import Clock
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, START_NS, a_denial, an_event
from tests.unit.test_forward_messages import item_of, told


def an_alert(clock: Clock | None = None, **fields: object) -> Alert:
    doc = AlertDoc.model_validate({"id": "a", "file": "/x", **fields})
    return Alert(doc, clock or Clock())


def a_record(kind: str, **fields: object) -> Item:
    whole = {"type": kind, "seq": 3, "time": iso_time(START_NS), **fields}
    raw = json.dumps(whole).encode()
    record = parse_line(raw, Place(MOUNT_ID, "", 0))
    assert isinstance(record, Record)
    return Item(MOUNT_ID, raw, record)


DENIED = a_denial(b"/Private/a.jpg")
UNCLEAN = a_denial(b"/DCIM/x.bin", kind="application/x-y", note="cannot be redacted")


@pytest.mark.parametrize(
    ("fields", "hits", "misses"),
    [
        ({"on": "rule", "rules": ["no-private"]}, [item_of(DENIED)], [item_of(an_event())]),
        (
            {"on": "rule", "rules": "strict"},
            [item_of(an_event(decision="would_deny", would_deny=("strict",)))],
            [item_of(DENIED)],
        ),
        ({"on": "query", "query": "path:/DCIM/**"}, [item_of(an_event())], [item_of(DENIED)]),
        ({"on": "unredactable"}, [item_of(UNCLEAN)], [item_of(DENIED), item_of(an_event())]),
        ({"on": "policy"}, [a_record("policy", result="refused")], [a_record("mount"), item_of(DENIED)]),
        ({"on": "worker"}, [a_record("worker", why="died")], [a_record("gap")]),
        (
            {"on": "degraded"},
            [a_record("gap", dropped=1), a_record("damage"), a_record(GAP, reason="x")],
            [a_record("sealed"), item_of(DENIED)],
        ),
        (
            {"on": "tampered"},
            [a_record("damage"), a_record(BROKEN, reason="x"), a_record(BAD, reason="x")],
            [a_record("gap")],
        ),
        (
            {"on": "ended"},
            [a_record("close", cause="outside"), a_record("failed", reason="x"), a_record("detached")],
            [a_record("close", cause="command"), a_record("close", cause="signal")],
        ),
        ({"on": "killed"}, [a_record("killed", pid=7)], [a_record("close", cause="error"), item_of(DENIED)]),
    ],
)
def test_a_class_is_about_these(fields: dict[str, object], hits: list[Item], misses: list[Item]) -> None:
    for item in hits:
        assert an_alert(**fields).take(item) is not None, item
    for item in misses:
        assert an_alert(**fields).take(item) is None, item


def test_the_first_is_told_at_once_and_the_rest_counted_exactly() -> None:
    clock = Clock()
    alert = an_alert(clock, on="rule", rules="no-private", every="60s")
    first = alert.take(item_of(DENIED, 1))
    assert first is not None
    assert first.text == "a: gallery open /Private/a.jpg: deny EACCES no-private"
    assert told(first)["count"] == 1
    for seq in range(2, 1002):
        event = DENIED._replace(app=("maps", "gallery")[seq % 2], repeats=(seq % 10 == 0) * 7)
        assert alert.take(item_of(event, seq)) is None
    assert alert.is_pending
    assert alert.due() is None
    clock.now_s += 60
    folded = alert.due()
    assert folded is not None
    assert (told(folded)["count"], told(folded)["at_once"]) == (1000 + 100 * 6, False)
    assert told(folded)["apps"] == {"maps": 500 + 100 * 6, "gallery": 500}
    assert not alert.is_pending
    clock.now_s += 60
    assert alert.due() is None
    assert alert.take(item_of(DENIED, 2000)) is not None  # after a quiet interval, at once again


def test_a_name_that_is_one_of_many_is_counted_with_others() -> None:
    clock = Clock()
    alert = an_alert(clock, on="query", query="decision:deny")
    for seq in range(1, 101):
        alert.take(item_of(DENIED._replace(app=f"app{seq}"), seq))
    clock.now_s += 60
    folded = alert.due()
    assert folded is not None
    assert told(folded)["count"] == 99
    apps = told(folded)["apps"]
    assert isinstance(apps, dict)
    assert len(apps) == 32
    assert told(folded)["others"] == 67


def burst(alert: Alert, times_s: list[float], event: Event = DENIED) -> list[bool]:
    told = []
    for seq, time_s in enumerate(times_s, 1):
        told.append(
            alert.take(item_of(event._replace(time_ns=START_NS + int(time_s * SECOND_NS)), seq)) is not None
        )
    return told


def test_a_burst_is_more_than_a_number_within_a_time() -> None:
    assert burst(an_alert(on="denials", more_than=3, within="10s"), [0, 1, 2, 3]) == [
        False,
        False,
        False,
        True,
    ]
    assert not any(burst(an_alert(on="denials", more_than=3, within="10s"), [0, 6, 12, 18, 24, 30]))


def test_times_of_a_clock_that_was_set_back_begin_anew() -> None:
    day, hour = 86400, 3600
    alert = an_alert(on="denials", more_than=3, within="10s")
    assert not any(burst(alert, [day, day, *(hour * number for number in range(8))]))
    assert burst(alert, [hour, hour, hour, hour]) == [False, False, False, True]


def test_lines_that_are_a_little_out_of_order_all_count() -> None:
    """The lines of several mounts come in turn."""
    alert = an_alert(on="denials", more_than=30, within="10s")
    told = burst(alert, [100 + (0.001 if number % 2 else -0.001) for number in range(40)])
    assert told.index(True) == 30
    alert = an_alert(on="denials", more_than=30, within="10s")
    assert burst(alert, [100 - number % 10 for number in range(40)]).index(True) == 30


def test_bursts_are_counted_for_each_app() -> None:
    alert = an_alert(on="denials", more_than=3, within="10s")
    assert not any(burst(alert, [0, 1, 2], DENIED._replace(app="maps")))
    assert not any(burst(alert, [3, 4, 5], DENIED._replace(app="gallery")))
    assert not any(burst(alert, [3, 4, 5], an_event()))
    assert burst(alert, [6], DENIED._replace(app="gallery", repeats=5)) == [True]


def test_the_end_of_the_forwarder_tells_what_is_counted() -> None:
    alert = an_alert(on="policy")
    alert.take(a_record("policy"))
    alert.take(a_record("policy"))
    folded = alert.due(at_end=True)
    assert folded is not None
    assert told(folded)["count"] == 1
