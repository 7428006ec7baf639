"""Requests of a trail, equal ones together. test_cli_policy_replay.py decides them again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyfs.cli.common.progress import silent
from policyfs.cli.policy.recorded_requests import RecordedRequests
from policyfs.domain import NO_FACTS, Audit, FileType, Op
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.files.reader import find_chains
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.policy.exceptions import ALWAYS, instant_text
from policyfs.policy.replay.recorded import Cause, Recorded
from policyfs.trail.lines.event import Cut, Event
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock
from tests.support.mount.recorded import digest_of, write_recorded
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, write_trail
from tests.support.mount.trail import Clock as JournalClock

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}}
rules:
  - {id: gallery-sees, allow: [see, read], who: {app: gallery}, paths: "/DCIM/**"}
  - {id: no-private, deny: [all], paths: "/Private/***"}
"""


def requests(root: Path, query: str = "") -> RecordedRequests:
    trail = IndexedTrail(find_chains(root), IndexCache(root / "cache"), silent)
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


@pytest.mark.parametrize("monitor", [False, True, None])
def test_the_start_of_a_mount_tells_whether_it_monitors(root: Path, monitor: bool | None):
    write_recorded(root, POLICY, [an_event()], monitor=monitor)
    assert [one.recorded.monitor for one in requests(root)] == [monitor]


def test_a_note_without_rules_is_a_refusal_of_the_mount(root: Path):
    refused = an_event(operation="xattr", syscall="setxattr", rules=(), decision="deny", errno=1, note="why")
    write_recorded(root, POLICY, [refused])
    assert [one.recorded.cause for one in requests(root)] == [Cause.MOUNT]


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
    [recorded] = [one.recorded for one in asked]
    engine = asked.engine(recorded)
    assert engine is not None
    assert engine is asked.engine(recorded)
    assert engine is not asked.engine(recorded, monitor=True)
    assert asked.engine(recorded._replace(digest="0" * 64)) is None


EXCEPTIONS = POLICY + """\
exceptions:
  - id: party
    allow: [see]
    until: %s
    reason: slides
    approved-by: Ann
    paths: "/Music/**"
"""


def allowed(asked: RecordedRequests, recorded: Recorded) -> bool:
    engine = asked.engine(recorded)
    assert engine is not None
    state, who = engine.state_of(b"/Music/song"), engine.principal(10011)
    return engine.decide(who, Op.SEE, state, FileType.REGULAR, NO_FACTS).allowed


def test_exceptions_in_force_are_those_that_the_trail_names(root: Path):
    text = EXCEPTIONS % "2030-01-01T00:00:00Z"  # whatever the time says
    digest, clock = digest_of(text), JournalClock()
    with a_journal(root, clock) as journal:
        kept = policy_text(digest, [("home.yaml", text.encode())])
        told: dict[str, object] = {"policy": digest, "exceptions": {"party": "later"}, "options": {}}
        journal.tell("mount", told, policy=kept)
        told = {"result": "in force", "policy": digest, "generation": 2, "exceptions": {}}
        journal.tell("policy", told)
        for generation in (1, 2, 1):  # one answer was still on its way
            event = an_event(policy_digest=digest, policy_generation=generation, time_ns=clock.now_ns)
            journal.record(event, Audit.REQUIRED)
    asked = requests(root)
    found = {one.recorded.exceptions: (one.weight, allowed(asked, one.recorded)) for one in asked}
    assert found == {("party",): (2, True), (): (1, False)}


def test_exceptions_go_by_the_time_where_no_record_names_them(root: Path):
    end_ns = JournalClock().now_ns + 3_000_000_000
    write_recorded(root, EXCEPTIONS % instant_text(end_ns), [an_event()] * 500, segment_bytes=60_000)
    [first, *_] = sorted((root / MOUNT_ID).glob("*.jsonl"))
    kept = {one.recorded.exceptions for one in requests(root)}
    first.unlink()
    assert kept == {()}  # the record of the start names none
    assert {one.recorded.exceptions for one in requests(root)} == {()}
    later = EXCEPTIONS % instant_text(end_ns + 400_000_000_000)
    write_recorded(root / "more", later, [an_event()] * 500, segment_bytes=60_000)
    min((root / "more" / MOUNT_ID).glob("*.jsonl")).unlink()
    found = {one.recorded.exceptions: one.weight for one in requests(root / "more")}
    assert found.keys() == {("party",), ()}
    assert found[()] == 500 - 402


def test_a_clock_that_goes_back_does_not_undo_an_end(root: Path):
    clock, times = JournalClock(), (0, 20, 5)
    events = [an_event(time_ns=clock.now_ns + at * 1_000_000_000) for at in times]
    write_trail(root, events)
    end_ns = clock.now_ns + 10_000_000_000
    trail = IndexedTrail(find_chains(root), IndexCache(root / "cache"), silent)
    asked = RecordedRequests(trail, Selection(parse_query(""), Clock(datetime.now(UTC))), [end_ns])
    assert [(one.recorded.at_ns, one.weight) for one in asked] == [(ALWAYS, 1), (end_ns, 2)]


def test_a_query_selects_and_bad_lines_are_counted(root: Path):
    directory = write_recorded(root, POLICY, [an_event(), a_denial()]) / MOUNT_ID
    segment = min(directory.glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes() + b"no record\n")
    asked = requests(root, "decision:deny")
    assert [one.path for one in asked] == [b"/Private/a.jpg"]
    assert asked.left_out["lines are not records: see policyfs audit verify"] == 1
