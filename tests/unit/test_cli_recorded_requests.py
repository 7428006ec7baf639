"""Requests of a trail, equal ones together. test_cli_policy_replay.py decides them again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyfs.cli.audit_query import Progress
from policyfs.cli.recorded_requests import RecordedRequests
from policyfs.journal.index_cache import IndexCache
from policyfs.journal.indexed import IndexedTrail
from policyfs.journal.reader import find_chains
from policyfs.policy.replay.recorded import Cause
from policyfs.trail.event import Cut, Event
from policyfs.trail.selection import Selection, parse_query
from policyfs.trail.terms import Clock
from tests.support.mount.recorded import digest_of, write_recorded
from tests.support.mount.trail import MOUNT_ID, a_denial, an_event

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}}
rules:
  - {id: gallery-sees, allow: [see, read], who: {app: gallery}, paths: "/DCIM/**"}
  - {id: no-private, deny: [all], paths: "/Private/***"}
"""


def requests(root: Path, query: str = "") -> RecordedRequests:
    trail = IndexedTrail(find_chains(root), IndexCache(root / "cache"), Progress())
    return RecordedRequests(trail, Selection(parse_query(query), Clock(datetime.now(UTC))))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "trail"


def test_equal_requests_are_one(root: Path):
    events = [an_event(), an_event(b"/DCIM/b.jpg"), an_event(), a_denial(), a_denial(repeats=3, since_ns=5)]
    asked = requests(write_recorded(root, POLICY, events))
    found = [(one, one.id()) for one in asked]  # an id is read from the open segment
    assert [(one.path, one.weight) for one, _ in found] == [
        (b"/DCIM/a.jpg", 2), (b"/DCIM/b.jpg", 1), (b"/Private/a.jpg", 4),
    ]  # fmt: skip
    assert [id_ for _, id_ in found] == [f"{MOUNT_ID[:8]}:{seq}" for seq in (3, 4, 6)]
    assert [one.recorded.cause for one, _ in found] == [Cause.NONE, Cause.NONE, Cause.POLICY]
    assert found[0][0].recorded.digest == digest_of(POLICY)


def test_moves_have_two_paths_and_writes_a_size(root: Path):
    events = [
        an_event(operation="rename", syscall="rename", new_path=b"/DCIM/b.jpg"),
        an_event(operation="rename", syscall="rename", new_path=b"/DCIM/c.jpg"),
        *(an_event(syscall="open(O_WRONLY)", size_before=size) for size in (0, 5, 7)),
        an_event(syscall="open(O_WRONLY)"),
        an_event(syscall="open(O_WRONLY|O_TRUNC)", size_before=0),
    ]
    found = list(requests(write_recorded(root, POLICY, events)))
    assert Counter(one.new_path for one in found) == {None: 4, b"/DCIM/b.jpg": 1, b"/DCIM/c.jpg": 1}
    sizes = {one.empty: one.weight for one in found if one.recorded.syscall == "open(O_WRONLY)"}
    assert sizes == {True: 1, False: 2, None: 1}


def test_what_is_left_out_is_counted(root: Path):
    events: list[Event] = [
        an_event(operation="release", syscall="close"),
        an_event(b"/", folded="app", repeats=9, since_ns=1),
        an_event(b"/DCIM/\xe2\x80\xa6/b", path_cut=Cut(5, 2, 5000, "0" * 64)),
        an_event(),
    ]
    write_recorded(root, POLICY, events)
    asked = requests(root)
    assert [one.path for one in asked] == [b"/DCIM/a.jpg"]
    assert sorted(asked.left_out.values()) == [1, 1, 9]


def test_app_mounts_by_the_record_of_their_start(root: Path):
    write_recorded(root, POLICY, [an_event(uid=5)], app="gallery")
    write_recorded(root, POLICY, [an_event(uid=10011)])
    assert [one.recorded.mounted for one in requests(root)] == ["gallery", None]


def test_app_mounts_whose_start_is_gone(root: Path):
    callers = ((5, "gallery"), (10011, "gallery"), (7, "stranger"))
    events = [an_event(uid=uid, app=app) for uid, app in callers]
    write_recorded(root, POLICY, events * 500, app="gallery", segment_bytes=60_000)
    first = min((root / MOUNT_ID).glob("*.jsonl"))
    first.unlink()
    found = {one.recorded.uid: one.recorded.mounted for one in requests(root)}
    assert found == {5: "gallery", 10011: None, 7: None}


def test_recorded_policies(root: Path):
    write_recorded(root, POLICY, [an_event()])
    asked = requests(root)
    engine = asked.engine(digest_of(POLICY), False)
    assert engine is not None
    assert engine is asked.engine(digest_of(POLICY), False)
    assert asked.engine("0" * 64, False) is None


def test_a_query_selects_and_bad_lines_are_counted(root: Path):
    directory = write_recorded(root, POLICY, [an_event(), a_denial()]) / MOUNT_ID
    segment = min(directory.glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes() + b"no record\n")
    asked = requests(root, "decision:deny")
    assert [one.path for one in asked] == [b"/Private/a.jpg"]
    assert asked.left_out["lines are no records: see policyfs audit verify"] == 1
