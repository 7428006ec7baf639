"""The check of one segment by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import root_of
from policyfs.trail.chain.seal import entries_of
from policyfs.trail.chain.segment_check import SegmentCheck, check_segment
from tests.support.mount.trail import MOUNT_ID, an_event, segments, write_trail


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    [path] = segments(write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(6)]))
    return path.read_bytes().splitlines(keepends=True)


def check(lines: list[bytes], **options: object) -> SegmentCheck:
    return check_segment(MOUNT_ID, "00000001-20260301T080000Z.jsonl", 1, lines, **options)


def test_a_sound_segment_is_described(lines: list[bytes]) -> None:
    found = check(lines, sealed_lines=3, wanted={2, 99})
    last, second = chain.split(lines[-1][:-1]), chain.split(lines[1][:-1])
    assert last is not None
    assert second is not None
    assert (found.sound, found.lines, found.size) == (True, len(lines), sum(map(len, lines)))
    assert (found.first_seq, found.last_seq, found.opening, found.head) == (1, 8, chain.GENESIS, last.chain)
    assert found.root == root_of(entries_of(lines)).hex()
    assert found.sealed_root == root_of(entries_of(lines[:3])).hex()
    assert found.digests == {2: second.chain}
    assert [record.kind for record in found.records] == ["header", "close"]
    assert found.cut is None


def test_an_unfinished_line_is_a_cut(lines: list[bytes]) -> None:
    found = check([*lines[:-1], lines[-1][:30]])
    assert found.sound
    assert found.cut is not None
    assert (found.cut.line, found.cut.size, found.cut.offset) == (8, 30, sum(map(len, lines[:-1])))


def test_an_empty_segment_is_sound_and_has_no_lines() -> None:
    found = check([])
    assert (found.sound, found.lines, found.cut) == (True, 0, None)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (3, lambda line: line.replace(b"/2", b"/3")),
        (3, lambda line: line.replace(b',"chain":', b',"chaim":')),
        (3, lambda line: line[:-4] + (b"1" if line[-4:-3] == b"0" else b"0") + line[-3:]),
        (0, lambda line: line.replace(b'"header"', b'"resume"')),
        (3, lambda line: b"\n"),
    ],
)
def test_any_change_makes_it_unsound(lines: list[bytes], number: int, change) -> None:
    lines[number] = change(lines[number])
    assert not check(lines).sound


def test_a_number_left_out_makes_it_unsound_even_if_the_digests_fit(lines: list[bytes]) -> None:
    body = chain.split(lines[2][:-1])
    before = chain.split(lines[1][:-1])
    assert body is not None
    assert before is not None
    lines[2], _ = chain.seal(before.chain, body.body.replace(b'"seq":3', b'"seq":4'))
    assert not check(lines[:3]).sound
