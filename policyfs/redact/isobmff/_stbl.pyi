# Arithmetic over sample tables (_stbl.c), in arrays of native byte order. Raises TypeError for other objects.

from array import array

# Fills the number of samples of each chunk from the rows of a "stsc" table (first chunk, samples,
# description; codes "I"), as far as the rows reach. Returns the number of chunks filled; -1 if the rows are
# not in order.
def spread(rows: array[int], counts: array[int], /) -> int: ...

# Cuts the starts of chunks (code "Q") at `limit` (bytes). Fills the ends of the chunks, and cuts them, too.
# counts: the number of samples in each chunk ("I"). listed: True if `sizes` ("B", "H" or "I") has the size of
# each sample in bytes. Samples behind the end of `sizes` have no bytes. If listed is False, each sample has
# `size` bytes. Then a chunk has at least as many bytes as each pair (bytes, samples) in `sounds` ("Q") gives.
# Raises ValueError for arrays of different lengths, OverflowError for an end that needs more than 64 bits.
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

# Fills the starts and the ends of samples (code "Q"), cut at `limit` (bytes). offsets: the offset of each
# chunk ("Q"). counts: the number of samples in each chunk ("I"). listed: True if `sizes` ("B", "H" or "I")
# has the size of each sample in bytes. If listed is False, each sample has `size` bytes. Samples of no chunk
# stay as they are in the arrays. Raises ValueError for arrays of different lengths, OverflowError for an end
# that needs more than 64 bits.
def places(
    offsets: array[int],
    counts: array[int],
    sizes: array[int],
    starts: array[int],
    ends: array[int],
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
