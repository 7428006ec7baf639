"""The arithmetic of sample tables in plain Python: what policyfs/redact/isobmff/_stbl.c is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise, repeat
from operator import sub


def spread(rows: Sequence[int], chunks: int) -> list[int] | None:
    """Return the samples of each chunk, as far as the rows reach; None if they are not in order."""
    firsts, counts = rows[0::3], rows[1::3]
    if any(a > b for a, b in pairwise(firsts)):
        return None
    # Below zero for runs behind the last chunk: they get no chunks.
    lengths = map(sub, chain(firsts[1:], (chunks + 1,)), chain((1,), firsts[1:]))
    return list(islice(chain.from_iterable(map(repeat, counts, lengths)), chunks))


def sizes_listed(counts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return the bytes of each chunk by a table of sizes; missing samples have none."""
    slices = map(slice, accumulate(counts, initial=0), accumulate(counts))
    return [sum(sizes[one]) for one in slices]


def sizes_even(counts: Sequence[int], size: int, sounds: Iterable[tuple[int, int]]) -> list[int]:
    """Return the bytes of each chunk if all samples are alike: by the table, or as plain sound."""
    pairs = list(sounds)
    return [
        max([count * size, *((count * each + samples - 1) // samples for each, samples in pairs)])
        for count in counts
    ]


def ranges(starts: Sequence[int], sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Return the ranges of chunks, cut at limit. OverflowError if an end needs more than 64 bits."""
    cut = [min(start, limit) for start in starts]
    ends = [start + size for start, size in zip(cut, sizes, strict=True)]
    if max(ends, default=0) >= 1 << 64:
        raise OverflowError
    return [(start, min(end, limit)) for start, end in zip(cut, ends, strict=True)]


def gaps(found: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of [0, size) in no range: between the i-th end and the start behind it."""
    starts, ends = sorted(start for start, _ in found), sorted(end for _, end in found)
    first = starts[0] if starts else size
    if first > 0:
        yield 0, min(first, size)
    for start, end in zip(ends, starts[1:], strict=False):
        if end > start and start < size:
            yield start, min(end, size)
    if ends and ends[-1] < size:
        yield ends[-1], size
