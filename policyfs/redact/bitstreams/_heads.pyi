# A search of frames (_heads.c), in arrays of native byte order. Raises TypeError for other objects.

from array import array

# Searches successive frames of a film in `data`, the bytes of the file from the offset `base` on. starts,
# ends: offsets of all frames, sorted by their starts (codes "Q"). tracks: for each frame the number of its
# form ("H"). rules: 15 numbers for each form ("Q", frames.py: _rule). leads: for each form the bytes at the
# start of each frame that are stored elsewhere. first: number of the first frame to search.
#
# Returns two numbers. The first: number of the frame at which the search stopped, because the frame does not
# lie within `data`, or because `found` is full. The second: the number of frames that must be cleaned.
# `found` ("I") gets the numbers of these frames. Raises ValueError for arrays of different lengths, and for a
# frame without a form.
def suspects(
    data: bytes,
    base: int,
    starts: array[int],
    ends: array[int],
    tracks: array[int],
    rules: array[int],
    leads: tuple[bytes, ...],
    first: int,
    found: array[int],
    /,
) -> tuple[int, int]: ...

# Sorts frames in place by their starts, ends and tracks. Frames without bytes and repetitions are left out.
# Returns the number of frames that are left; the rest of each array is undefined.
def order(starts: array[int], ends: array[int], tracks: array[int], /) -> int: ...
