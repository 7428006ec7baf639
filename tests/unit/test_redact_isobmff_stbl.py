"""Sample tables against what they say one by one."""

from __future__ import annotations

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.isobmff.stbl import Extents, Samples, SampleTable

SIZE = 40


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
    for offset, count in zip(at, per_chunk, strict=True):
        wanted.append((offset, offset + sum(rest[:count])))
        del rest[:count]
    extents = Samples(table).extents(10_000)
    assert list(zip(extents.starts, extents.ends, strict=True)) == wanted
    assert extents.starts.typecode == extents.ends.typecode == array("Q").typecode
