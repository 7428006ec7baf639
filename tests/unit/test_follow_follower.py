"""What a follower reads: each line once, and each hole, through rotation, compression, crash and damage."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import Audit
from policyfs.follow.follower import ChainFollower, Line, Position
from policyfs.follow.source import DirectAccess
from policyfs.journal.files.compression import compress
from policyfs.journal.files.segments import SegmentDirectory, flock
from policyfs.journal.writing.segment import Segment
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, line_of, segments, write_trail

SMALL = 1500
"""Bytes of a segment of two or three events."""


def events(count: int, first: int = 0) -> list[Any]:
    return [an_event(b"/DCIM/%05d.jpg" % number) for number in range(first, first + count)]


def paths(count: int, first: int = 0) -> list[bytes]:
    return [event.path for event in events(count, first)]


class Reader:
    """Reads a chain to its end, again and again."""

    def __init__(self, root: Path, position: Position | None = Position()) -> None:  # noqa: B008 - immutable
        self.access = DirectAccess(root)
        self.follower = ChainFollower(self.access, MOUNT_ID, position)

    def step(self) -> list[Line]:
        return self.follower.read(self.access.chains().get(MOUNT_ID, []))

    def read(self) -> list[Line]:
        found: list[Line] = []
        while lines := self.step():
            found += lines
        return found

    def fields(self) -> list[dict[str, Any]]:
        return [json.loads(line.raw) for line in self.read()]

    def paths(self) -> list[bytes]:
        return [line.event.path for line in self.read() if line.event]

    def holes(self) -> list[tuple[int, int, str]]:
        return [(one["first"], one["last"], one["why"]) for one in self.fields() if one["type"] == "hole"]


def after_a_step(root: Path) -> tuple[Reader, list[Line]]:
    """A reader that has read the first segment of a trail of several."""
    reader = Reader(root)
    return reader, reader.step()


def test_each_line_comes_once_and_in_order(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.read() == []
    with a_journal(tmp_path, segment_bytes=SMALL) as journal:
        for first in range(0, 30, 3):
            for event in events(3, first):
                journal.record(event, Audit.REQUIRED)
            assert reader.paths() == paths(3, first)
    assert reader.fields()[-1]["type"] == "close"
    assert reader.read() == []
    lines = b"".join(file.read_bytes() for file in segments(tmp_path / MOUNT_ID)).splitlines()
    expected = [b'{"id":"%s:%d",' % (MOUNT_ID.encode(), seq) + one[1:] for seq, one in enumerate(lines, 1)]
    assert [line.raw[:-1] for line in Reader(tmp_path).read()] == expected


def test_another_reader_goes_on_at_the_position(tmp_path: Path) -> None:
    write_trail(tmp_path, events(20), segment_bytes=SMALL)
    whole = Reader(tmp_path).read()
    first, found = after_a_step(tmp_path)
    for _ in range(3):
        assert found + Reader(tmp_path, first.follower.position).read() == whole
        found += first.step()


def test_compressed_segments_are_read_from_the_middle_on(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    reader, found = after_a_step(tmp_path)
    with SegmentDirectory.at(directory) as place:
        for name in place.names()[:-1]:
            assert compress(place.fd, name, 0)
    other = Reader(tmp_path, reader.follower.position).read()
    assert [line.event.path for line in found + other if line.event] == paths(20)
    assert reader.read() == other


def test_a_segment_that_rotation_removes_is_read_to_its_end(tmp_path: Path) -> None:
    """The lines of one that was not begun are a hole, with its numbers, at once and after a restart."""
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    file, *more = segments(directory)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]))
    reader, found = after_a_step(tmp_path)
    with file.open("ab") as rest:
        rest.writelines(lines[2:])
    for one in (file, *more[:3]):
        one.unlink()
    assert [json.loads(line.raw)["seq"] for line in found] == [1, 2]
    restarted = Reader(tmp_path, reader.follower.position)
    rest_of_file = reader.step()
    assert [json.loads(line.raw)["seq"] for line in rest_of_file] == list(range(3, len(lines) + 1))
    hole, header, *_ = reader.fields()
    assert (hole["type"], header["type"]) == ("hole", "header")
    assert (hole["first"], hole["last"]) == (len(lines) + 1, header["seq"] - 1)
    assert hole["why"] == "segments 2 to 4 were removed before the lines were read"
    assert hole["id"].startswith(f"{MOUNT_ID}:hole:")
    assert restarted.holes() == [(3, header["seq"] - 1, hole["why"])]


def test_lines_that_were_removed_before_the_first_reader_came_are_no_hole(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    for file in segments(directory)[:2]:
        file.unlink()
    assert Reader(tmp_path, None).holes() == []
    ((first, last, _),) = Reader(tmp_path).holes()  # but they are if the chain began after it
    assert (first, last) == (1, Reader(tmp_path).fields()[1]["seq"] - 1)


def test_segments_removed_after_they_were_read_are_none(tmp_path: Path) -> None:
    with a_journal(tmp_path, segment_bytes=SMALL) as journal:
        for event in events(9):
            journal.record(event, Audit.REQUIRED)
        reader = Reader(tmp_path)
        assert reader.paths() == paths(9)
        for file in segments(tmp_path / MOUNT_ID)[:-1]:
            file.unlink()
        for event in events(9, 9):
            journal.record(event, Audit.REQUIRED)
        assert Reader(tmp_path, reader.follower.position).holes() == []
        assert reader.paths() == paths(9, 9)


def _change(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"00004.jpg", b"66666.jpg"))


def _spoil(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(b"x\n" if b"00004.jpg" in line else line for line in lines))


def _take_out(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if b"00004.jpg" not in line))


def _cut(file: Path) -> None:
    os.truncate(file, file.read_bytes().index(b"00004.jpg"))


def _pack_and_cut(file: Path) -> None:
    place = os.open(file.parent, os.O_RDONLY)
    assert compress(place, file.name, 0)
    os.close(place)
    packed = file.with_name(f"{file.name}.zst")
    os.truncate(packed, packed.stat().st_size // 2)


def _make_a_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [_change, _spoil, _take_out, _cut, _pack_and_cut, _make_a_link])
def test_a_damaged_segment_is_a_hole_and_the_next_lines_come(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """At each place of a restart, too."""
    directory = write_trail(tmp_path, events(20), segment_bytes=SMALL)
    file = next(one for one in segments(directory) if b"00004.jpg" in one.read_bytes())
    seq = next(one["seq"] for one in Reader(tmp_path).fields() if b"00004" in str(one.get("path")).encode())
    whole = Reader(tmp_path).fields()
    damage(file)
    reader, found, told = Reader(tmp_path), [], set()
    while lines := reader.step():
        found += lines
        again = found + Reader(tmp_path, reader.follower.position).read()
        told.add(tuple(line.raw for line in again if b'"hole"' not in line.raw))
        assert any(b'"hole"' in line.raw for line in again) or len(told) == 1
    fields = [json.loads(line.raw) for line in found]
    holes = [one for one in fields if one["type"] == "hole"]
    assert all(one["why"] and one["time"] for one in holes)
    covered = {number for one in holes for number in range(one["first"], one["last"] + 1)}
    assert seq in covered
    assert covered | {one["seq"] for one in fields if "seq" in one} == {one["seq"] for one in whole}
    assert len(told) == 1  # a restart changes no line
    assert len({one["id"] for one in fields}) == len(fields)
    assert fields[-1] == whole[-1]
    assert all(line.raw.endswith(b"\n") and json.loads(line.raw.decode("utf-8")) for line in found)


@pytest.mark.parametrize("encoding", ["space", "utf-8-sig", "utf-16-le", "surrogates", "carriage return"])
def test_each_line_is_json_whatever_the_trail_has(tmp_path: Path, encoding: str) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    lines = file.read_bytes().splitlines(keepends=True)
    line = lines[1][:-1]
    if encoding == "space":
        line = b" " + line
    elif encoding == "surrogates":
        line = line.replace(b"jpg", b"\xed\xa0\x80")
    elif encoding == "carriage return":
        line = b"{\r" + line[1:]
    else:
        line = line.decode().encode(encoding).replace(b"\n", b"")
    lines[1] = line + b"\n"
    file.write_bytes(b"".join(lines))
    found = Reader(tmp_path).read()
    assert "hole" in [json.loads(line.raw.decode("utf-8"))["type"] for line in found]


def test_damage_at_the_end_is_told_before_more_lines_come(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:-1], b"x\n"]))
    reader = Reader(tmp_path)
    ((first, _, why),) = reader.holes()
    assert (first, why) == (len(lines), f"line {len(lines)} of {file.name} is not a record")
    assert Reader(tmp_path, reader.follower.position).read() == []


def test_a_record_with_an_id_of_its_own_has_that_of_the_line(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(1)))[0]
    with file.open("ab") as trail:
        trail.write(b'{"type":"quarantine","seq":4,"time":"2026-03-01T08:15:00.000000001Z","id":"0007"}\n')
    last = Reader(tmp_path).fields()[-1]
    assert (last["id"], last["file_id"]) == (f"{MOUNT_ID}:4", "0007")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT, errno.EIO])
def test_a_segment_that_cannot_be_opened_once_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Not even the record that a chain began again. EIO of the newest segment may pass, too."""
    reader = Reader(tmp_path)
    directory = write_trail(tmp_path, events(9), segment_bytes=SMALL)
    reader.read()
    shutil.rmtree(directory)
    write_trail(tmp_path, events(1))
    real, left = reader.access.open, [number]

    def open_(mount_id: str, name: str) -> int:
        if left:
            raise OSError(left.pop(), "once")
        return real(mount_id, name)

    monkeypatch.setattr(reader.access, "open", open_)
    seq = reader.follower._check.seq
    found = []
    if number == errno.ENOENT:
        found = [json.loads(line.raw) for line in reader.step()]
    else:
        with pytest.raises(OSError, match="once"):
            reader.step()
    found += reader.fields()
    assert [one["type"] for one in found] == ["hole", "header", "event", "close"]
    assert (found[0]["first"], found[0]["why"]) == (seq + 1, "the chain begins again at its first line")


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "restarted"])
def test_a_chain_that_begins_anew_is_told(tmp_path: Path, is_open: bool) -> None:
    directory = write_trail(tmp_path, events(9), segment_bytes=SMALL)
    reader = Reader(tmp_path)
    reader.read()
    for file in directory.iterdir():
        file.unlink()
    write_trail(tmp_path, events(1))
    reader = reader if is_open else Reader(tmp_path, reader.follower.position)
    hole, *rest = reader.fields()
    assert hole["why"] == "the chain begins again at its first line"
    assert [one.get("path") for one in rest] == [None, "/DCIM/00000.jpg", None]


