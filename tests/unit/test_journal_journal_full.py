"""The journal on a file system that is full or read-only: a small tmpfs of the test's own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import kept_digests, policy_text
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.journal.writing.recorders import heads
from tests.support.machine.namespace import detach
from tests.support.machine.processes import start_as
from tests.support.mount.trail import (
    MOUNT_ID,
    Clock,
    a_denial,
    a_journal,
    an_event,
    kinds,
    paths,
    read_all,
    segments,
    verified,
)

pytestmark = pytest.mark.mount

MS_RDONLY = 1
MS_REMOUNT = 32
SIZE = 256 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(place: Path, flags: int = 0, size: int = SIZE) -> None:
    options = f"size={size},mode=0700".encode()
    if _libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options) != 0:
        raise OSError(ctypes.get_errno(), "mount tmpfs")


@pytest.fixture
def small(arena: Path) -> Iterator[Path]:
    """A trail root on a file system of 256 KiB."""
    place = arena / "small"
    place.mkdir()
    mount_tmpfs(place)
    yield place
    detach(str(place))


class Ballast:
    """A file that leaves only so much room on the file system."""

    def __init__(self, root: Path) -> None:
        self._path = root / "ballast"

    def leave(self, room: int) -> None:
        stat = os.statvfs(self._path.parent)
        self._path.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - room)))

    def drop(self) -> None:
        self._path.unlink()


def fill(journal: Journal) -> int:
    """Record required events until the disk is full; returns how many made it."""
    for number in range(10_000):
        try:
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        except JournalError:
            assert "No space left" in journal.stats().last_error
            return number
    raise AssertionError("the disk did not fill up")


def test_full_means_refused_and_no_half_line_stays(small: Path) -> None:
    directory = small / MOUNT_ID
    with a_journal(small) as journal:
        done = fill(journal)
        assert segments(directory)[0].read_bytes().endswith(b"}\n")
        assert journal.stats().failing
        assert journal.stats().refused == 1
        assert paths(directory) == [b"/%d" % number for number in range(done)]


def test_recording_resumes_with_a_gap_once_there_is_room(small: Path) -> None:
    directory = small / MOUNT_ID
    ballast = Ballast(small)
    with a_journal(small, queue=10) as journal:
        ballast.leave(8192)
        done = fill(journal)
        with pytest.raises(JournalError):
            journal.record(a_denial(), Audit.REQUIRED)
        for number in range(7):
            journal.record(an_event(b"/queued-%d" % number), Audit.BEST_EFFORT)
        journal.flush()
        assert journal.stats().dropped == 2
        ballast.drop()
        journal.flush()
        journal.record(an_event(b"/after"), Audit.REQUIRED)
        assert not journal.stats().failing
    expected = [b"/%d" % number for number in range(done)]
    expected += [b"/queued-%d" % number for number in range(5)] + [b"/after"]
    assert paths(directory) == expected
    gaps = [record.fields for record in read_all(directory) if record.kind == "gap"]
    assert [(gap["refused"], gap["dropped"]) for gap in gaps] == [(2, 0), (0, 2)]
    assert "No space left" in str(gaps[0]["reason"])
    assert verified(directory).whole


def test_a_batch_that_fits_only_in_part_is_taken_back_and_written_later(small: Path) -> None:
    """tmpfs takes whole pages: a batch longer than the room left is cut in the middle of a line."""
    directory = small / MOUNT_ID
    ballast = Ballast(small)
    with a_journal(small) as journal:
        ballast.leave(8192)
        before = segments(directory)[0].read_bytes()
        for number in range(90):
            journal.record(an_event(b"/%d" % number), Audit.BEST_EFFORT)
        journal.flush()
        assert journal.stats().failing
        assert segments(directory)[0].read_bytes() == before
        ballast.drop()
        journal.flush()
        assert paths(directory) == [b"/%d" % number for number in range(90)]
    assert verified(directory).whole


def test_full_at_rotation_refuses_and_leaves_no_half_segment(small: Path) -> None:
    directory = small / MOUNT_ID
    ballast = Ballast(small)
    with a_journal(small, segment_bytes=4000) as journal:
        while segments(directory)[0].stat().st_size < 4000:
            journal.record(an_event(), Audit.REQUIRED)
        ballast.leave(0)
        for _ in range(3):
            with pytest.raises(JournalError):
                journal.record(an_event(), Audit.REQUIRED)
        ballast.drop()
        journal.record(an_event(b"/after"), Audit.REQUIRED)
    assert [path.name[:8] for path in segments(directory)] == ["00000001", "00000002"]
    assert paths(directory)[-1] == b"/after"
    assert verified(directory).whole


def test_repeats_of_a_recorded_denial_are_answered_while_full_but_new_ones_are_refused(small: Path) -> None:
    clock = Clock()
    ballast = Ballast(small)
    with a_journal(small, clock) as journal:
        journal.record(a_denial(time_ns=clock.now_ns), Audit.REQUIRED)
        ballast.leave(0)
        fill(journal)
        journal.record(a_denial(time_ns=clock.now_ns + 1), Audit.REQUIRED)
        clock.forward(2)
        with pytest.raises(JournalError):
            journal.record(a_denial(time_ns=clock.now_ns), Audit.REQUIRED)
        for _ in range(50):
            journal.flush()
        ballast.drop()
        journal.flush()
    folded = [record.event for record in read_all(small / MOUNT_ID) if record.event and record.event.repeats]
    assert [event.repeats for event in folded] == [1]


def record_four_segments(journal: Journal, directory: Path) -> None:
    while len(segments(directory)) < 4:
        journal.record(an_event(b"/" + b"x" * 900), Audit.REQUIRED)


def test_a_removal_that_could_not_be_recorded_is_tried_again_and_recorded_once(small: Path) -> None:
    directory = small / MOUNT_ID
    clock = Clock()
    ballast = Ballast(small)
    with a_journal(small, clock, segment_bytes=8192, keep=2) as journal:
        record_four_segments(journal, directory)
        ballast.leave(0)
        fill(journal)
        for _ in range(3):
            clock.forward(2)
            journal.flush()
        assert len(segments(directory)) == 4
        ballast.drop()
        clock.forward(2)
        journal.flush()
    assert len(segments(directory)) <= 3
    assert kinds(directory).count("pruned") == 1
    assert verified(directory).whole


def test_damage_found_by_a_removal_that_could_not_be_recorded_is_told_later(small: Path) -> None:
    directory = small / MOUNT_ID
    clock = Clock()
    ballast = Ballast(small)
    with a_journal(small, clock, segment_bytes=8192, keep=2) as journal:
        record_four_segments(journal, directory)
        segments(directory)[-1].unlink()
        ballast.leave(0)
        clock.forward(2)
        journal.flush()
        assert len(segments(directory)) == 3
        ballast.drop()
        clock.forward(2)
        journal.flush()
    assert (kinds(directory).count("damage"), kinds(directory).count("pruned")) == (1, 1)


def test_what_another_recorder_sees_of_a_chain_is_never_taken_back(small: Path) -> None:
    """A batch that the disk takes in part is cut off again: nobody may bear witness to it."""
    directory = small / MOUNT_ID
    ballast = Ballast(small)

    def look(channel: Any) -> set[str]:
        seen = set()
        while not channel.poll():
            seen.add(heads(small, but="")[MOUNT_ID])
        return seen

    with a_journal(small) as journal:
        child = start_as(0, look)
        for number in range(90):
            journal.record(an_event(b"/%d" % number), Audit.BEST_EFFORT)
        for round_ in range(400):
            ballast.leave(8192 + 4096 * (round_ % 3))
            journal.flush()
            ballast.drop()
            journal.record(an_event(b"/again/%d" % round_), Audit.REQUIRED)
            for number in range(50):
                journal.record(an_event(b"/%d" % number), Audit.BEST_EFFORT)
        child.send("enough")
        seen = child.result()
    there = {f"{record.seq}={record.fields['chain']}" for record in read_all(directory)}
    assert seen
    assert seen <= there


def test_a_policy_that_changed_while_the_disk_was_full_is_told_before_what_it_decided(small: Path) -> None:
    directory, clock = small / MOUNT_ID, Clock()
    ballast = Ballast(small)
    with a_journal(small, clock) as journal:
        ballast.leave(0)
        fill(journal)
        policy = policy_text("cd" * 32, [("/etc/p.yaml", b"text\n")])
        journal.tell("policy", {"policy": policy.digest}, policy=policy)
        journal.record(an_event(b"/new", policy_digest=policy.digest), Audit.BEST_EFFORT)
        assert kept_digests(directory) == []
        ballast.drop()
        clock.forward(2)
        journal.flush()
    assert kept_digests(directory) == [policy.digest]
    named = [record.kind for record in read_all(directory) if record.fields.get("policy") == policy.digest]
    assert named == ["policy", "event"]


def test_nothing_is_made_where_the_trails_file_system_was_unmounted(small: Path) -> None:
    clock = Clock()
    with a_journal(small, clock) as journal:
        journal.record(an_event(b"/one"), Audit.REQUIRED)
        detach(str(small))
        clock.forward(2)
        journal.flush()
        with pytest.raises(JournalError, match="mount its file system again"):
            journal.record(an_event(b"/two"), Audit.REQUIRED)
        assert list(small.iterdir()) == []
        mount_tmpfs(small)  # for the fixture to take away


def test_opening_on_a_full_disk_says_what_to_do(small: Path) -> None:
    Ballast(small).leave(0)
    with pytest.raises(JournalError, match="make room"), a_journal(small):
        pass


def test_read_only_refuses_and_names_it(small: Path) -> None:
    """Fault trail.8: The trail's disk is read-only
    App: as without room
    Store: unchanged
    Trail: as without room
    """
    with a_journal(small):
        pass
    mount_tmpfs(small, MS_REMOUNT | MS_RDONLY)
    with pytest.raises(JournalError, match="read-only"), a_journal(small):
        pass
    with pytest.raises(JournalError, match="read-only"):
        Journal(str(small / "fedcba9876543210"), "fedcba9876543210", keep=0)


def test_what_has_no_room_at_the_end_is_counted_in_a_gap(small: Path) -> None:
    ballast = Ballast(small)
    with a_journal(small) as journal:
        ballast.leave(8192)
        for number in range(20):
            journal.record(an_event(b"/%d" % number + b"x" * 2000), Audit.BEST_EFFORT)
        journal.close()
        stats = journal.stats()
        assert stats.queued == 0
        assert stats.dropped == 20  # a slice is written whole or not at all
    records = read_all(small / MOUNT_ID)
    assert [record.kind for record in records[-2:]] == ["gap", "close"]
    assert records[-2].fields["dropped"] == 20
    assert paths(small / MOUNT_ID) == []


def test_what_could_not_be_written_by_the_end_shows_in_stats(small: Path) -> None:
    ballast = Ballast(small)
    with a_journal(small) as journal:
        ballast.leave(0)
        fill(journal)
        for _ in range(10):
            journal.record(an_event(), Audit.BEST_EFFORT)
        journal.close()
        assert journal.stats().queued == 10
        assert "No space left" in journal.stats().last_error
    ballast.drop()
    with a_journal(small):
        pass
    assert kinds(small / MOUNT_ID)[-2:] == ["resume", "close"]
    assert verified(small / MOUNT_ID).whole
