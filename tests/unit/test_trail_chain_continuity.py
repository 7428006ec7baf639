"""Lines of a chain that follow each other, and holes where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.trail.chain.continuity import Continuity, Hole, Joints
from policyfs.trail.lines.record import Place, Record, parse_line
from tests.support.mount.tampering import lines_of
from tests.support.mount.trail import an_event, segments, write_trail


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    (one,) = segments(write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(6)]))
    return [line if line.endswith(b"\n") else line + b"\n" for line in lines_of(one)]


def checked(lines: list[bytes], end: int = 0) -> list[str]:
    found = Continuity()
    for number, raw in enumerate(lines, start=1):
        item = parse_line(raw, Place("", "", number))
        found.take(raw, item.seq if isinstance(item, Record) else None, "s", number)
    return [f"{hole.what}: {hole.why}" for hole in found.end(end)]


def test_whole_lines_have_no_hole(lines: list[bytes]) -> None:
    assert checked(lines) == []


def test_each_damage_is_a_hole(lines: list[bytes]) -> None:
    last = parse_line(lines[-1], Place("", "", 1))
    assert isinstance(last, Record)
    assert checked([*lines[:3], *lines[4:]]) == ["record 4: lines are missing before line 4 of s"]
    assert checked([*lines[:3], lines[1]]) == ["record 2: line 4 of s is not in its place"]
    assert checked([*lines[:3], lines[3].replace(b"/2", b"/9"), *lines[4:]]) == [
        "record 4: line 4 of s, or the line before it, was changed"
    ]
    assert checked([*lines[:3], b"no record\n", *lines[4:]]) == ["record 4: line 4 of s is not a record"]
    assert checked(lines[:-1], last.seq) == [f"record {last.seq}: the end of the trail is missing"]


def test_an_index_keeps_the_lines_that_do_not_follow(lines: list[bytes]) -> None:
    joints = Joints()
    assert [raw for _, raw in joints.among(enumerate([*lines[:3], *lines[4:]]))] == [*lines[:3], *lines[4:]]
    assert [(joint.line, joint.seq) for joint in joints.found] == [(1, 1), (4, 5)]
    assert (joints.found[1].before, joints.last) == (lines[2], lines[-1])


@pytest.mark.parametrize(
    ("hole", "what"),
    [
        (Hole(0, 0, ""), "records"),
        (Hole(0, 7, ""), "records up to 7"),
        (Hole(7, 0, ""), "records from 7 on"),
        (Hole(7, 7, ""), "record 7"),
        (Hole(7, 9, ""), "records 7 to 9"),
        (Hole(7, 6, ""), "before record 7"),
    ],
)
def test_a_hole_names_its_records(hole: Hole, what: str) -> None:
    assert hole.what == what
