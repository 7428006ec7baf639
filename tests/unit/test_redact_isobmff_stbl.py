"""Sample tables against what they say one by one."""

from __future__ import annotations

from array import array
from itertools import chain, islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.isobmff import _stbl
from policyfs.redact.isobmff.stbl import Extents, Runs, Samples, SampleTable
from tests.support.machine.counts import count
from tests.support.models import sample_tables

SIZE = 40
WORD = (1 << 32) - 1
LONG = (1 << 64) - 1
words_of_tables = st.integers(0, 6) | st.integers(0, WORD) | st.sampled_from((0, 1, WORD - 1, WORD))
longs = st.integers(0, 60) | st.integers(0, LONG) | st.sampled_from((LONG - 1, LONG, 1 << 63))
pairs_of_sound = st.lists(st.tuples(words_of_tables, words_of_tables.filter(bool)), max_size=3)


def words(*numbers: int) -> memoryview:
    """A table's payload: version and flags, then numbers of 4 bytes."""
    return memoryview(b"".join(number.to_bytes(4) for number in (0, *numbers)))


@given(st.lists(st.tuples(st.integers(0, SIZE + 5), st.integers(1, 12)), max_size=8))
def test_gaps_are_the_bytes_in_no_range(ranges: list[tuple[int, int]]) -> None:
    extents = Extents()
    for start, size in ranges:
        extents.add(start, size)
    inside = {at for start, size in ranges for at in range(start, start + size)}
    gaps = list(extents.gaps(SIZE))
    assert [at for gap in gaps for at in range(*gap)] == [at for at in range(SIZE) if at not in inside]
    assert all(start < end for start, end in gaps)
    assert all(before[1] < after[0] for before, after in pairwise(gaps))


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.integers(1, 9), max_size=20),
    st.lists(st.integers(0, 500), max_size=12),
)
def test_chunks_are_as_long_as_their_samples(per_chunk: list[int], sizes: list[int], at: list[int]) -> None:
    at = (at + [1000] * 12)[: len(per_chunk)]
    runs = [(n + 1, count) for n, count in enumerate(per_chunk) if n == 0 or per_chunk[n - 1] != count]
    table = SampleTable(
        stsc=words(len(runs), *(number for first, count in runs for number in (first, count, 1))),
        stsz=words(0, len(sizes), *sizes),
        stco=words(len(at), *at),
    )
    wanted, rest = [], list(sizes)
    for offset, held in zip(at, per_chunk, strict=True):
        wanted.append((offset, offset + sum(rest[:held])))
        del rest[:held]
    extents = Samples(table).extents(10_000)
    assert list(zip(extents.starts, extents.ends, strict=True)) == wanted
    assert extents.starts.typecode == extents.ends.typecode == array("Q").typecode


@given(st.lists(words_of_tables, max_size=20) | st.lists(st.integers(0, 9), max_size=20), st.integers(0, 12))
@settings(max_examples=count(150, 5_000))
def test_rows_are_spread_as_in_python(rows: list[int], chunks: int) -> None:
    counts = array("I", (7,)) * chunks
    filled = _stbl.spread(array("I", rows), counts)
    wanted = sample_tables.spread(rows, chunks)
    assert (None if filled < 0 else counts[:filled].tolist()) == wanted
    assert counts[max(0, filled) :] == array("I", (7,)) * (chunks - max(0, filled))


@given(
    st.lists(st.integers(0, 9), max_size=8).map(sorted),
    st.lists(st.integers(0, 4), max_size=9),
    st.integers(0, 2),
    st.integers(0, 12),
)
@settings(max_examples=count(150, 5_000))
def test_rows_in_order_are_spread_as_in_python(
    firsts: list[int], counts: list[int], cut: int, chunks: int
) -> None:
    rows = [number for pair in zip(firsts, counts, strict=False) for number in (*pair, 1)]
    rows = rows[: max(0, len(rows) - cut)]
    made = array("I", (7,)) * chunks
    filled = _stbl.spread(array("I", rows), made)
    assert made[:filled].tolist() == sample_tables.spread(rows, chunks)


chunks_of_tables = st.lists(st.tuples(longs, words_of_tables), max_size=8)
limits = st.integers(0, 60) | st.integers(0, (1 << 63) - 1)
sizes_of_tables = st.one_of(
    st.lists(st.integers(0, 3) | st.integers(0, most), max_size=12).map(lambda sizes, c=code: array(c, sizes))
    for code, most in (("B", 255), ("H", 65535), ("I", WORD))
)


