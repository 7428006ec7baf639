"""The journal on a real directory: strengths, order, rotation, resumption, what goes missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

import policyfs.journal.writing.journal as journal_module
from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import kept_digests, policy_text, read_pointer, read_policy
from policyfs.journal.writing.accounts import BURST, RATE, Limits
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.journal.writing.ticket import AHEAD
from policyfs.kernel.bridge import Appender
from policyfs.trail.chain import chain
from policyfs.trail.chain.restarts import KILLED
from policyfs.trail.lines.line import LINE_BYTES
from tests.support.machine.counts import count
from tests.support.mount.trail import (
    MOUNT_ID,
    SECOND_NS,
    START_NS,
    Clock,
    a_denial,
    a_journal,
    an_event,
    kinds,
    paths,
    read_all,
    segments,
    verified,
    write_trail,
)

NO_EVENT = an_event(since_ns="no time")
"""A bug in a caller."""


def test_required_is_in_the_file_when_record_returns(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/one"), Audit.REQUIRED)
        lines = segments(tmp_path / MOUNT_ID)[0].read_bytes().splitlines()
        assert json.loads(lines[-1])["path"] == "/one"
        assert json.loads(lines[0])["type"] == "header"


def test_best_effort_waits_for_flush(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/one"), Audit.BEST_EFFORT)
        assert paths(tmp_path / MOUNT_ID) == []
        assert journal.stats().queued == 1
        journal.flush()
        assert paths(tmp_path / MOUNT_ID) == [b"/one"]
        assert journal.stats().queued == 0


def test_a_flush_is_due_once_there_is_something_to_do(tmp_path: Path) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock=clock) as journal:
        clock.forward(1)
        assert journal.is_due, "to look after its directory, and to sync its first lines"
        journal.flush()
        assert not journal.is_due
        journal.record(an_event(b"/one"), Audit.BEST_EFFORT)
        assert journal.is_due
        journal.flush()
        clock.forward(1)
        assert journal.is_due, "to sync"
        journal.flush()
        clock.forward(29)
        assert not journal.is_due, "nothing was written since the last look"
        clock.forward(1)
        assert journal.is_due, "to look after its directory"
        journal.flush()
        journal.record(a_denial(), Audit.REQUIRED)
        assert journal.is_due, "it stands for its repeats"


def test_off_is_nowhere(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [])
    with a_journal(tmp_path) as journal:
        journal.record(an_event(), Audit.OFF)
        journal.record(a_denial(), Audit.OFF)
    assert paths(directory) == []


def test_the_file_keeps_the_order_of_record_while_little_waits(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        for number in range(AHEAD):
            journal.record(an_event(b"/best-%d" % number), Audit.BEST_EFFORT)
        journal.record(an_event(b"/required"), Audit.REQUIRED)
        journal.record(an_event(b"/after"), Audit.BEST_EFFORT)
    expected = [b"/best-%d" % number for number in range(AHEAD)] + [b"/required", b"/after"]
    assert paths(tmp_path / MOUNT_ID) == expected


def test_a_required_event_waits_for_no_more_than_a_slice_of_the_queue(tmp_path: Path) -> None:
    """Attack E1.6: Queue as many events as possible, so that another app's events wait behind them
    Guard: policyfs/journal/writing/journal.py::Journal._commit_group,
    policyfs/journal/writing/backlog.py::Backlog.add
    Also: ::test_the_queue_is_bounded_in_bytes_and_no_app_gets_more_than_is_left_for_others
    Without: ::test_it_waits_for_more_of_them_where_nothing_bounds_the_slice
    """
    directory = tmp_path / MOUNT_ID
    with a_journal(tmp_path) as journal:
        for number in range(4000):
            journal.record(an_event(b"/best-%d" % number), Audit.BEST_EFFORT)
        journal.record(an_event(b"/required"), Audit.REQUIRED)
        assert paths(directory) == [b"/best-%d" % number for number in range(AHEAD)] + [b"/required"]
        long = b"/" + b"x" * 1000
        for number in range(500):
            journal.record(an_event(long, exe="x" * 1000, uid=number), Audit.BEST_EFFORT)
    assert len(paths(directory)) == 4501
    assert verified(directory).whole


def test_it_waits_for_more_of_them_where_nothing_bounds_the_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "AHEAD", 4000)
    monkeypatch.setattr(journal_module, "SLICE_BYTES", 1 << 30)
    with a_journal(tmp_path) as journal:
        for number in range(4000):
            journal.record(an_event(b"/%d" % number), Audit.BEST_EFFORT)
        journal.record(an_event(b"/required"), Audit.REQUIRED)
        assert len(paths(tmp_path / MOUNT_ID)) == 4001


def test_the_queue_is_bounded_in_bytes_and_no_app_gets_more_than_is_left_for_others(tmp_path: Path) -> None:
    with a_journal(tmp_path, queue_bytes=100_000) as journal:
        for number in range(200):
            journal.record(an_event(b"/%d" % number + b"x" * 900), Audit.BEST_EFFORT)
        mine = journal.stats()
        assert mine.queued - 1 == 200 - mine.dropped
        assert 20 <= mine.queued <= 30  # half of it, at 2 KB each
        for number in range(10):
            journal.record(an_event(b"/%d" % number, app="other"), Audit.BEST_EFFORT)
        assert journal.stats().dropped == mine.dropped
    records = [record for record in read_all(tmp_path / MOUNT_ID) if record.event]
    assert len([record for record in records if record.event.app == "other"]) == 10


def test_commits_of_several_are_written_in_one_go_and_one_bug_is_nobody_elses(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        tickets = [journal.admit(an_event(b"/%d" % number), Audit.REQUIRED) for number in range(5)]
        bad = journal.admit(NO_EVENT, Audit.REQUIRED)
        assert bad is not None
        assert paths(tmp_path / MOUNT_ID) == []
        group = [ticket for ticket in tickets if ticket is not None]
        journal.commit([*group[:2], bad, *group[2:]])
        for ticket in group:
            ticket.check()
        with pytest.raises(TypeError):
            bad.check()
    assert paths(tmp_path / MOUNT_ID) == [b"/%d" % number for number in range(5)]
    assert verified(tmp_path / MOUNT_ID).whole


# -- what one app may cause


def _told(directory: Path, app: str) -> int:
    """How many events of an app are on record, those counted included."""
    events = [record.event for record in read_all(directory) if record.event]
    return sum(event.weight for event in events if event.app == app)


def _size(directory: Path) -> int:
    return sum(segment.stat().st_size for segment in segments(directory))


EVIL = bytes([0xFF]) * 250


@pytest.mark.parametrize(
    ("denied", "audit"), [(True, Audit.REQUIRED), (True, Audit.BEST_EFFORT), (False, Audit.BEST_EFFORT)]
)
def test_a_flood_of_different_names_grows_by_no_more_than_its_rate_and_is_counted(
    tmp_path: Path, denied: bool, audit: Audit
) -> None:
    """Ten seconds of 2,000 events each, half of one name, half always new, in directories of odd names. In
    `make soak`, 100,000 denials each second."""
    rate = count(2000, 100_000) if denied else 2000
    directory, clock, make = tmp_path / MOUNT_ID, Clock(), a_denial if denied else an_event
    with a_journal(tmp_path, clock, Limits()) as journal:
        for turn in range(10):
            for number in range(rate):
                name = b"/same" if number % 2 else b"/%d" % number
                path = b"/" + EVIL + b"/%d" % (number % 200) + name
                journal.record(make(path, time_ns=clock.now_ns, pid=turn), audit)
                clock.forward(1 / rate)
            if turn == 4:
                journal.record(a_denial(b"/other", app="honest"), Audit.REQUIRED)
            journal.flush()
        grown = _size(directory)
    assert grown <= (1_000_000 if denied else RATE * 10 + BURST + 600_000)
    assert _told(directory, "gallery") == 10 * rate
    honest = [record.event for record in read_all(directory) if record.event and record.event.app == "honest"]
    assert [(event.path, event.folded) for event in honest] == [(b"/other", "")]
    folded = {record.event.folded for record in read_all(directory) if record.event}
    assert folded == {"", "directory", "operation"}
    assert verified(directory).whole


def test_what_gave_access_and_must_be_on_record_is_never_counted_instead(tmp_path: Path) -> None:
    """An app beyond its budget is told how long to wait: so long that it stays within its rate."""
    clock = Clock()
    with a_journal(tmp_path, clock, Limits()) as journal:
        start_ns = clock.now_ns
        for number in range(5000):
            ticket = journal.admit(an_event(b"/%d" % number), Audit.REQUIRED)
            assert ticket is not None
            clock.forward(ticket.wait_s)
            journal.commit([ticket])
            ticket.check()
        seconds = (clock.now_ns - start_ns) / SECOND_NS
        other = journal.admit(an_event(app="other"), Audit.REQUIRED)
        assert other is not None
        assert other.wait_s == 0
    assert paths(tmp_path / MOUNT_ID) == [b"/%d" % number for number in range(5000)]
    assert seconds > 1
    assert _size(tmp_path / MOUNT_ID) <= RATE * seconds + BURST + 2000


def test_counts_are_kept_while_nothing_can_be_written(tmp_path: Path) -> None:
    root, clock = tmp_path / "root", Clock()
    directory = root / MOUNT_ID
    with a_journal(root, clock, Limits(1, 1)) as journal:
        for number in range(100):
            journal.record(a_denial(b"/%d" % number, time_ns=clock.now_ns), Audit.REQUIRED)
        shutil.rmtree(root)
        clock.forward(3)
        with pytest.raises(JournalError):
            journal.record(an_event(), Audit.REQUIRED)
        journal.flush()
        assert journal.stats().queued == 0, "nothing piles up"
        directory.mkdir(mode=0o700, parents=True)
        clock.forward(3)
        journal.flush()
        journal.flush()
    assert _told(directory, "gallery") == 99  # and one is gone with the directory


def test_lines_are_chained_and_numbered_without_a_hole(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(5)])
    previous = chain.GENESIS
    for seq, line in enumerate(segments(directory)[0].read_bytes().splitlines(), start=1):
        sealed = chain.split(line)
        assert sealed is not None
        assert sealed.chain == chain.digest(previous, sealed.body)
        assert chain.seq_of(sealed.body) == seq
        previous = sealed.chain
    assert verified(directory).whole


def test_directory_and_files_are_for_root_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        directory = write_trail(tmp_path / "root", [an_event()])
    finally:
        os.umask(old)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert segments(directory)[0].stat().st_mode & 0o777 == 0o600


# -- what is dropped is counted


def test_a_full_queue_drops_and_says_so_where_it_happened(tmp_path: Path) -> None:
    with a_journal(tmp_path, queue=6) as journal:
        for number in range(5):
            event = an_event(b"/%d" % number, time_ns=START_NS + number)
            journal.record(event, Audit.BEST_EFFORT)
        journal.flush()
        journal.record(an_event(b"/after"), Audit.BEST_EFFORT)
        assert journal.stats().dropped == 2
    records = read_all(tmp_path / MOUNT_ID)
    assert [record.kind for record in records] == ["header", *["event"] * 3, "gap", "event", "close"]
    gap = records[4].fields
    assert gap["dropped"] == 2
    assert (gap["first"], gap["last"]) == ("2026-03-01T08:00:00.000000003Z", "2026-03-01T08:00:00.000000004Z")
    assert gap["reason"] == "queue full"


def test_a_flood_of_drops_takes_no_memory(tmp_path: Path) -> None:
    with a_journal(tmp_path, queue=20) as journal:
        for _ in range(5000):
            journal.record(an_event(), Audit.BEST_EFFORT)
        assert journal.stats().queued == 11  # ten events and one gap
    assert [record.fields["dropped"] for record in read_all(tmp_path / MOUNT_ID) if record.kind == "gap"] == [
        4990
    ]


def test_an_event_that_cannot_be_formatted_does_not_stick_and_is_told(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(NO_EVENT, Audit.BEST_EFFORT)
        journal.flush()
        journal.record(an_event(b"/next"), Audit.BEST_EFFORT)
        journal.flush()
        stats = journal.stats()
        assert (stats.dropped, stats.bugs, stats.queued) == (1, 1, 0)
        assert "TypeError" in stats.last_error
    assert paths(tmp_path / MOUNT_ID) == [b"/next"]
    gap = next(record.fields for record in read_all(tmp_path / MOUNT_ID) if record.kind == "gap")
    assert gap["dropped"] == 1
    assert "bug" in str(gap["reason"])


def test_a_bug_of_one_caller_is_not_anothers(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(NO_EVENT, Audit.BEST_EFFORT)
        journal.record(an_event(b"/required"), Audit.REQUIRED)
        with pytest.raises(TypeError):
            journal.record(NO_EVENT, Audit.REQUIRED)
        journal.record(an_event(b"/next"), Audit.REQUIRED)
    assert paths(tmp_path / MOUNT_ID) == [b"/required", b"/next"]
    assert verified(tmp_path / MOUNT_ID).whole


# -- repeated denials


@pytest.mark.parametrize("audit", [Audit.REQUIRED, Audit.BEST_EFFORT])
def test_repeats_of_a_denial_are_counted(tmp_path: Path, audit: Audit) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock) as journal:
        for number in range(100):
            journal.record(a_denial(time_ns=clock.now_ns + number), audit)
        journal.flush()
        assert len(paths(tmp_path / MOUNT_ID)) == 1
        clock.forward(1.5)
        journal.flush()
        assert journal.stats().folded == 99
    first, folded = [record.event for record in read_all(tmp_path / MOUNT_ID) if record.event]
    assert first.repeats == 0
    assert (folded.repeats, folded.since_ns, folded.time_ns) == (99, START_NS, START_NS + 99)
    assert folded._replace(repeats=0, since_ns=None, time_ns=START_NS) == first


def test_only_the_same_denial_is_a_repeat_and_access_never_is(tmp_path: Path) -> None:
    events = [
        a_denial(),
        a_denial(b"/Private/b.jpg"),
        a_denial(pid=4243),
        a_denial(operation="unlink"),
        an_event(),
        an_event(),
    ]
    directory = write_trail(tmp_path, events)
    assert [record.event for record in read_all(directory) if record.event] == events


def test_a_denial_after_the_window_is_recorded_anew_and_the_counts_before_it(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        for offset in (0, 1, 2, 3 * SECOND_NS, 3 * SECOND_NS + 1):
            journal.record(a_denial(time_ns=START_NS + offset), Audit.REQUIRED)
    repeats = [record.event.repeats for record in read_all(tmp_path / MOUNT_ID) if record.event]
    assert sorted(repeats) == [0, 0, 1, 2]


# -- rotation


def test_segments_rotate_and_each_names_the_one_before(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(40)], segment_bytes=4096)
    files = segments(directory)
    assert len(files) > 3
    previous = chain.GENESIS
    for number, path in enumerate(files, start=1):
        lines = path.read_bytes().splitlines()
        header = json.loads(lines[0])
        assert (header["type"], header["segment"], header["previous"]) == ("header", number, previous)
        assert header["mount_id"] == MOUNT_ID
        assert header["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        sealed = chain.split(lines[-1])
        assert sealed is not None
        previous = sealed.chain
    assert verified(directory).whole


def test_rotation_keeps_as_many_as_asked_and_says_what_it_removed(tmp_path: Path) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=4096, keep=3) as journal:
        for number in range(100):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
            clock.forward(2)
            journal.flush()
    directory = tmp_path / MOUNT_ID
    assert len(segments(directory)) == 3
    assert segments(directory)[0].name.startswith("000000")
    pruned = [record for record in read_all(directory) if record.kind == "pruned"]
    assert pruned
    assert verified(directory).whole


def test_segment_names_sort_by_number_and_time(tmp_path: Path) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=1) as journal:
        for _ in range(12):
            journal.record(an_event(), Audit.REQUIRED)
            clock.forward(61)
    names = [path.name for path in segments(tmp_path / MOUNT_ID)]
    assert names == sorted(names)
    assert names[0] == "00000001-20260301T080000Z.jsonl"


# -- resumption


def test_a_clean_restart_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/one")])
    before = segments(directory)[0].read_bytes()
    write_trail(tmp_path, [an_event(b"/two")])
    assert len(segments(directory)) == 1
    assert segments(directory)[0].read_bytes().startswith(before)
    assert kinds(directory) == ["header", "event", "close", "resume", "event", "close"]
    assert verified(directory).whole


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_cut_line_is_recorded_and_never_rewritten(tmp_path: Path, cut: int) -> None:
    """Fault trail.11: A line of the trail was cut off (power failure, kill)
    App: no error
    Store: unchanged
    Trail: a record of the cut line; the chain continues after it
    """
    directory = write_trail(tmp_path, [an_event(b"/one"), an_event(b"/two")])
    path = segments(directory)[0]
    whole = path.read_bytes()
    last_full = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last_full + min(cut, len(whole) - last_full - 1)])
    before = path.read_bytes()
    write_trail(tmp_path, [an_event(b"/three")])
    assert path.read_bytes() == before
    assert len(segments(directory)) == 2
    found = json.loads(segments(directory)[1].read_bytes().splitlines()[1])
    assert found["type"] == "recovered"
    assert (found["segment"], found["offset"]) == (path.name, last_full)
    report = verified(directory)
    assert report.whole, report.breaks
    assert [note.what.partition(";")[0] for note in report.notes] == [
        KILLED,
        f"after a crash, {len(before) - last_full} bytes of a cut line were found at the end of {path.name}",
    ]


def test_a_segment_whose_first_line_was_cut_is_passed_over(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(10)], segment_bytes=4096)
    path = segments(directory)[-1]
    path.write_bytes(path.read_bytes()[:20])
    last = verified(directory).seq
    write_trail(tmp_path, [an_event(b"/after")])
    assert verified(directory).whole
    assert verified(directory).seq == last + 4  # header, recovered, event, close


def test_an_empty_segment_left_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    (directory / "00000002-20260301T080000Z.jsonl").touch()
    assert not verified(directory).whole
    write_trail(tmp_path, [an_event()])
    assert verified(directory).whole


def record_without_end(directory: Path, reports: int) -> None:
    """What the child does: record, then say so."""
    journal = Journal(str(directory), MOUNT_ID, keep=0, segment_bytes=20_000)
    number = 0
    while True:
        journal.record(an_event(b"/%d/%d" % (os.getpid(), number)), Audit.REQUIRED)
        os.write(reports, b"%d\n" % number)
        number += 1


def test_killed_at_any_moment_nothing_required_is_lost(tmp_path: Path) -> None:
    """A child records as fast as it can and reports what was recorded; it is killed midway."""
    directory = tmp_path / MOUNT_ID
    for _ in range(5):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                record_without_end(directory, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as reports:
            reported = [reports.readline() for _ in range(200)]
            os.kill(child, signal.SIGKILL)
            reported += reports.readlines()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with a_journal(tmp_path):
            pass
        recorded = set(paths(directory))
        assert {b"/%d/%d" % (child, int(number)) for number in reported if number.endswith(b"\n")} <= recorded
        assert verified(directory).whole


# -- two writers, and bad places


def test_a_second_journal_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with a_journal(tmp_path), pytest.raises(JournalError, match="already running"), a_journal(tmp_path):
        pass
    write_trail(tmp_path, [an_event()])


def test_a_directory_that_others_may_write_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / MOUNT_ID).mkdir()
    (tmp_path / MOUNT_ID).chmod(0o777)
    with pytest.raises(JournalError, match="chmod 0700"), a_journal(tmp_path):
        pass


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o770, True), (0o1777, False), (0o755, False)])
def test_a_trail_root_in_which_others_may_rename_is_refused(tmp_path: Path, mode: int, refused: bool) -> None:
    """They could move the trail away, so that nothing that must be on record is allowed any more."""
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(mode)
    if refused:
        with pytest.raises(JournalError, match="chown both to root, and chmod 0700 both"), a_journal(root):
            pass
    else:
        write_trail(root, [an_event()])


def test_a_symlink_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / MOUNT_ID).symlink_to("elsewhere")
    with pytest.raises(JournalError, match="cannot record"), a_journal(tmp_path):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_symlink_or_fifo_in_place_of_a_segment_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / MOUNT_ID
    directory.mkdir(mode=0o700)
    os.mkfifo(directory / "00000001-20260301T080000Z.jsonl")
    with pytest.raises(JournalError, match="not a regular file"), a_journal(tmp_path):
        pass
    (directory / "00000001-20260301T080000Z.jsonl").unlink()
    (directory / "00000001-20260301T080000Z.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(JournalError, match="cannot record"), a_journal(tmp_path):
        pass


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / MOUNT_ID).write_text("")
    with pytest.raises(JournalError, match="cannot record"), a_journal(tmp_path):
        pass


# -- changed from outside while it runs


def test_a_deleted_segment_is_noticed_and_recording_goes_on_in_a_new_one(tmp_path: Path) -> None:
    directory = tmp_path / MOUNT_ID
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/lost"), Audit.REQUIRED)
        segments(directory)[0].unlink()
        journal.record(an_event(b"/kept"), Audit.REQUIRED)
    assert paths(directory) == [b"/kept"]
    assert "damage" in kinds(directory)
    report = verified(directory)
    assert "segments before this segment are missing" in report.breaks[0].what


@pytest.mark.parametrize("length", [0, 700, 1200])
def test_a_truncated_segment_is_noticed_and_the_break_has_a_place(tmp_path: Path, length: int) -> None:
    directory = tmp_path / MOUNT_ID
    with a_journal(tmp_path) as journal:
        for number in range(5):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        os.truncate(segments(directory)[0], length)
        journal.record(an_event(b"/after"), Audit.REQUIRED)
    report = verified(directory)
    assert not report.whole
    assert {found.place.segment for found in report.breaks} <= {path.name for path in segments(directory)}
    assert "after" in segments(directory)[1].read_text()


def test_a_line_appended_by_somebody_else_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / MOUNT_ID
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/one"), Audit.REQUIRED)
        with segments(directory)[0].open("ab") as stream:
            stream.write(b'{"type":"event","forged":true}\n')
        journal.record(an_event(b"/two"), Audit.REQUIRED)
    report = verified(directory)
    assert [(found.place.segment, found.place.line) for found in report.breaks] == [
        (segments(directory)[0].name, 3)
    ]


def test_a_removed_directory_is_made_again_in_the_same_root_and_the_loss_is_told(tmp_path: Path) -> None:
    """Fault trail.9: The trail's directory is removed, or moved away
    App: no error. The daemon creates the directory again in the same trail root
    Store: unchanged
    Trail: the chain continues in the new directory, after a `damage` record
    """
    directory = tmp_path / MOUNT_ID
    policy = policy_text("cd" * 32, [("p.yaml", b"text\n")])
    with a_journal(tmp_path) as journal:
        journal.tell("mount", {"policy": policy.digest}, policy=policy)
        shutil.rmtree(directory)
        journal.record(an_event(b"/on record"), Audit.REQUIRED)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert _texts(directory) == {policy.digest}
    assert paths(directory) == [b"/on record"]
    assert "damage" in kinds(directory)
    assert not verified(directory).whole


def test_the_loss_is_told_also_where_nothing_happens_for_a_second(tmp_path: Path) -> None:
    directory, clock = tmp_path / MOUNT_ID, Clock()
    with a_journal(tmp_path, clock, keep=2) as journal:
        journal.record(an_event(b"/lost"), Audit.REQUIRED)
        shutil.rmtree(directory)
        clock.forward(1.1)
        journal.flush()
        journal.record(an_event(b"/on record"), Audit.REQUIRED)
    assert paths(directory) == [b"/on record"]
    assert kinds(directory).count("damage") == 1


def test_a_removed_directory_refuses_access_until_it_is_back(tmp_path: Path) -> None:
    """With the root above it: a file system may have been unmounted there.

    Fault trail.10: The trail root is removed, or its file system unmounted
    App: EIO for requests that must be on record, until the root is back
    Store: unchanged
    Trail: the chain continues in the new directory
    Also:
    tests/unit/test_journal_journal_full.py::test_nothing_is_made_where_the_trails_file_system_was_unmounted,
    ::test_a_directory_moved_away_is_left_within_a_second
    """
    root = tmp_path / "root"
    directory = root / MOUNT_ID
    with a_journal(root) as journal:
        journal.record(an_event(b"/one"), Audit.REQUIRED)
        shutil.rmtree(root)
        for _ in range(3):
            with pytest.raises(JournalError, match=f"make the directory with `mkdir -p -m 700 {directory}`"):
                journal.record(an_event(b"/refused"), Audit.REQUIRED)
        journal.record(an_event(b"/waits"), Audit.BEST_EFFORT)
        journal.flush()
        assert journal.stats().failing
        assert "mkdir -p" in journal.stats().last_error
        assert not directory.exists()
        directory.mkdir(mode=0o700, parents=True)
        journal.record(an_event(b"/again"), Audit.REQUIRED)
        assert not journal.stats().failing
    assert paths(directory) == [b"/again", b"/waits"]
    gap = next(record.fields for record in read_all(directory) if record.kind == "gap")
    assert gap["refused"] == 3
    assert gap["requests"] == [{"app": "gallery", "operation": "open", "path": "/refused", "count": 3}]


def test_a_directory_moved_away_is_left_within_a_second(tmp_path: Path) -> None:
    directory = tmp_path / MOUNT_ID
    clock = Clock()
    with a_journal(tmp_path, clock) as journal:
        journal.record(an_event(b"/one"), Audit.REQUIRED)
        directory.rename(tmp_path / "moved")
        directory.mkdir(mode=0o700)
        clock.forward(1.1)
        journal.flush()
        journal.record(an_event(b"/two"), Audit.REQUIRED)
    assert paths(directory) == [b"/two"]
    assert paths(tmp_path / "moved") == [b"/one"]


@pytest.mark.parametrize("audit", [Audit.REQUIRED, Audit.BEST_EFFORT])
def test_the_first_write_after_a_rest_leaves_a_directory_moved_away(tmp_path: Path, audit: Audit) -> None:
    directory = tmp_path / MOUNT_ID
    clock = Clock()
    with a_journal(tmp_path, clock, appender=Appender()) as journal:
        for name in (b"/one", b"/two"):
            ticket = journal.admit(an_event(name), audit)
            if ticket is not None:
                assert journal.at_once([ticket]).wait(10)
            else:
                list(journal.flush_steps())
                journal.flush()
            if name == b"/one":
                directory.rename(tmp_path / "moved")
                directory.mkdir(mode=0o700)
                clock.forward(5)
    assert paths(directory) == [b"/two"]
    assert paths(tmp_path / "moved") == [b"/one"]


# -- threads, sync, close


def test_threads_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    stop = threading.Event()
    with a_journal(tmp_path, segment_bytes=50_000) as journal:

        def flusher() -> None:
            while not stop.is_set():
                journal.flush()

        def recorder(name: int) -> None:
            for number in range(300):
                audit = Audit.REQUIRED if number % 7 == 0 else Audit.BEST_EFFORT
                journal.record(an_event(b"/%d/%d" % (name, number)), audit)

        threads = [threading.Thread(target=recorder, args=(name,)) for name in range(4)]
        background = threading.Thread(target=flusher)
        background.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        stop.set()
        background.join(30)
        assert journal.stats().dropped == 0
    found = paths(tmp_path / MOUNT_ID)
    for name in range(4):
        mine = [path for path in found if path.startswith(b"/%d/" % name)]
        assert mine == [b"/%d/%d" % (name, number) for number in range(300)]
    assert verified(tmp_path / MOUNT_ID).whole


def test_sync_comes_at_most_once_a_second_and_at_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    synced: list[int] = []
    real = os.fsync
    with a_journal(tmp_path, clock) as journal:
        one = "policyfs.journal.writing.disk_sync.os.fsync"
        monkeypatch.setattr(one, lambda fd: (synced.append(fd), real(fd)))
        for _ in range(5):
            journal.record(an_event(), Audit.BEST_EFFORT)
            journal.flush()
        assert len(synced) == 0
        clock.forward(1)
        journal.flush()
        assert len(synced) == 1
        clock.forward(1)
        journal.flush()
        assert len(synced) == 1, "nothing new was written"
        journal.record(an_event(), Audit.REQUIRED)
    assert len(synced) == 2


def test_a_failed_sync_is_recorded_and_a_new_segment_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with a_journal(tmp_path, clock) as journal:
        journal.record(an_event(b"/unsure"), Audit.REQUIRED)
        clock.forward(2)
        with monkeypatch.context() as patch:
            patch.setattr("policyfs.journal.writing.disk_sync.os.fsync", failing)
            journal.flush()
        assert "fsync" in journal.stats().last_error
        journal.record(an_event(b"/after"), Audit.REQUIRED)
    directory = tmp_path / MOUNT_ID
    assert len(segments(directory)) == 2
    gap = next(record.fields for record in read_all(directory) if record.kind == "gap")
    assert "unsure_after" in gap
    report = verified(directory)
    assert report.whole
    assert "may not have reached the disk" in report.notes[0].what


def test_after_close_required_is_refused_and_best_effort_counted(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.close()
        journal.close()
        with pytest.raises(JournalError, match="closed"):
            journal.record(an_event(), Audit.REQUIRED)
        journal.record(an_event(), Audit.BEST_EFFORT)
        journal.flush()
        assert journal.stats().dropped == 1
    assert kinds(tmp_path / MOUNT_ID) == ["header", "close"]


def test_after_close_nobody_elses_descriptors_are_touched(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(), Audit.REQUIRED)
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(8)]  # they get the journal's old numbers
    journal.record(an_event(), Audit.BEST_EFFORT)
    journal.flush()
    for fd in others:
        assert os.path.samestat(os.fstat(fd), tmp_path.stat())
        os.close(fd)
    assert kinds(tmp_path / MOUNT_ID)[-1] == "close"


def test_stats_name_the_head_that_verify_finds(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(), Audit.REQUIRED)
        stats = journal.stats()
    report = verified(tmp_path / MOUNT_ID, expect={stats.seq: stats.head})
    assert report.whole
    assert stats.written == 1  # the header came with opening, before anything was counted
    assert stats.segment == segments(tmp_path / MOUNT_ID)[0].name


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with a_journal(tmp_path, segment_bytes=1000) as journal:
        for _ in range(20):
            journal.record(an_event(), Audit.REQUIRED)
    for _ in range(3):
        with a_journal(tmp_path), pytest.raises(JournalError), a_journal(tmp_path):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


# -- texts of policies


def _texts(directory: Path) -> set[str]:
    return set(kept_digests(directory))


def test_no_record_that_is_kept_lacks_the_text_of_its_policy(tmp_path: Path) -> None:
    """Policies change faster than segments, and events that name an old one are written late."""
    clock, directory = Clock(), tmp_path / MOUNT_ID
    texts = {f"{number:02x}" * 32: b"policy %d\n" % number for number in range(12)}
    for lives in range(2):
        with a_journal(tmp_path, clock, segment_bytes=4000, keep=3) as journal:
            before = ""
            for digest, text in texts.items():
                fields = {"policy": digest, "previous": before}
                policy = policy_text(digest, [("/etc/p.yaml", text)])
                journal.tell("policy", fields, policy=policy, previous=before)
                for _ in range(4):
                    event = an_event(b"/" + b"x" * 500, policy_digest=before or digest, time_ns=clock.now_ns)
                    journal.record(event, Audit.REQUIRED)
                before = digest
                clock.forward(2)
                journal.flush()
                every = [record.fields for record in read_all(directory) if record.kind != "header"]
                named = {str(one[name]) for one in every for name in ("policy", "previous") if name in one}
                assert named - {"", "ab" * 32} <= _texts(directory)
        assert len(segments(directory)) <= 4
        assert len(_texts(directory)) < len(texts) - lives


def test_a_text_is_there_before_the_first_record_that_names_it_also_where_the_directory_was_replaced(
    tmp_path: Path,
) -> None:
    clock, directory = Clock(), tmp_path / MOUNT_ID
    policy = policy_text("cd" * 32, [("/etc/a.yaml", b"a\n"), ("/etc/b.yaml", b"b\n")])
    with a_journal(tmp_path, clock) as journal:
        journal.tell("mount", {"policy": policy.digest}, policy=policy)
        assert read_policy(directory, policy.digest)[1][1] == b"b\n"
        directory.rename(tmp_path / "moved")
        directory.mkdir(mode=0o700)
        clock.forward(2)
        journal.flush()
        journal.record(an_event(policy_digest=policy.digest), Audit.REQUIRED)
        assert _texts(directory) == {policy.digest}
        assert read_pointer(directory) == (policy.digest, "")
        (directory / "policies" / policy.digest / "a.yaml").write_bytes(b"changed")
        journal.tell("policy", {"policy": policy.digest}, policy=policy)
        assert read_policy(directory, policy.digest)[0][1] == b"a\n"


def test_a_record_of_a_mount_is_no_longer_than_any_line(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        options = {f"option{number}": "\U0001f4f7" * 4000 for number in range(20)}
        journal.tell("mount", {"options": options, "policy": "cd" * 32})
    lines = segments(tmp_path / MOUNT_ID)[0].read_bytes().splitlines()
    assert max(map(len, lines)) <= LINE_BYTES
    assert verified(tmp_path / MOUNT_ID).whole