def test_a_segment_that_was_replaced_behind_the_position_is_told(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(9)))[0]
    reader = Reader(tmp_path)
    reader.read()
    position = reader.follower.position
    assert position is not None
    again = Reader(tmp_path, position._replace(head="ab" * 32)).fields()
    assert again[0]["why"] == f"{file.name} was changed, or replaced: it is read again"
    assert [one["type"] for one in again[1:]] == ["header", *["event"] * 9, "close"]


def test_a_segment_that_was_cut_is_told(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(9)))[0]
    reader = Reader(tmp_path)
    seq = len(reader.read())
    os.truncate(file, 1000)
    assert reader.holes() == [(seq + 1, 0, f"{file.name} was cut to 1000 bytes")]
    assert reader.read() == []


def test_a_half_line_waits_for_its_rest(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    reader = Reader(tmp_path)
    assert len(reader.read()) == whole.count(b"\n") - 1
    file.write_bytes(whole)
    assert [one["type"] for one in reader.fields()] == ["close"]


def test_lines_that_their_writer_may_take_back_wait(tmp_path: Path) -> None:
    file = segments(write_trail(tmp_path, events(3)))[0]
    reader = Reader(tmp_path)
    reader.read()
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
    with segments(write_trail(tmp_path, events(3)))[0].open("ab") as file:
        file.write(b'{"type":"event","seq":99,"ti')
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/DCIM/later.jpg"), Audit.REQUIRED)
    kinds = [one["type"] for one in Reader(tmp_path).fields()]
    assert "recovered" in kinds
    assert "hole" not in kinds