@given(chunks_of_tables, sizes_of_tables, limits, st.integers(0, 2))
@settings(max_examples=count(150, 5_000))
def test_ranges_by_listed_sizes_are_those_of_python(
    chunks: list[tuple[int, int]], sizes: array, limit: int, more: int
) -> None:
    counts = [count for _, count in chunks] + [1] * more
    check([at for at, _ in chunks], counts, sizes, [], 0, limit)


@given(chunks_of_tables, words_of_tables, pairs_of_sound, limits)
@settings(max_examples=count(150, 5_000))
def test_ranges_by_one_size_are_those_of_python(
    chunks: list[tuple[int, int]], size: int, sounds: list[tuple[int, int]], limit: int
) -> None:
    check([at for at, _ in chunks], [count for _, count in chunks], None, sounds, size, limit)


def check(
    at: list[int],
    counts: list[int],
    listed: array | None,
    sounds: list[tuple[int, int]],
    size: int,
    limit: int,
) -> None:
    """Both give the same ranges, or both say that one needs more than 64 bits."""
    starts, ends = array("Q", at), array("Q", (0,)) * len(at)
    flat = array("Q", chain.from_iterable(sounds))
    tables = starts, ends, array("I", counts), array("I") if listed is None else listed, flat
    if listed is None:
        sizes = sample_tables.sizes_even(counts[: len(at)], size, sounds)
    else:
        sizes = sample_tables.sizes_listed(counts[: len(at)], listed)
    try:
        wanted = sample_tables.ranges(at, sizes, limit)
    except OverflowError:
        with pytest.raises(OverflowError):
            _stbl.ranges(*tables, listed is not None, size, limit)
        return
    _stbl.ranges(*tables, listed is not None, size, limit)
    assert list(zip(starts, ends, strict=True)) == wanted


@given(st.lists(longs, max_size=40), st.integers(0, 4))
@settings(max_examples=count(150, 5_000))
def test_numbers_are_sorted(numbers: list[int], runs: int) -> None:
    made = array("Q", numbers + [number for _ in range(runs) for number in sorted(numbers)])
    wanted = sorted(made)
    _stbl.sort(made)
    assert made.tolist() == wanted


@pytest.mark.parametrize("count", [1000, 4095, 4097])
@pytest.mark.parametrize("step", [-1, 1, 389, 2000])
def test_long_tables_are_sorted(count: int, step: int) -> None:
    made = array("Q", (number * step % 4096 for number in range(count)))
    wanted = sorted(made)
    _stbl.sort(made)
    assert made.tolist() == wanted


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12), st.integers(0, 60))
@settings(max_examples=count(150, 5_000))
def test_gaps_are_those_of_python(found: list[tuple[int, int]], size: int) -> None:
    extents = Extents(array("Q", (at for at, _ in found)), array("Q", (at + length for at, length in found)))
    wanted = list(sample_tables.gaps([(at, at + length) for at, length in found], size))
    assert list(extents.gaps(size)) == wanted


@given(st.lists(words_of_tables, max_size=20))
def test_counts_are_summed(counts: list[int]) -> None:
    assert _stbl.total(array("I", counts)) == sum(counts)


