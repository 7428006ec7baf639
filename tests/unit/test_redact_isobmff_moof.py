"""Movie fragments: the places of their samples, by every way that a fragment may state them."""

from __future__ import annotations

from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.moof import Fragments
from tests.support.samples.inners import PLACES
from tests.support.samples.movies import box, full, u32

AT = 10_000
"""The place of the fragment in its file."""
LIMIT = 100_000
DEFAULT = 7
BASE, DESCRIPTION, DURATION, SIZE, FLAGS, FROM_MOOF = 0x1, 0x2, 0x8, 0x10, 0x20, 0x20000
OFFSET, FIRST_FLAGS = 0x1, 0x4
RUN_DURATION, RUN_SIZE, RUN_FLAGS, RUN_TIME = 0x100, 0x200, 0x400, 0x800


def tfhd(track: int, flags: int = 0, *fields: bytes) -> bytes:
    return full(b"tfhd", u32(track), *fields, flags=flags)


def trun(count: int, flags: int = 0, *numbers: int, behind: bytes = b"") -> bytes:
    return full(b"trun", u32(count, *numbers), behind, flags=flags)


def read(*boxes: bytes, limit: int = LIMIT) -> tuple[dict[int, list[tuple[int, int]]], bytes]:
    """The ranges of each track, and the fragment as it stays."""
    data = box(b"moof", *boxes)
    block = Block(data, AT, PLACES)
    fragments = Fragments({1: DEFAULT, 2: 100}, limit)
    fragments.read(block, block.boxes(0, len(data)).boxes[0])
    ranges = {track: list(zip(runs.starts, runs.ends, strict=True)) for track, runs in fragments.runs.items()}
    return ranges, apply(data, [patch.shifted(-AT) for patch in block.found.patches])


def runs(*traf: bytes, limit: int = LIMIT) -> list[tuple[int, int]]:
    """The ranges of the only track."""
    (found,) = read(box(b"traf", *traf), limit=limit)[0].values()
    return found


def test_samples_have_the_size_of_their_track_or_of_their_fragment() -> None:
    assert runs(tfhd(1), trun(3)) == [(AT, AT + 21)]
    assert runs(tfhd(2), trun(3)) == [(AT, AT + 300)]
    assert runs(tfhd(3), trun(3)) == [], "a track without a default has samples of no size"
    assert runs(tfhd(1, SIZE, u32(5)), trun(3)) == [(AT, AT + 15)]
    every = DESCRIPTION | DURATION | SIZE | FLAGS
    assert runs(tfhd(1, every, u32(91, 92, 5, 93)), trun(3)) == [(AT, AT + 15)]


def test_sizes_are_the_run_s_own_column_where_it_has_one() -> None:
    assert runs(tfhd(1), trun(2, RUN_SIZE, 10, 20)) == [(AT, AT + 30)]
    columns = RUN_DURATION | RUN_SIZE | RUN_FLAGS | RUN_TIME
    assert runs(tfhd(1), trun(2, columns, 1, 10, 3, 4, 5, 20, 7, 8)) == [(AT, AT + 30)]
    assert runs(tfhd(1), trun(2, RUN_DURATION, 1000, 2000)) == [(AT, AT + 14)]
    assert runs(tfhd(1), trun(99, RUN_SIZE, 10, 20)) == [(AT, AT + 30)], "only entries that are there"


def test_offsets_count_from_the_fragment_or_from_a_stated_base() -> None:
    assert runs(tfhd(1), trun(1, OFFSET, 50)) == [(AT + 50, AT + 57)]
    assert runs(tfhd(1, FROM_MOOF), trun(1, OFFSET, 50)) == [(AT + 50, AT + 57)]
    assert runs(tfhd(1, BASE, u32(0, 500)), trun(1, OFFSET, 50)) == [(550, 557)]
    assert runs(tfhd(1, BASE | FROM_MOOF, u32(0, 500)), trun(1)) == [(500, 507)]
    assert runs(tfhd(1, BASE, u32(0, 500)), trun(1, OFFSET | FIRST_FLAGS, 50, 9)) == [(550, 557)]
    assert runs(tfhd(1, BASE, u32(0, 500)), trun(1, OFFSET, 2**32 - 100)) == [(400, 407)]
    assert runs(tfhd(1, BASE, u32(0, 50)), trun(1, OFFSET, 2**32 - 100)) == [(0, 7)], "never before the file"


def test_a_run_without_an_offset_follows_the_one_before() -> None:
    assert runs(tfhd(1), trun(1, OFFSET, 50), trun(2), trun(1, OFFSET, 90)) == [
        (AT + 50, AT + 57), (AT + 57, AT + 71), (AT + 90, AT + 97)
    ]  # fmt: skip


def test_a_track_without_a_base_follows_the_data_of_the_one_before() -> None:
    one, two = box(b"traf", tfhd(1), trun(2, OFFSET, 50)), box(b"traf", tfhd(2), trun(1))
    assert read(one, two)[0] == {1: [(AT + 50, AT + 64)], 2: [(AT + 64, AT + 164)]}
    from_moof = box(b"traf", tfhd(2, FROM_MOOF), trun(1))
    assert read(one, from_moof)[0][2] == [(AT, AT + 100)]


def test_ranges_end_at_the_end_of_the_file() -> None:
    assert runs(tfhd(1), trun(3), limit=AT + 10) == [(AT, AT + 10)]
    assert runs(tfhd(1), trun(3), trun(1), limit=AT) == []


def test_a_run_without_a_header_is_of_no_track() -> None:
    assert read(box(b"traf", trun(3)))[0] == {0: []}


def test_bytes_behind_the_stated_fields_become_zeros_and_short_boxes_go() -> None:
    made = box(b"traf", tfhd(1, SIZE, u32(5), b"secret"), trun(1, RUN_SIZE, 9, behind=b"secret"))
    _, out = read(made)
    assert out == box(
        b"moof", box(b"traf", tfhd(1, SIZE, u32(5), bytes(6)), trun(1, RUN_SIZE, 9, behind=bytes(6)))
    )
    ranges, out = read(box(b"traf", tfhd(1, SIZE), trun(1)))
    assert out == box(b"moof", box(b"traf", box(b"free", bytes(8)), trun(1)))
    assert ranges == {0: []}
    _, out = read(box(b"traf", tfhd(1), full(b"trun", u32(1), flags=OFFSET)), box(b"what", b"secret"))
    assert out == box(b"moof", box(b"traf", tfhd(1), box(b"free", bytes(8))), box(b"free", bytes(6)))


def test_an_earlier_short_header_does_not_name_the_track() -> None:
    """The first header's track must not count for the samples of a fragment that follows it."""
    good, bad = box(b"traf", tfhd(1), trun(1)), box(b"traf", tfhd(2, BASE, u32(0)), trun(1))
    assert set(read(good, bad)[0]) == {1, 0}
