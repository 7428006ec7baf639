"""Which lines of a segment are proven: those that were compared with the writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.journal.files.extent import Extent
from policyfs.journal.sealing.segment_reading import SegmentReading
from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import MerkleTree
from policyfs.trail.lines.line import LineFormatter

BODIES = [LineFormatter().record("header", 1, 0, {"previous": chain.GENESIS})]
BODIES += [b'{"type":"event","seq":%d' % number for number in range(2, 6)]


def lines_of(bodies: list[bytes]) -> tuple[bytes, str]:
    """Lines with right digests, and the last digest."""
    head, lines = chain.GENESIS, b""
    for body in bodies:
        line, head = chain.seal(head, body)
        lines += line
    return lines, head


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[tuple[Path, SegmentReading]]:
    path = tmp_path / "segment"
    path.write_bytes(lines_of(BODIES)[0])
    reading = SegmentReading(path.name, os.open(path, os.O_RDONLY))
    yield path, reading
    reading.close()


def extent_of(count: int, head: str | None = None) -> Extent:
    lines, digest = lines_of(BODIES[:count])
    return Extent("segment", len(lines), count, digest if head is None else head)


def read(reading: SegmentReading, extent: Extent) -> None:
    while reading.advance(extent.size):
        pass
    reading.compare(extent)


def test_lines_count_up_to_the_last_comparison(segment: tuple[Path, SegmentReading]) -> None:
    path, reading = segment
    read(reading, extent_of(3))
    assert reading.proven is not None
    assert (reading.proven.lines, reading.proven.seq) == (3, 3)
    path.write_bytes(lines_of([*BODIES[:3], BODIES[3] + b',"x":1', BODIES[4]])[0])
    size = path.stat().st_size
    read(reading, Extent("segment", size, 5, lines_of(BODIES)[1]))
    assert reading.wrong == "the end of the segment is not as it was written"
    assert reading.proven.lines == 3
    assert reading.proven.root != reading.tree.root()


def test_all_right_lines_count_if_no_writer_knows_the_digest(segment: tuple[Path, SegmentReading]) -> None:
    path, reading = segment
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"seq":4', b'"seq":9'))
    read(reading, Extent("segment", len(data), 0, ""))
    assert reading.wrong == "line 4 is not as it was written"
    assert reading.proven is not None
    assert reading.proven.lines == 3


def test_lines_that_were_not_read_are_not_compared(segment: tuple[Path, SegmentReading]) -> None:
    _, reading = segment
    reading.compare(extent_of(3))
    assert (reading.proven, reading.wrong) == (None, "")


def test_without_new_lines_no_root_is_computed(
    segment: tuple[Path, SegmentReading], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reading = segment
    read(reading, extent_of(3))
    before = reading.proven
    monkeypatch.setattr(MerkleTree, "root", lambda _self: pytest.fail("20 hashes for nothing"))
    read(reading, extent_of(3))
    assert reading.proven is before