@pytest.mark.parametrize("rows", [(), (2, 3), (1, 5), (1, 5, 1), (4, 5, 1), (1, 5, 1, 3), (1, 5, 1, 3, 2)])
@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_cut_tables_of_chunks(rows: tuple[int, ...], chunks: int) -> None:
    table = SampleTable(stsc=words(-(-len(rows) // 3), *rows))
    firsts = rows[0::3]
    if len(firsts) == 1:
        assert table.per_chunk(chunks).tolist() == [*rows[1:2]] * chunks
    else:
        assert table.per_chunk(chunks).tolist() == sample_tables.spread(rows, chunks)


def test_rows_out_of_order_are_no_table_of_chunks() -> None:
    table = SampleTable(stsc=words(2, 5, 1, 1, 4, 1, 1))
    with pytest.raises(NotThisKindError):
        table.per_chunk(3)
    assert not table.per_chunk(0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: _stbl.total(array("Q")),
        lambda: _stbl.total(array("f", (1.0,))),
        lambda: _stbl.total("text"),
        lambda: _stbl.sort(array("i")),
        lambda: _stbl.sort(bytes(8)),
        lambda: _stbl.sort(memoryview(bytes(8)).cast("Q")),
        lambda: _stbl.spread(array("I"), bytes(4)),
        lambda: _stbl.spread(array("H"), array("I")),
        lambda: _stbl.next_gap(array("I"), array("Q"), 0),
        lambda: _stbl.next_gap(array("Q"), array("q"), 0),
        lambda: _stbl.ranges(*[array("Q")] * 5, False, 0, 0),
        lambda: _stbl.ranges(array("Q"), array("Q"), array("I"), array("Q"), array("Q"), True, 0, 0),
    ],
)
def test_only_arrays_of_the_right_numbers_are_taken(wrong) -> None:
    with pytest.raises((TypeError, BufferError)):
        wrong()


@pytest.mark.parametrize(("ends", "counts", "limit"), [(1, 2, 0), (3, 2, 0), (2, 1, 0), (2, 2, -1)])
def test_tables_of_other_lengths_are_not_taken(ends: int, counts: int, limit: int) -> None:
    tables = array("Q", (1, 2)), array("Q", bytes(8 * ends)), array("I", bytes(4 * counts))
    with pytest.raises(ValueError, match="lengths"):
        _stbl.ranges(*tables, array("I"), array("Q"), False, 1, limit)


def test_a_sound_of_no_samples_is_refused() -> None:
    tables = array("Q", (1,)), array("Q", (0,)), array("I", (1,)), array("I"), array("Q", (1, 0))
    with pytest.raises(OverflowError):
        _stbl.ranges(*tables, False, 1, 10)


@pytest.mark.parametrize("at", [-5, 0, 1, 2, 1 << 40])
def test_a_gap_is_looked_for_within_the_tables(at: int) -> None:
    wanted = 1 if at <= 1 else -1
    assert _stbl.next_gap(array("Q", (0, 5, 9)), array("Q", (5, 8, 12)), at) == wanted
    assert _stbl.next_gap(array("Q", (0, 5, 9)), array("Q"), at) == -1
    assert _stbl.next_gap(array("Q"), array("Q", (5,)), at) == -1


def test_samples_of_runs_end_with_their_run() -> None:
    runs = Runs()
    runs.add_run(100, 10, array("I", (4, 0, 6)))
    runs.add_run(0, 0, array("I", (9,)))
    runs.add_run(50, 7, array("I", (3,)))
    runs.add_run(70, 5, array("I", (4, 9, 9)))
    runs.add_run(90, 3, array("I", (9, 9)))
    starts, ends = array("Q"), array("Q")
    for run in range(4):
        runs.append_samples(run, starts, ends)
    assert list(zip(starts, ends, strict=True)) == [
        *((100, 104), (104, 104), (104, 110)),
        *((50, 53), (53, 56), (56, 57)),
        *((70, 74), (74, 75)),
        (90, 93),
    ]


def test_a_run_of_too_many_samples_is_refused() -> None:
    runs = Runs()
    runs.add_run(0, 1 << 40, array("I", (1,)))
    with pytest.raises(TooMuchError):
        runs.append_samples(0, array("Q"), array("Q"))


@given(chunks_of_tables, sizes_of_tables | st.none(), words_of_tables, limits)
@settings(max_examples=count(150, 5_000))
def test_places_of_samples_are_those_of_python(
    chunks: list[tuple[int, int]], listed: array | None, size: int, limit: int
) -> None:
    chunks = [(at, count % 50) for at, count in chunks]
    counts = sum(count for _, count in chunks)
    count = counts if listed is None else min(counts, len(listed))
    sizes = [size] * count if listed is None else list(listed[:count])
    wanted, left = [], iter(sizes)
    for at, samples in chunks:
        for length in islice(left, samples):
            wanted.append((min(at, limit), min(at + length, limit)))
            at += length
    starts, ends = array("Q", bytes(8 * count)), array("Q", bytes(8 * count))
    tables = array("Q", [at for at, _ in chunks]), array("I", [n for _, n in chunks])
    last = array("I") if listed is None else listed
    if any(at + sum(sizes) > LONG for at, _ in chunks):
        return
    _stbl.places(*tables, last, starts, ends, listed is not None, size, limit)
    assert list(zip(starts, ends, strict=True)) == wanted


def test_places_need_arrays_of_one_length_and_64_bits() -> None:
    two, one = array("Q", bytes(16)), array("Q", bytes(8))
    with pytest.raises(ValueError, match="lengths"):
        _stbl.places(one, array("I", (1,)), array("I"), two, one, False, 1, 9)
    with pytest.raises(ValueError, match="lengths"):
        _stbl.places(one, array("I", (1,)), array("I"), two, two, True, 1, 9)
    with pytest.raises(OverflowError):
        _stbl.places(array("Q", (LONG,)), array("I", (1,)), array("I"), two, two, False, 1, 9)
    with pytest.raises(TypeError):
        _stbl.places(array("I"), array("I"), array("I"), two, two, False, 1, 9)
