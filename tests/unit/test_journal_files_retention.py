"""Retention by number, age and size: what goes, what a hold keeps, and what `verify` says of it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files import retention
from policyfs.journal.files.holds import HOLDS, Hold, add_hold, read_holds
from policyfs.journal.files.retention import Removals, Retention, removed_so_far, retention_of
from policyfs.journal.files.segments import SegmentDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain.damage import DELETED
from policyfs.trail.chain.removed import ranges_of
from policyfs.trail.lines.line import iso_time
from tests.support.models.twins import fd_of
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

    def hold(self, first: int, last: int) -> None:
        begun = Clock()()
        times = [iso_time(begun + day * DAY * 1_000_000_000) for day in (first, last)]
        add_hold(self.directory, Hold("case", *times, "", times[0]))

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


@pytest.mark.parametrize("limits", [Retention(3), Retention(age_s=3 * DAY), Retention(size=3 * SMALL)])
def test_a_hold_wins_and_a_hole_around_it_is_no_damage(tmp_path: Path, limits: Retention) -> None:
    recorder = Recorder(tmp_path, limits)
    recorder.days(2)
    recorder.hold(1, 3)
    recorder.days(20)
    kept = recorder.numbers()
    assert kept != list(range(kept[0], kept[-1] + 1))  # there is a hole
    held = [record for record in read_all(recorder.directory) if record.event is not None]
    days = {(record.time_ns - Clock()()) // (DAY * 1_000_000_000) for record in held}
    assert {1, 2, 3} <= days
    assert not {8, 9, 10} & days
    recorder.journal.close()
    report = verified(recorder.directory)
    assert report.breaks == ()
    assert report.signed > 0


def test_a_hold_that_comes_between_record_and_removal_wins(tmp_path: Path, monkeypatch) -> None:
    """The removal waits for an fsync, which a slow disk delays. `audit hold add` had said "held" by then."""
    recorder = Recorder(tmp_path, Retention(3))
    carry_out = Removals.carry_out

    def after_a_hold(self: Removals, seq: int) -> bool:
        if self._waiting and not read_holds(recorder.directory):
            recorder.hold(0, 3)
        return carry_out(self, seq)

    monkeypatch.setattr(Removals, "carry_out", after_a_hold)
    recorder.days(12)
    assert read_holds(recorder.directory)
    assert {1, 2, 3} <= set(recorder.numbers())
    assert len(recorder.numbers()) < 12
    recorder.journal.close()
    assert verified(recorder.directory).breaks == ()


def test_a_hold_that_comes_during_the_removal_waits_for_its_end(tmp_path: Path, monkeypatch) -> None:
    recorder = Recorder(tmp_path, Retention(3))
    carry_out, found = Removals.carry_out, []

    def add() -> None:
        recorder.hold(0, 30)
        found.extend(recorder.numbers())

    adder = threading.Thread(target=add)

    def read_then_wait(directory: Path) -> list[Hold]:
        holds = read_holds(directory)
        if not adder.ident:
            adder.start()
            adder.join(0.5)
        return holds

    def with_a_hold(self: Removals, seq: int) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(retention, "read_holds", read_then_wait)
            return carry_out(self, seq)

    monkeypatch.setattr(Removals, "carry_out", with_a_hold)
    recorder.days(12)
    adder.join(20)
    assert found
    assert set(found) <= set(recorder.numbers()), "`audit hold add` had said that they are held"
    recorder.journal.close()
    assert whole(recorder)


def test_a_removal_does_not_wait_for_a_hold_that_is_being_added(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(3))
    holds = recorder.directory / HOLDS
    holds.mkdir(mode=0o700)
    with fd_of(holds, os.O_RDONLY) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        recorder.days(8)
        assert recorder.numbers()[0] == 1
    recorder.days(2)
    assert len(recorder.numbers()) <= 4
    recorder.journal.close()
    assert whole(recorder)


@pytest.mark.parametrize("kind", ["no room", "no directory"])
def test_rotation_goes_on_where_no_hold_can_be_added(tmp_path: Path, monkeypatch, kind: str) -> None:
    recorder = Recorder(tmp_path, Retention(3))
    if kind == "no directory":
        (tmp_path / "empty").mkdir()
        (recorder.directory / HOLDS).symlink_to(tmp_path / "empty")
    mkdir = os.mkdir

    def full(path: Path, *args: object, **more: object) -> None:
        if Path(path).name == HOLDS:
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(path, *args, **more)

    monkeypatch.setattr(os, "mkdir", full)
    recorder.days(8)
    assert len(recorder.numbers()) <= 4
    recorder.journal.close()
    assert whole(recorder)


def test_nothing_is_removed_while_this_process_alone_cannot_lock_the_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may then add a hold, and tell its user that the segments stay."""
    recorder = Recorder(tmp_path, Retention(3))

    def no_descriptor(_directory: Path, *, wait: bool) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(retention, "lock_holds", no_descriptor)
        recorder.days(8)
        assert recorder.numbers()[0] == 1
    recorder.days(2)
    assert len(recorder.numbers()) <= 4
    recorder.journal.close()
    assert whole(recorder)


def test_a_hold_that_the_first_removal_makes_room_for_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk there is no directory of holds, so nothing can be locked."""
    recorder = Recorder(tmp_path, Retention(0))
    recorder.days(6)
    place, removed = recorder.journal._writer._directory, []
    removals = Removals(place)
    names = [file.name for file in segments(recorder.directory)]
    removals.add(1, names[:4])

    def no_room(_directory: Path, *, wait: bool) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def remove(name: str) -> None:
        removed.append(name)
        if not read_holds(recorder.directory):
            recorder.hold(0, 30)

    monkeypatch.setattr(retention, "lock_holds", no_room)
    monkeypatch.setattr(place, "remove", remove)
    assert removals.carry_out(1)
    assert {name.partition(".")[0] for name in removed} == {names[0].partition(".")[0]}
    monkeypatch.undo()
    recorder.journal.close()


def test_what_another_removed_is_named_beside_what_retention_removed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Retention(6))
    recorder.days(2)
    recorder.hold(1, 2)
    recorder.days(20)
    recorder.journal.close()
    files = segments(recorder.directory)
    numbers = recorder.numbers()
    index = next(n for n in range(1, len(files)) if numbers[n] != numbers[n - 1] + 1)
    for file in (files[index], files[index + 1]):  # right behind the hole
        file.unlink()
        file.with_name(file.name.partition(".")[0] + ".seal").unlink()
    (found,) = verified(recorder.directory).breaks
    assert found.kind == DELETED
    assert f"segment {numbers[index]} to {numbers[index + 1]} is missing" in found.what


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
    Also: ::test_what_another_removed_is_named_beside_what_retention_removed
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

