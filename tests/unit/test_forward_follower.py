"""What a sink reads: each line once, through rotation, compression, crash and loss."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.forward.follower import BROKEN, GAP, ChainFollower, Item, Position
from policyfs.forward.messages import message_of
from policyfs.forward.source import DirectAccess, Source
from policyfs.journal.files.compression import compress
from policyfs.journal.files.segments import SegmentDirectory, flock
from policyfs.journal.writing.segment import Segment
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, line_of, segments, write_trail

SMALL = 1500
"""Bytes of a segment of two or three events."""


def events(count: int, first: int = 0) -> list[object]:
    return [an_event(b"/DCIM/%05d.jpg" % number) for number in range(first, first + count)]


class Reader:
    """Reads a chain to its end, again and again."""

    def __init__(self, root: Path, position: Position = Position()) -> None:  # noqa: B008 - immutable
        self.access = DirectAccess(root)
        self.follower = ChainFollower(Source(self.access), MOUNT_ID, position)

    def read(self) -> list[Item]:
        found: list[Item] = []
        for _ in range(1000):
            batch = self.follower.read(self.access.chains().get(MOUNT_ID, []))
            if batch is None and not self._more():
                return found
            found += batch.items if batch else []
        raise AssertionError("no end")

    def _more(self) -> bool:
        names = self.access.chains().get(MOUNT_ID, [])
        return bool(names) and names[-1].partition(".")[0] > self.follower.position.segment.partition(".")[0]

    def paths(self) -> list[bytes]:
        return [item.record.event.path for item in self.read() if item.record and item.record.event]


def paths(count: int, first: int = 0) -> list[bytes]:
    return [event.path for event in events(count, first)]


def test_each_line_comes_once_and_in_order(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.read() == []
    with a_journal(tmp_path, segment_bytes=SMALL) as journal:
        for first in range(0, 30, 3):
            for event in events(3, first):
                journal.record(event, Audit.REQUIRED)
            assert reader.paths() == paths(3, first)
    assert reader.read()[-1].kind == "close"
    assert reader.read() == []
    lines = b"".join(file.read_bytes() for file in segments(tmp_path / MOUNT_ID)).splitlines()
    assert [item.raw for item in Reader(tmp_path).read()] == lines


def test_another_reader_goes_on_at_the_position(tmp_path: Path) -> None:
    write_trail(tmp_path, events(20), segment_bytes=SMALL)
    whole = [item.raw for item in Reader(tmp_path).read()]
    first = Reader(tmp_path)
    batch = first.follower.read(first.access.chains()[MOUNT_ID])
    assert batch is not None
    rest = [item.raw for item in Reader(tmp_path, batch.position).read()]
    assert [item.raw for item in batch.items] + rest == whole


def test_compressed_segments_are_read_from_the_middle_on(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    reader = Reader(tmp_path)
    batch = reader.follower.read(reader.access.chains()[MOUNT_ID])
    assert batch is not None
    with SegmentDirectory.at(directory) as place:
        for name in place.names()[:-1]:
            assert compress(place.fd, name, 0)
    both = batch.items + Reader(tmp_path, batch.position).read()
    assert [item.record.event.path for item in both if item.record and item.record.event] == paths(20)
    assert [item.raw for item in batch.items + reader.read()] == [item.raw for item in both]


def test_removed_segments_are_a_gap_with_its_bounds(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    reader = Reader(tmp_path)
    batch = reader.follower.read(reader.access.chains()[MOUNT_ID])
    assert batch is not None
    last = batch.position.seq
    reader.follower.close()
    for file in segments(directory)[:4]:
        file.unlink()
    gap, first, *rest = reader.read()
    assert (gap.kind, first.kind) == (GAP, "header")
    assert gap.record is not None
    assert first.record is not None
    fields = gap.record.fields
    assert (fields["after"], fields["before"], fields["lost"]) == (
        last,
        first.record.seq,
        first.record.seq - last - 1,
    )
    assert fields["since"]
    assert fields["until"] == first.record.fields["time"]
    assert not [item for item in rest if item.kind in {GAP, BROKEN}]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT])
def test_a_failed_open_of_a_new_chain_loses_no_record_about_the_old_one(tmp_path: Path, number: int) -> None:
    directory = write_trail(tmp_path, events(9), segment_bytes=SMALL)
    reader = Reader(tmp_path)
    reader.read()
    last = reader.follower.position.seq
    reader.follower.close()
    shutil.rmtree(directory)
    write_trail(tmp_path, events(1))
    fail_once(reader.access, number)
    names = reader.access.chains()[MOUNT_ID]
    if number == errno.ENOENT:
        assert reader.follower.read(names) is None
    else:
        with pytest.raises(OSError, match="once"):
            reader.follower.read(names)
    gap, header, *_ = reader.read()
    assert (gap.kind, header.kind) == (GAP, "header")
    assert gap.record is not None
    assert gap.record.fields["after"] == last


def fail_once(access: DirectAccess, number: int) -> None:
    """Make the next open of a segment fail."""
    real, left = access.open, [number]

    def open_(mount_id: str, name: str) -> int:
        if left:
            raise OSError(left.pop(), "once")
        return real(mount_id, name)

    access.open = open_  # type: ignore[method-assign]


def test_segments_removed_after_they_were_read_are_none(tmp_path: Path) -> None:
    with a_journal(tmp_path, segment_bytes=SMALL) as journal:
        for event in events(9):
            journal.record(event, Audit.REQUIRED)
        reader = Reader(tmp_path)
        assert reader.paths() == paths(9)
        reader.follower.close()
        for event in events(9, 9):
            journal.record(event, Audit.REQUIRED)
        read_whole = [
            name for name in segments(tmp_path / MOUNT_ID) if name.name < reader.follower.position.segment
        ]
        assert read_whole
        for file in read_whole:
            file.unlink()
        assert reader.paths() == paths(9, 9)


def test_a_changed_line_is_told_and_forwarded(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(9))
    file = segments(directory)[0]
    file.write_bytes(file.read_bytes().replace(b"00004.jpg", b"66666.jpg"))
    kinds = [item.kind for item in Reader(tmp_path).read()]
    assert kinds.count(BROKEN) == 1
    assert kinds.count("event") == 9


def test_damage_has_a_time_and_an_id_also_before_the_first_valid_line(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(9))
    file = segments(directory)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = lines[4] = lines[5] = b"x\n"
    file.write_bytes(b"".join(lines))
    found = Reader(tmp_path).read()
    messages = [message_of(item) for item in found if item.kind in {"bad_line", BROKEN}]
    assert sum(item.kind == "bad_line" for item in found) == 3
    begin = file.name.split("-")[1]
    bad = [json.loads(message.line) for message in messages]
    times = [one["time"] for one in bad]
    assert (times[0][:10], times[0][19:]) == (f"{begin[:4]}-{begin[4:6]}-{begin[6:8]}", ".000000000Z")
    assert times[0][11:19].replace(":", "") == begin[9:15]
    assert times == sorted(times)
    assert times == [message.time for message in messages]
    ids = [one["id"] for one in bad if one["type"] == "bad_line"]
    assert len(set(ids)) == 3
    assert all(name.startswith(f"{MOUNT_ID}:") for name in ids)
    assert all(one["reason"] for one in bad)
    again = Reader(tmp_path).read()
    assert [message_of(item).line for item in again] == [message_of(item).line for item in found]


def test_two_findings_at_one_position_have_two_ids(tmp_path: Path) -> None:
    """ClickHouse kept one of two records with the same id and time."""
    directory = write_trail(tmp_path, events(9))
    file = segments(directory)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    reader = Reader(tmp_path)
    reader.read()
    reader.follower.close()
    lines[0] = lines[0].replace(b"e", b"E")
    lines[1] = lines[2] = b"x\n"
    file.write_bytes(b"".join(lines[:3]) * 200)
    ids = [message_of(item).id for item in reader.read()]
    assert len(ids) > 600
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("encoding", ["space", "utf-8-sig", "utf-16-le", "surrogates"])
def test_each_delivered_line_is_json_whatever_the_trail_has(tmp_path: Path, encoding: str) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    lines = file.read_bytes().splitlines(keepends=True)
    line = lines[1][:-1]
    if encoding == "space":
        line = b" " + line
    elif encoding == "surrogates":
        line = line.replace(b"jpg", b"\xed\xa0\x80")
    else:
        line = line.decode().encode(encoding)
    lines[1] = line + b"\n"
    file.write_bytes(b"".join(lines))
    found = Reader(tmp_path).read()
    assert "bad_line" in [item.kind for item in found]
    for item in found:
        assert json.loads(message_of(item).line.decode("utf-8"))


def test_a_chain_of_bad_lines_that_begins_anew_has_a_time(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(3))
    file = segments(directory)[0]
    file.write_bytes(b"x\n")
    reader = Reader(tmp_path)
    reader.read()
    reader.follower.close()
    for old in directory.iterdir():
        old.unlink()
    (directory / "00000000-20260101T000000Z.jsonl").write_bytes(b"x\n")
    gap = reader.read()[0]
    assert gap.kind == GAP
    line = json.loads(gap.raw)
    assert not line["time"].startswith("1970")
    assert line.get("since") != ""


def test_a_segment_that_was_replaced_behind_the_cursor_is_told(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(9))
    reader = Reader(tmp_path)
    reader.read()
    file = segments(directory)[0]
    file.write_bytes(file.read_bytes().replace(b"gallery", b"gallerz"))
    again = Reader(tmp_path, reader.follower.position._replace(head="ab" * 32)).read()
    assert again[0].kind == BROKEN


def test_a_segment_that_was_cut_is_told(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(9))
    reader = Reader(tmp_path)
    reader.read()
    os.truncate(segments(directory)[0], 1000)
    assert [item.kind for item in reader.read()] == [BROKEN]
    assert reader.read() == []


def test_a_half_line_waits_for_its_rest(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(3))
    file = segments(directory)[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    reader = Reader(tmp_path)
    assert len(reader.read()) == whole.count(b"\n") - 1
    file.write_bytes(whole)
    assert [item.kind for item in reader.read()] == ["close"]


def test_lines_that_their_writer_may_take_back_wait(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(3))
    reader = Reader(tmp_path)
    reader.read()
    file = segments(directory)[0]
    size = file.stat().st_size
    fd = os.open(file, os.O_RDWR | os.O_APPEND)
    segment = Segment(file.name, 1, fd, size)
    segment._lock(flock(fcntl.F_WRLCK, size))
    os.write(fd, line_of(an_event(b"/taken/back")))
    assert reader.read() == []
    os.ftruncate(fd, size)
    segment._lock(flock(fcntl.F_UNLCK))
    assert reader.read() == []
    segment.close()
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/stays"), Audit.REQUIRED)
    assert reader.paths() == [b"/stays"]


def test_a_cut_line_before_the_next_segment_is_left_out(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(3))
    with segments(directory)[0].open("ab") as file:
        file.write(b'{"type":"event","seq":99,"ti')
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/DCIM/later.jpg"), Audit.REQUIRED)
    found = Reader(tmp_path).read()
    assert "recovered" in [item.kind for item in found]
    assert not [item for item in found if item.kind in {GAP, BROKEN, "bad_line"}]


def test_a_chain_that_begins_anew_is_told(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(9), segment_bytes=SMALL)
    reader = Reader(tmp_path)
    reader.read()
    reader.follower.close()
    for file in directory.iterdir():
        file.unlink()
    write_trail(tmp_path, events(1))
    found = reader.read()
    assert found[0].kind == GAP
    assert [item.record.event.path for item in found if item.record and item.record.event] == paths(1)


@pytest.mark.parametrize("count", [0, 9])
def test_a_sink_that_begins_now_gets_what_comes(tmp_path: Path, count: int) -> None:
    with a_journal(tmp_path, segment_bytes=SMALL) as journal:
        for event in events(count):
            journal.record(event, Audit.REQUIRED)
        reader = Reader(tmp_path)
        reader.follower.skip_all(reader.access.chains()[MOUNT_ID])
        assert reader.read() == []
        for event in events(9, 50):
            journal.record(event, Audit.REQUIRED)
        assert reader.paths() == paths(9, 50)


def test_a_sink_that_begins_during_a_write_that_fails_finds_no_damage(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    size = file.stat().st_size
    fd = os.open(file, os.O_RDWR | os.O_APPEND)
    segment = Segment(file.name, 1, fd, size)
    segment._lock(flock(fcntl.F_WRLCK, size))
    os.write(fd, line_of(an_event(b"/taken/back"), 99))
    reader = Reader(tmp_path)
    reader.follower.skip_all(reader.access.chains()[MOUNT_ID])
    os.ftruncate(fd, size)
    segment._lock(flock(fcntl.F_UNLCK))
    segment.close()
    assert reader.read() == []
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/stays"), Audit.REQUIRED)
    found = reader.read()
    assert not [item for item in found if item.kind in {GAP, BROKEN, "bad_line"}]
    assert [item.record.event.path for item in found if item.record.event] == [b"/stays"]
