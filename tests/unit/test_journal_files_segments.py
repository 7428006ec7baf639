"""Segment files: their names, their ends, whole batches or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.journal.files.segments import (
    TrailDirectory,
    open_segment,
    read_tail,
    segment_name,
    segment_number,
    sort_names,
)
from policyfs.journal.writing.segment import Segment
from policyfs.trail.chain import chain
from tests.support.mount.trail import START_NS


def test_names_hold_number_and_time() -> None:
    name = segment_name(7, START_NS)
    assert name == "00000007-20260301T080000Z.jsonl"
    assert segment_number(name) == 7
    assert segment_number(segment_name(123456789, START_NS)) == 123456789


@pytest.mark.parametrize(
    "name",
    ["", "owners.sqlite", "1-20260301T080000Z.jsonl", "00000001-20260301T080000Z.jsonl.gz", "00000001.jsonl"],
)
def test_other_files_are_no_segments(name: str) -> None:
    assert segment_number(name) is None


def test_names_sort_by_number_even_beyond_eight_digits() -> None:
    names = [segment_name(number, START_NS) for number in (100_000_000, 2, 99_999_999)]
    assert sort_names([*names, "other"]) == [names[1], names[2], names[0]]


def line(seq: int, padding: int = 0) -> bytes:
    body = b'{"type":"event","seq":%d,"pad":"%b"' % (seq, b"x" * padding)
    return chain.seal(chain.GENESIS, body)[0]


@pytest.mark.parametrize(
    ("content", "seq", "rest"),
    [
        (b"", None, b""),
        (b"half a li", None, b"half a li"),
        (b"garbage\n", None, b"garbage\n"),
        (line(1), 1, b""),
        (line(1) + line(2), 2, b""),
        (line(1) + b"half", 1, b"half"),
        (line(1) + b"garbage\nmore\n", 1, b"garbage\nmore\n"),
        (line(1) + b"\0" * 5000, 1, b"\0" * 5000),
        (line(1, padding=200_000) + line(2, padding=300_000), 2, b""),
        (line(1, padding=200_000) + b"\xff" * 300_000, 1, b"\xff" * 300_000),
        (line(1) + b"\n" * 100_000, 1, b"\n" * 100_000),
    ],
    ids=lambda value: f"{len(value)}-bytes" if isinstance(value, bytes) else str(value),
)
def test_the_last_line_is_found(tmp_path: Path, content: bytes, seq: int | None, rest: bytes) -> None:
    path = tmp_path / "segment"
    path.write_bytes(content)
    fd = open_segment(path)
    try:
        tail = read_tail(fd)
    finally:
        os.close(fd)
    assert tail.rest == rest
    assert tail.offset == len(content) - len(rest)
    if seq is None:
        assert tail.line is None
    else:
        assert tail.line is not None
        assert tail.line.startswith(b'{"type":"event","seq":%d,' % seq)


def test_a_segment_tells_what_happened_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    segment = Segment("segment", 1, fd, 0)
    segment.append(b"one\n")
    assert segment.damage() == ""
    os.truncate(path, 2)
    assert segment.damage() == "2 bytes long instead of 4"
    path.unlink()
    assert segment.damage() == "deleted"
    segment.close()


def test_a_directory_is_made_locked_and_left(tmp_path: Path) -> None:
    place = tmp_path / "root" / "mount"
    directory = TrailDirectory(str(place))
    with pytest.raises(BlockingIOError):
        TrailDirectory(str(place))
    assert directory.is_current()
    place.rename(tmp_path / "moved")
    assert not directory.is_current()
    directory.reopen()
    assert directory.is_current()
    assert place.stat().st_mode & 0o777 == 0o700
    place.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        directory.reopen()
    place.mkdir(parents=True)
    directory.reopen()
    assert directory.is_current()
    directory.close()
    TrailDirectory(str(place)).close()


def test_only_the_last_two_directories_are_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TrailDirectory(str(tmp_path / "not" / "root" / "mount"))
