"""The writer of a chain alone, on a real directory: all of a batch or nothing, and never over a full line."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.journal.files.extent import DAMAGE, END, ROTATION, UNSYNCED, Extent
from policyfs.journal.files.policy_texts import kept_digests, policy_text
from policyfs.journal.files.segments import TrailDirectory
from policyfs.journal.writing.gap import Gap
from policyfs.journal.writing.segment import Segment
from policyfs.journal.writing.writer import ChainWriter
from policyfs.trail.chain import chain
from tests.support.mount.trail import MOUNT_ID, START_NS, Clock, an_event, kinds, read_all, segments

DIGEST = "ab" * 32
"""The policy of all events."""


@contextmanager
def a_writer(
    directory: Path, *, segment_bytes: int = 1 << 20, keep: int = 0, clock: Clock | None = None
) -> Iterator[ChainWriter]:
    place = TrailDirectory(str(directory))
    writer = ChainWriter(place, MOUNT_ID, segment_bytes=segment_bytes, keep=keep, clock_ns=clock or Clock())
    try:
        yield writer
    finally:
        for fd in writer.close():
            os.close(fd)
        place.close()


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sync(writer: ChainWriter) -> None:
    fds, seq = writer.begin_sync()
    for fd in fds:
        os.fsync(fd)
        os.close(fd)
    writer.end_sync(seq)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / MOUNT_ID


def newest(trail: Path) -> Path:
    return segments(trail)[-1]


def test_a_chain_begins_with_a_header_and_goes_on_line_by_line(trail: Path) -> None:
    with a_writer(trail) as writer:
        assert writer.seq == 1
        writer.write([an_event(), an_event()])
        records = read_all(trail)
        assert [(record.kind, record.seq) for record in records] == [
            ("header", 1),
            ("event", 2),
            ("event", 3),
        ]
        assert records[0].fields["previous"] == chain.GENESIS
        last = newest(trail).read_bytes().splitlines()[-1]
        sealed = chain.split(last)
        assert sealed is not None
        assert writer.position == (3, sealed.chain)
        assert writer.extent == Extent(newest(trail).name, newest(trail).stat().st_size, 3, sealed.chain)
        assert (writer.segment, writer.segment_size) == (newest(trail).name, newest(trail).stat().st_size)


@pytest.mark.parametrize("room", [0, 10, 700])
def test_a_batch_that_does_not_fit_changes_nothing_and_may_be_tried_again(trail: Path, room: int) -> None:
    with a_writer(trail) as writer:
        writer.note("others", {"chains": {}})
        before = newest(trail).read_bytes()
        position = writer.position
        with no_file_longer_than(len(before) + room), pytest.raises(OSError, match="File too large"):
            writer.write([an_event(), an_event()])
        assert newest(trail).read_bytes() == before
        assert writer.position == position
        writer.write([an_event()])
        assert kinds(trail) == ["header", "others", "event"]


def test_notes_come_before_the_batch_that_they_wait_for(trail: Path) -> None:
    with a_writer(trail) as writer:
        writer.note("others", {"chains": {}})
        assert kinds(trail) == ["header"]
        gap = Gap("x" * 1000, START_NS)
        gap.dropped, gap.last_ns = 3, START_NS + 1
        writer.write([an_event(), gap])
        assert kinds(trail) == ["header", "others", "event", "gap"]
        fields = read_all(trail)[-1].fields
        assert (fields["dropped"], fields["refused"]) == (3, 0)
        assert len(str(fields["reason"])) <= 400


def test_a_segment_is_closed_once_it_is_long_enough(trail: Path) -> None:
    closed: list[tuple[Extent, str]] = []
    with a_writer(trail, segment_bytes=1000) as writer:
        writer.closed = lambda extent, reason: closed.append((extent, reason))
        for _ in range(4):
            writer.write([an_event()])
        first = segments(trail)[0]
        assert first.stat().st_size >= 1000
        assert closed[0][0].size == first.stat().st_size
        headers = [record for record in read_all(trail) if record.kind == "header"]
        assert len(headers) == len(segments(trail)) == len(closed) + 1
        assert headers[1].fields["previous"] == closed[0][0].head
        assert {reason for _, reason in closed} == {ROTATION}
    assert closed[-1][1] == END


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_only_so_many_segments_stay_and_a_record_names_the_others(trail: Path, keep: int) -> None:
    with a_writer(trail, segment_bytes=1, keep=keep) as writer:
        for _ in range(4):
            writer.write([an_event()])
        names = [segment.name for segment in segments(trail)]
        writer.prune()
        sync(writer)
        pruned = [record.fields["segments"] for record in read_all(trail) if record.kind == "pruned"]
        left = [segment.name for segment in segments(trail)]
        if not keep:
            assert (pruned, left) == ([], names)
        else:
            assert pruned == [names[:-keep]]
            assert left[:-1] == names[-keep:], "the record itself is in a new segment here"


def test_nothing_is_deleted_before_the_record_of_it_is_on_the_disk(trail: Path) -> None:
    """Else a power loss could leave a trail that lacks segments, and does not say why."""
    with a_writer(trail, keep=1) as writer:
        for _ in range(2):
            writer.distrust(writer.segment, "a test")
            writer.write([an_event()])
        fds, seq = writer.begin_sync()
        names = [segment.name for segment in segments(trail)]
        for _ in range(2):
            writer.prune()
        writer.end_sync(seq)  # this sync began before the record
        assert [segment.name for segment in segments(trail)] == names
        sync(writer)
        assert [segment.name for segment in segments(trail)] == names[-1:]
        assert kinds(trail).count("pruned") == 1
        for fd in fds:
            os.close(fd)


def test_nothing_is_deleted_if_that_cannot_be_recorded(trail: Path) -> None:
    with a_writer(trail, keep=1) as writer:
        writer.write([an_event()])
        writer.distrust(writer.segment, "a test")
        writer.write([an_event()])
        names = [segment.name for segment in segments(trail)]
        assert len(names) == 2
        with no_file_longer_than(newest(trail).stat().st_size), pytest.raises(OSError, match="too large"):
            writer.prune()
        assert [segment.name for segment in segments(trail)] == names
        writer.write([an_event()])
        assert "pruned" not in kinds(trail)


def test_a_clock_that_goes_back_is_on_record(trail: Path) -> None:
    clock = Clock()
    with a_writer(trail, clock=clock) as writer:
        clock.forward(-0.5)
        writer.write([an_event()])
        assert "clock" not in kinds(trail)
        clock.forward(-3600)
        writer.write([an_event()])
        clock.forward(-0.5)
        writer.write([an_event()])
        steps = [record.fields["seconds"] for record in read_all(trail) if record.kind == "clock"]
        assert steps == [3600.5]


def test_a_clean_end_is_resumed_in_the_same_segment(trail: Path) -> None:
    with a_writer(trail) as writer:
        writer.write([an_event()])
        assert writer.resumed is None
        position = writer.position
    with a_writer(trail) as writer:
        assert len(segments(trail)) == 1
        assert writer.resumed is not None
        assert writer.resumed[2:] == position
        assert kinds(trail) == ["header", "event", "resume"]
        assert read_all(trail)[-1].seq == 3


@pytest.mark.parametrize("cut", [1, 50])
def test_a_cut_line_stays_as_it_is_and_is_on_record_in_the_next_segment(trail: Path, cut: int) -> None:
    with a_writer(trail) as writer:
        writer.write([an_event()])
        head = writer.head
        writer.write([an_event()])
    left = newest(trail)
    left.write_bytes(left.read_bytes()[:-cut])
    torn = left.read_bytes()
    with a_writer(trail) as writer:
        assert left.read_bytes() == torn
        assert writer.resumed is None
        second = segments(trail)[1]
        lines = second.read_bytes().splitlines()
        assert len(lines) == 2
        assert head.encode() in lines[0], "it continues after the last whole line"
        assert b"recovered" in lines[1]


def test_a_seal_without_its_segment_is_not_written_over(trail: Path) -> None:
    with a_writer(trail, segment_bytes=1) as writer:
        writer.write([an_event()])
        writer.write([an_event()])
    gone = newest(trail)
    gone.with_suffix(".seal").write_bytes(b"a seal\n")
    gone.unlink()
    with a_writer(trail) as writer:
        assert writer.resumed is None
        assert newest(trail).name > gone.name


@pytest.mark.parametrize("harm", ["delete", "cut", "append"])
def test_changes_by_others_end_the_segment_and_are_on_record(trail: Path, harm: str) -> None:
    closed: list[str] = []
    with a_writer(trail) as writer:
        writer.closed = lambda _extent, reason: closed.append(reason)
        writer.write([an_event()])
        segment = newest(trail)
        if harm == "delete":
            segment.unlink()
        else:
            data = segment.read_bytes()
            segment.write_bytes(data[:-20] if harm == "cut" else data + b"x\n")
        writer.write([an_event()])
        last = newest(trail)
        assert last.name > segment.name
        assert b'"damage"' in last.read_bytes()
        assert closed == [DAMAGE]


def test_distrust_of_another_segment_does_not_end_this_one(trail: Path) -> None:
    with a_writer(trail) as writer:
        writer.distrust("another", "a test")
        writer.write([an_event()])
        assert len(segments(trail)) == 1
        assert kinds(trail) == ["header", "damage", "event"]
        writer.distrust(writer.segment, "a test")
        writer.write([an_event()])
        assert len(segments(trail)) == 2


def test_a_directory_that_was_moved_away_is_left(trail: Path) -> None:
    with a_writer(trail) as writer:
        writer.check_place()
        assert writer.segment
        trail.rename(trail.with_name("moved"))
        writer.check_place()
        assert writer.segment == ""
        writer.write([an_event()])
        assert kinds(trail) == ["header", "damage", "event"]


def test_syncs_cover_what_was_written_before_they_began(trail: Path) -> None:
    with a_writer(trail) as writer:
        assert writer.unsynced
        fds, seq = writer.begin_sync()
        writer.write([an_event()])
        writer.end_sync(seq)
        assert writer.unsynced
        fds += (more := writer.begin_sync())[0]
        writer.end_sync(more[1])
        writer.end_sync(seq)
        assert not writer.unsynced
        for fd in fds:
            os.fsync(fd)
            os.close(fd)


def test_after_a_failed_sync_a_new_segment_tells_from_where_lines_are_unsure(trail: Path) -> None:
    closed: list[str] = []
    with a_writer(trail) as writer:
        writer.closed = lambda _extent, reason: closed.append(reason)
        fds, seq = writer.begin_sync()
        writer.end_sync(seq)
        writer.write([an_event()])
        writer.sync_failed("no disk")
        writer.write([an_event()])
        for fd in fds:
            os.close(fd)
        gap = next(record for record in read_all(trail) if record.kind == "gap")
        assert gap.fields["unsure_after"] == seq
        assert len(segments(trail)) == 2
        assert closed == [UNSYNCED]


def test_a_text_that_only_the_journals_own_record_names_is_kept(trail: Path) -> None:
    with a_writer(trail, keep=1) as writer:
        other = "cd" * 32
        writer.texts.keep(policy_text(other, [("q.yaml", b"text")]))
        for _ in range(2):
            writer.distrust(writer.segment, "a test")
            writer.write([an_event()])
        writer.note("policy", {"policy": other})
        writer.write([an_event()])
        writer.prune()
        sync(writer)
        assert other in kept_digests(trail)


def test_no_descriptor_is_left_behind(trail: Path) -> None:
    with a_writer(trail) as writer:
        writer.write([an_event()])
    before = sorted(os.listdir("/proc/self/fd"))
    with a_writer(trail) as writer:
        writer.write([an_event()])
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_texts_of_policies_are_kept_as_long_as_a_record_names_them(trail: Path) -> None:
    with a_writer(trail, segment_bytes=1, keep=1) as writer:
        writer.texts.keep(policy_text(DIGEST, [("p.yaml", b"text")]))
        writer.write([an_event()])
        assert kept_digests(trail) == [DIGEST]
        other = "cd" * 32
        writer.texts.keep(policy_text(other, [("q.yaml", b"text")]))
        for _ in range(3):
            writer.write([an_event(policy_digest=other)])
        writer.prune()
        sync(writer)
        assert kept_digests(trail) == [other]


def test_without_descriptors_a_segment_is_closed_once_and_synced(trail: Path) -> None:
    closed: list[str] = []
    with a_writer(trail, segment_bytes=1000) as writer:
        writer.closed = lambda extent, _reason: closed.append(extent.segment)
        writer.write([an_event(b"/" + b"x" * 900)])
        with no_more_descriptors():
            for _ in range(3):
                with pytest.raises(OSError, match="Too many open files"):
                    writer.write([an_event()])
        assert closed == [newest(trail).name]
        writer.write([an_event()])
        with no_more_descriptors(), pytest.raises(OSError, match="Too many open files"):
            writer.begin_sync()
        fds, _ = writer.begin_sync()
        assert [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == [str(one) for one in segments(trail)]
        for fd in fds:
            os.close(fd)
        with no_more_descriptors():
            fds = writer.close()
        assert [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == [str(newest(trail))]
        for fd in fds:
            os.close(fd)


def test_a_segment_has_no_name_before_its_first_line(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `verify` calls the trail of a daemon that was killed in between truncated."""
    append = Segment.append
    seen: list[list[str]] = []

    def watched(self: Segment, data: bytes) -> None:
        seen.append([file.name for file in segments(trail) if not file.stat().st_size])
        append(self, data)

    monkeypatch.setattr(Segment, "append", watched)
    with a_writer(trail, segment_bytes=1) as writer:
        for _ in range(3):
            writer.write([an_event()])
    assert len(segments(trail)) > 2
    assert len(seen) > len(segments(trail))
    assert not any(seen)
    assert not list(trail.glob(".new-*"))
