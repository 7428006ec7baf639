"""The table of a film's frames: its parts, and its form as bytes."""

from __future__ import annotations

from array import array

import hypothesis
import hypothesis.strategies as st
import pytest

from policyfs.redact.core import frame_table
from policyfs.redact.core.frame_table import FrameForm, FrameTable, void_sum
from policyfs.redact.core.patches import apply
from policyfs.redact.matroska.ebml import void

FORMS = (FrameForm("H.264", 4, b"lead", encrypted=True), FrameForm("pictures"), FrameForm("AV1"))
places = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 2)), max_size=20)


def table_of(frames: list[tuple[int, int, int]]) -> FrameTable:
    """A table of frames: offset, size and number of the form of each."""
    rows = sorted(frames)
    return FrameTable(
        array("Q", [at for at, _, _ in rows]),
        array("Q", [at + size for at, size, _ in rows]),
        array("H", [form for _, _, form in rows]),
        FORMS,
    )


def frames_of(table: FrameTable) -> list[tuple[int, int, int]]:
    return list(zip(table.starts, table.ends, table.tracks, strict=True))


@hypothesis.given(places, st.integers(0, 80), st.integers(0, 80))
def test_frames_with_a_byte_in_a_range(frames: list[tuple[int, int, int]], start: int, end: int) -> None:
    table = table_of(frames)
    wanted = [one for one in frames_of(table) if one[0] < end and one[1] > start] if start < end else []
    if start < end:
        assert frames_of(table.overlapping(start, end)) == wanted
    assert table.overlapping(start, end).forms == FORMS


@hypothesis.given(places, st.integers(0, 1 << 40))
def test_frames_at_other_offsets(frames: list[tuple[int, int, int]], by: int) -> None:
    table = table_of(frames)
    moved = table.shifted(by)
    assert frames_of(moved) == [(start + by, end + by, form) for start, end, form in frames_of(table)]
    assert moved.shifted(-by) == table
    if frames:
        with pytest.raises(ValueError, match="before"):
            table.shifted(-table.starts[0] - 1)


@hypothesis.given(places, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=4))
def test_frames_that_lie_in_ranges(frames: list[tuple[int, int, int]], found: list[tuple[int, int]]) -> None:
    ranges, at = [], 0
    for gap, size in found:
        ranges.append((at + gap, at + gap + size))
        at += gap + size + 1
    table = table_of(frames)
    inside = all(any(a <= one[0] and one[1] <= b for a, b in ranges) for one in frames_of(table))
    assert table.lies_in(ranges) is inside


@hypothesis.given(places)
def test_a_table_becomes_bytes_and_comes_back(frames: list[tuple[int, int, int]]) -> None:
    table = table_of(frames)
    assert FrameTable.unpack(table.pack()) == table
    assert len(table) == len(frames)


@hypothesis.given(st.integers(0, 60), st.integers(1, 30))
def test_checksums_with_a_byte_in_a_range(start: int, size: int) -> None:
    sums = [(2, 8), (9, 30), (40, 50)]
    table = FrameTable(sums=array("Q", [at for at, _ in sums]), covered=array("Q", [end for _, end in sums]))
    assert FrameTable.unpack(table.pack()) == table
    wanted = [one for one in sums if one[0] < start + size and start < one[0] + 6]
    assert table.sums_in(start, start + size) == wanted
    assert table.overlapping(0, 99).sums_in(0, 99) == []


def test_a_checksum_becomes_a_void_element_of_the_same_length() -> None:
    assert apply(b"xx\xbf\x84abcdyy", void_sum(2)) == b"xx" + void(6) + b"yy"


@hypothesis.given(places, st.data())
def test_no_bytes_become_a_wrong_table(frames: list[tuple[int, int, int]], data: st.DataObject) -> None:
    packed = bytearray(table_of(frames).pack())
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        table = FrameTable.unpack(bytes(packed))
    except ValueError:
        return
    assert frames_of(table) == sorted(frames_of(table), key=lambda one: one[0])
    assert all(start < end and form < len(table.forms) for start, end, form in frames_of(table))
    assert FrameTable.unpack(table.pack()) == table


@pytest.mark.parametrize(
    "wrong",
    [
        FrameTable(array("Q", (5, 3)), array("Q", (9, 9)), array("H", (0, 0)), FORMS),
        FrameTable(array("Q", (5,)), array("Q", (5,)), array("H", (0,)), FORMS),
        FrameTable(array("Q", (5,)), array("Q", (9,)), array("H", (3,)), FORMS),
        FrameTable(array("Q", (5,)), array("Q", (1 << 63,)), array("H", (0,)), FORMS),
        FrameTable(forms=(FrameForm("H.264", 5),)),
        FrameTable(sums=array("Q", (5,)), covered=array("Q", (10,))),
        FrameTable(sums=array("Q", (5, 20)), covered=array("Q", (21, 40))),
        FrameTable(sums=array("Q", (20, 5)), covered=array("Q", (40, 19))),
        FrameTable(sums=array("Q", (5,)), covered=array("Q", (1 << 63,))),
    ],
)
def test_a_table_that_no_correct_worker_makes_is_refused(wrong: FrameTable) -> None:
    with pytest.raises(ValueError, match=r"frame|checksum"):
        FrameTable.unpack(wrong.pack())


def test_tables_beyond_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = table_of([(1, 2, 0)] * 9).pack()
    with pytest.raises(ValueError, match="before each frame"):
        FrameTable(forms=(FrameForm("AV1", 0, bytes(5000)),)).pack()
    monkeypatch.setattr(frame_table, "MAX_FRAMES", 8)
    with pytest.raises(ValueError, match="too long"):
        FrameTable.unpack(packed)
    with pytest.raises(ValueError, match="too many"):
        table_of([(1, 2, 0)] * 9).pack()
