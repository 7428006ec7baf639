# Arithmetic over sample tables (_stbl.c), in arrays of native byte order. Raises TypeError for other objects.

from array import array

# Fills the number of samples of each chunk from the rows of a "stsc" table (first chunk, samples,
# description; codes "I"), as far as the rows reach. Returns the number of chunks filled; -1 if the rows are
# not in order.
def spread(rows: array[int], counts: array[int], /) -> int: ...

# Cuts the starts of chunks (code "Q") at `limit` (bytes) and fills their ends, cut likewise. counts: samples
# of each chunk ("I"). listed: sizes (codes "B", "H", "I") has the bytes of each sample, and missing ones have
# none; else each has `size`, and a chunk has at least the bytes that one of the sounds states (pairs of bytes
# and samples, "Q"). Raises ValueError (lengths), OverflowError (an end that needs more than 64 bits).
def ranges(
    starts: array[int],
    ends: array[int],
    counts: array[int],
    sizes: array[int],
    sounds: array[int],
    listed: bool,
    size: int,
    limit: int,
    /,
) -> None: ...

# The sum of an array of code "I".
def total(counts: array[int], /) -> int: ...

# Sorts an array of code "Q" in place. A film's ranges are a few ascending runs, which are merged.
def sort(values: array[int], /) -> None: ...

# The first index i from `at` on where starts[i + 1] > ends[i]; -1 if there is none. Codes "Q".
def next_gap(starts: array[int], ends: array[int], at: int, /) -> int: ...
