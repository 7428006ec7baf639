"""Bounds of an event: long paths stay tellable apart, and no line is longer than it may be."""

from __future__ import annotations

import hashlib
import json

import pytest

from policyfs.journal.writing.accounts import Limits
from policyfs.trail.lines.bounds import (
    PATH_BYTES,
    RECORD_BYTES,
    bounded,
    bounded_fields,
    cut_path,
    line_bytes,
    memory_bytes,
)
from policyfs.trail.lines.budget import Budget
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import LINE_BYTES
from policyfs.trail.lines.record import Place, Record, parse_line
from policyfs.trail.query.query import literal_digest
from policyfs.trail.query.terms import Paths
from tests.support.mount.trail import SECOND_NS, an_event, line_of

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 2)


def deep(levels: int, name: bytes = b"n" * 250) -> bytes:
    return b"".join(b"/%b%04d" % (name, level) for level in range(levels))


def read_back(event: Event) -> Event:
    record = parse_line(line_of(bounded(event)), PLACE)
    assert isinstance(record, Record), record
    assert record.event is not None
    return record.event


@pytest.mark.parametrize("name", [b"n" * 200, bytes([0xFF]) * 200], ids=["text", "no UTF-8"])
def test_paths_up_to_the_limit_are_exact_and_longer_ones_keep_both_ends_and_a_digest(name: bytes) -> None:
    exact = deep(5, name)[:PATH_BYTES]
    assert len(exact) == PATH_BYTES
    assert read_back(an_event(exact)).path == exact
    path = deep(64, name)
    event = read_back(an_event(b"/short", new_path=path))
    cut = event.new_path_cut
    assert cut is not None
    assert event.path_cut is None
    assert event.new_path is not None
    assert event.new_path[: cut.head] == path[: cut.head] == deep(3, name)
    assert event.new_path[-cut.tail :] == path[-cut.tail :] == b"/%b0063" % name
    assert event.new_path == deep(3, name) + b"/\xe2\x80\xa6" + b"/%b0063" % name
    assert (cut.size, cut.sha256) == (len(path), hashlib.sha256(path).hexdigest())


def test_two_long_paths_that_differ_anywhere_are_told_apart() -> None:
    path = bytearray(deep(20))
    found = set()
    for at in range(1, len(path), 97):
        other = bytes(path[:at]) + b"#" + bytes(path[at + 1 :])
        event = read_back(an_event(other))
        found.add((event.path, event.path_cut))
    assert len(found) == len(range(1, len(path), 97))


def test_a_name_without_slashes_is_cut_within() -> None:
    path = b"/" + b"x" * 5000 + b".jpg"
    recorded, cut = cut_path(path)
    assert cut is not None
    assert recorded == path[:704] + "…".encode() + path[-256:]


def test_bounding_twice_makes_no_difference() -> None:
    once = bounded(an_event(deep(20), new_path=deep(30), note="x" * 5000))
    assert bounded(once) is once


def test_a_search_finds_a_long_path_by_its_head_its_tail_and_as_a_whole() -> None:
    path = b"/DCIM" + deep(20) + b"/a.jpg"
    event = read_back(an_event(path))

    def finds(glob: str) -> bool:
        return Paths(glob)(event)

    head = "/DCIM" + deep(2).decode()
    assert all(finds(glob) for glob in ("/DCIM/***", f"{head}/**", "*.jpg", "/DCIM/**/a.jpg", path.decode()))
    assert not any(finds(glob) for glob in ("/DCIM/*", "/Pictures/**", path.decode() + "x", "*.png"))
    assert literal_digest("/DCIM/**") == literal_digest("/" + "x" * 10) == ""
    assert literal_digest(path.decode()[:-1] + "*") == ""


