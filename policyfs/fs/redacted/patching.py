"""Functions that apply patches: a whole plan to a copy, in slices, or some patches to bytes after a read."""

from __future__ import annotations

import bisect
from typing import Final

from policyfs.domain import Patch
from policyfs.fs.sharing.pauses import in_slices
from policyfs.store.frozen import Frozen, apply

AT_ONCE: Final = 128
"""The number of patches between two possible pauses (in_slices): about 0.2 ms. A plan has at most 262,144
patches (content/plans.py)."""
_BYTES_AT_ONCE: Final = 1 << 20
"""The number of patched bytes after which a pause is possible. Without this limit, 128 patches of almost
1 MiB each took 50 ms. (Larger patches are punched as holes, store/frozen.py.)"""

Ranges = tuple[tuple[int, int], ...]
"""The offset and the size in bytes of each patched range."""


async def apply_all(copy: Frozen, patches: tuple[Patch, ...]) -> tuple[Ranges, bool]:
    """Write *patches* into a copy. Return their ranges, and True if other requests may have run meanwhile."""
    ranges: list[tuple[int, int]] = []

    def some() -> bool:
        part = patches[len(ranges) : _end_of_part(patches, len(ranges))]
        apply(copy, part)
        ranges.extend((patch.offset, patch.size) for patch in part)
        return len(ranges) < len(patches)

    await in_slices(some)  # without a pause if there is one part only
    return tuple(ranges), _end_of_part(patches, 0) < len(patches)


def _end_of_part(patches: tuple[Patch, ...], start: int) -> int:
    """Return the index behind the last patch that is applied together with the patch at *start*."""
    end, room = start, _BYTES_AT_ONCE
    while end < min(len(patches), start + AT_ONCE) and room > 0:
        room -= patches[end].size
        end += 1
    return end


def patched(data: memoryview, offset: int, patches: tuple[Patch, ...]) -> memoryview:
    """Write patches into *data*, which was read at *offset*, and return *data*. patches: sorted by offset."""
    end = offset + len(data)
    at = bisect.bisect_right(patches, offset, key=lambda patch: patch.end)
    while at < len(patches) and patches[at].offset < end:
        patch, at = patches[at], at + 1
        first, last = max(patch.offset, offset), min(patch.end, end)
        data[first - offset : last - offset] = patch.part(first, last)
    return data
