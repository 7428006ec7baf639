"""Retention by number, age and size: what goes, and what `verify` says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files import retention
from policyfs.journal.files.retention import (
    KEPT_BACK,
    Retention,
    begin_ns,
    latest_ends,
    removed_so_far,
    retention_of,
)
from policyfs.journal.files.segments import SegmentDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain.damage import DELETED
from policyfs.trail.chain.removed import ranges_of
from tests.support.mount.trail import (
    MOUNT_ID,
    ROOMY,
    Clock,
    a_journal,
    an_event,
    paths,
    read_all,
    segments,
    verified,
)

DAY = 86_400
NAMES = [f"{number:08d}-20260301T{7 + number:02d}0000Z.jsonl" for number in range(1, 6)]
SMALL = 900


class Recorder:
    """A journal in which a segment is begun each day."""

    def __init__(self, root: Path, limits: Retention) -> None:
        self.root = root
        self.directory = root / MOUNT_ID
        self.limits = limits
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        self.journal = Journal(
            str(self.directory), MOUNT_ID, keep=self.limits, segment_bytes=SMALL, limits=ROOMY, sync_ns=0,
            clock_ns=self.clock, steady_ns=self.clock, keys=KeyStore(self.root / "keys"),
        )  # fmt: skip

    def days(self, count: int) -> None:
        for _ in range(count):
            self.journal.record(an_event(b"/" + b"x" * 800, time_ns=self.clock()), Audit.REQUIRED)
            self.journal.flush()
            self.clock.forward(DAY)

    def numbers(self) -> list[int]:
        return [int(file.name[:8]) for file in segments(self.directory)]

    def reasons(self) -> set[object]:
        return {record.fields["reason"] for record in read_all(self.directory) if record.kind == "pruned"}


def whole(recorder: Recorder) -> bool:
    return not verified(recorder.directory).breaks


def test_segments_older_than_the_age_go(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(age_s=5 * DAY))
    recorder.days(20)
    kept = recorder.numbers()
    oldest = segments(recorder.directory)[0].name[9:17]
    age = (Clock()() // 1_000_000_000 + 20 * DAY) - datetime.strptime(oldest, "%Y%m%d").replace(
        tzinfo=UTC
    ).timestamp()
    assert 5 <= age / DAY <= 8
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert recorder.reasons() == {"age"}
    recorder.journal.close()
    assert whole(recorder)


def test_a_negative_number_is_no_limit(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(segments=-1))
    recorder.days(6)
    assert recorder.numbers() == [1, 2, 3, 4, 5, 6]
    recorder.journal.close()


def test_a_day_without_events_lets_old_ones_go_too(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(age_s=5 * DAY))
    recorder.days(4)
    before = recorder.numbers()
    recorder.clock.forward(30 * DAY)
    recorder.journal.flush()
    assert len(recorder.numbers()) < len(before)
    recorder.journal.close()
    assert whole(recorder)


def test_the_oldest_go_beyond_the_size(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(size=8 * SMALL))
    recorder.days(20)
    total = sum(file.stat().st_size for file in segments(recorder.directory))
    assert 2 * SMALL < total < 11 * SMALL
    assert recorder.reasons() == {"size"}
    recorder.journal.close()
    assert whole(recorder)


def test_a_hold_of_an_earlier_version_keeps_the_whole_trail(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(3))
    recorder.days(2)
    held = recorder.directory / "holds" / "case"
    held.parent.mkdir(mode=0o700)
    held.write_text("any text")
    recorder.days(8)
    assert recorder.numbers() == list(range(1, recorder.numbers()[-1] + 1))
    assert recorder.journal.stats().kept_back == KEPT_BACK
    held.unlink()
    recorder.days(1)
    assert not recorder.journal.stats().kept_back
    assert len(recorder.numbers()) <= 4, "the rest of the held goes"
    recorder.journal.close()
    assert whole(recorder)


def test_a_segment_ends_when_the_next_begins_under_a_right_clock() -> None:
    early, ahead = "00000002-20010101T000000Z.jsonl", "00000002-20990101T000000Z.jsonl"
    now_ns = begin_ns(NAMES[4])
    assert latest_ends(NAMES)[:4] == [begin_ns(name) for name in NAMES[1:]]
    for wrong in (early, ahead):
        names = [NAMES[0], wrong, NAMES[2], NAMES[3]]
        assert latest_ends(names, now_ns)[:3] == [begin_ns(NAMES[n]) for n in (2, 2, 3)]
    for names in (NAMES[:1], [NAMES[0], early]):
        assert min(latest_ends(names)) > begin_ns(ahead), "not known: it may still be written"


def test_a_beginning_that_another_removed_is_named(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(6))
    recorder.days(20)
    recorder.journal.close()
    assert whole(recorder)
    oldest = segments(recorder.directory)[0]
    oldest.unlink()
    report = verified(recorder.directory)
    assert [found.kind for found in report.breaks] == [DELETED]


def cut_before_retention(root: Path) -> Recorder:
    """Remove the first segments while the daemon is down, and let retention remove those behind them."""
    recorder = Recorder(root, Retention())
    recorder.days(10)
    recorder.journal.close()
    for file in segments(recorder.directory)[:3]:
        file.unlink()
        file.with_name(file.name.partition(".")[0] + ".seal").unlink()
    recorder.limits = Retention(4)
    recorder.open()
    recorder.days(6)
    recorder.journal.close()
    return recorder


def test_a_beginning_removed_before_retention_came_is_named(tmp_path: Path) -> None:
    """Attack D1.10: Delete old segments, and let retention hide this by removing the segments around them
    Guard: policyfs/trail/chain/verify.py::Verifier.report, policyfs/trail/chain/removed.py::not_in
    Without: ::test_it_is_not_named_where_any_hole_is_accepted
    """
    recorder = cut_before_retention(tmp_path)
    assert recorder.numbers()[0] > 4
    (found,) = verified(recorder.directory).breaks
    assert found.kind == DELETED
    assert "(1 to 3)" in found.what


def test_it_is_not_named_where_any_hole_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = cut_before_retention(tmp_path)
    monkeypatch.setattr("policyfs.trail.chain.verify.not_in", lambda *_: None)
    assert whole(recorder)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_the_newest_statement_of_a_segment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    recorder = Recorder(tmp_path, Retention(3))
    recorder.days(9)
    recorder.journal.close()
    fields = [record.fields for record in read_all(recorder.directory)]
    stated = [ranges_of(one["removed"]) for one in fields if "removed" in one]
    newest = segments(recorder.directory)[-1]
    newest.write_bytes(newest.read_bytes() + b'{"type":"pruned","removed":[[1,99]]')  # not whole
    monkeypatch.setattr(retention, "_BLOCK", block)
    with SegmentDirectory.at(recorder.directory) as place:
        assert removed_so_far(place) == stated[-1]


def test_limits_together_and_none(tmp_path: Path) -> None:
    assert retention_of(7) == Retention(7)
    recorder = Recorder(tmp_path, Retention(10, 100 * DAY, 1 << 30))
    recorder.days(20)
    assert 10 <= len(recorder.numbers()) <= 11  # the record of a removal may begin the newest
    recorder.journal.close()
    (tmp_path / "other").mkdir()
    other = Recorder(tmp_path / "other", Retention())
    other.days(20)
    assert other.numbers()[0] == 1
    other.journal.close()


def test_a_segment_begun_under_a_wrong_clock_makes_no_other_look_old(tmp_path: Path) -> None:
    """After a power cut, a machine without a battery begins a segment with the time of 2001."""
    recorder = Recorder(tmp_path, Retention(age_s=90 * DAY))
    recorder.days(1)
    right_ns = recorder.clock.now_ns
    recorder.clock.now_ns = 978_307_200 * 1_000_000_000
    recorder.days(1)
    recorder.clock.now_ns = right_ns
    recorder.days(1)
    assert recorder.numbers() == [1, 2, 3]
    recorder.days(200)
    assert recorder.numbers()[0] > 3, "they go in their time"
    recorder.journal.close()
    assert whole(recorder)


def test_a_limit_of_age_holds_for_a_quiet_trail_too(tmp_path: Path) -> None:
    """A family does not fill a segment in a year. Yet no event may stay for much longer than the limit."""
    clock = Clock()
    with a_journal(tmp_path, clock, keep=Retention(age_s=90 * 86400)) as journal:
        for day in range(120):
            journal.record(an_event(b"/%d" % day, time_ns=clock.now_ns), Audit.REQUIRED)
            journal.flush()
            clock.forward(86400)
        kept = [int(path[1:]) for path in paths(tmp_path / MOUNT_ID)]
    assert kept[-1] == 119
    assert 120 - 100 <= kept[0] <= 120 - 90
    assert verified(tmp_path / MOUNT_ID).whole