def _worst() -> dict[str, object]:
    """Fields of an event, as long as they can be: made when a test runs, not with the module."""
    return {
        "mount": "\U000e0100" * 4096, "exe": "\u202e" * 4096, "note": "\x01" * 4096, "view": "\u200b" * 4096,
        "kind": '"' * 4096, "syscall": "\\" * 4096, "operation": "\x7f" * 4096, "io": "\ue000" * 4096,
        "rules": tuple(f"{number:0100}" for number in range(10_000)),
        "would_deny": tuple(f"{number:0100}" for number in range(10_000)),
        "would_allow": tuple(f"{number:0100}" for number in range(10_000)),
        "redacted": ((2**63, 2**63),) * 100_000, "handle": 2**64, "bytes_read": 2**64, "bytes_written": 2**64,
        "size_before": 2**64, "size_after": 2**64, "mtime_before_ns": 2**64, "mtime_after_ns": 2**64,
        "repeats": 2**64, "since_ns": 1, "errno": 13, "app": "a" * 100,
    }  # fmt: skip


@pytest.mark.parametrize("name", [b"\xff", b"\x01", b"\x01\xff", b"\\", "\U000e0100".encode(), b"/", b"a"])
def test_no_line_is_longer_than_it_may_be_whatever_is_in_it(name: bytes) -> None:
    path = (b"/" + name * 20_000)[:16_384]
    for long in (path, path[:PATH_BYTES]):
        event = bounded(an_event(long, new_path=long, **_worst()))
        line = line_of(event, 10**17)
        assert len(line) <= LINE_BYTES
        assert json.loads(line)["rules_left_out"] > 29_000
        assert memory_bytes(event) <= 64 * 1024
        only = bounded(an_event(long))
        assert len(line_of(only)) <= line_bytes(only)


def test_what_a_line_is_charged_is_hardly_more_than_it_takes() -> None:
    full = {name: value for name, value in _worst().items() if isinstance(value, int)}
    assert len(line_of(an_event(**full), 10**17)) <= line_bytes(an_event(**full))
    for event in (an_event(), an_event("/DCIM/Übersicht/日本.jpg".encode()), an_event(redacted=((412, 86),))):
        assert len(line_of(event, 10**6)) <= line_bytes(event) <= 1.6 * len(line_of(event, 10**6))


def test_a_budget_fills_up_and_is_paid_back() -> None:
    budget = Budget(*Limits(100, 1000)[:2], now_ns=0)
    assert budget.spend(1000, 0) == 0
    assert budget.spend(200, 0) == 2.0
    assert budget.left(SECOND_NS) == -100
    assert budget.left(0) == -100, "a clock that goes back gives nothing"
    assert budget.left(3 * SECOND_NS) == 100
    assert not budget.is_full(4 * SECOND_NS)
    assert budget.is_full(60 * SECOND_NS)


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"gid": list(range(20_000))}},
        {"options": {"gid": ["x" * 40] * 2_000}, "policy": "cd" * 32},
        {"options": {f"option{number}": "y" * 9 for number in range(5_000)}},
        {f"field{number}": '\U0001f4f7"\\' * 4_000 for number in range(60)},
    ],
    ids=["numbers", "texts", "names", "fields"],
)
def test_fields_of_a_record_are_within_its_bounds_whatever_they_hold(fields: dict[str, object]) -> None:
    assert len(json.dumps(fields)) > RECORD_BYTES
    found = bounded_fields(fields)
    assert len(json.dumps(found)) <= RECORD_BYTES
    assert found.keys() == fields.keys()
    assert bounded_fields(found) == found
    assert found.get("policy") == fields.get("policy")


@pytest.mark.parametrize(("options", "shown"), [(300, 127), (1000, 15)])
def test_fields_whose_texts_were_cut_enough_keep_their_form(options: int, shown: int) -> None:
    """The last cut may be enough, too."""
    found = bounded_fields({"options": {f"option{number}": "y" * 2_000 for number in range(options)}})
    assert len(json.dumps(found)) <= RECORD_BYTES
    assert isinstance(found["options"], dict)
    assert len(found["options"]) == options
    assert {len(text) for text in found["options"].values()} == {shown}
