"""Functions that apply patches: a whole plan to a copy, in slices, or some patches to bytes after a read."""

from __future__ import annotations

import bisect
from operator import attrgetter
from typing import Final

import trio

from policyfs.domain import Patch, Ranges
from policyfs.fs.sharing.pauses import in_slices
from policyfs.redact.core.values import Plan
from policyfs.store.frozen import Frozen, apply
from policyfs.trail.lines.line import RANGES_LIMIT

AT_ONCE: Final = 128
"""The number of patches between two possible pauses (in_slices): about 0.2 ms."""
_OFFSET: Final = attrgetter("offset")
_BYTES_AT_ONCE: Final = 1 << 20
"""The number of patched bytes after which a pause is possible: 128 patches of 1 MiB took 50 ms."""

_INLINE_PATCHES: Final = 512
"""The largest number of patches that the event loop applies to the bytes of one read: about 0.4 ms."""
_LARGE_READS: Final = trio.CapacityLimiter(2)
"""The limit of threads that apply more patches: each of them makes the loop wait for the interpreter lock."""


def ranges_of(plan: Plan) -> Ranges:
    """Return the ranges that a plan replaces."""
    number = len(plan.patches)
    first = tuple((patch.offset, patch.size) for patch in plan.patches[:RANGES_LIMIT])
    total_bytes = plan.plan_size.replaced_bytes if number > RANGES_LIMIT else sum(size for _, size in first)
    return Ranges(first, number, total_bytes)


async def apply_all(copy: Frozen, patches: tuple[Patch, ...]) -> bool:
    """Write *patches* into a copy. Return True if other requests may have run meanwhile. A thread writes into
    a clone, because the kernel must first read the rest of each changed block from the disk."""
    if copy.how == "reflink" and patches:
        await trio.to_thread.run_sync(apply, copy, patches)
        return True
    done = 0

    def some() -> bool:
        nonlocal done
        start, done = done, _end_of_part(patches, done)
        apply(copy, patches[start:done])
        return done < len(patches)

    await in_slices(some)  # without a pause if there is one part only
    return _end_of_part(patches, 0) < len(patches)


def _end_of_part(patches: tuple[Patch, ...], start: int) -> int:
    """Return the index behind the last patch that is applied together with the patch at *start*."""
    end, room = start, _BYTES_AT_ONCE
    while end < min(len(patches), start + AT_ONCE) and room > 0:
        room -= patches[end].size
        end += 1
    return end


async def patched_read(data: memoryview, offset: int, patches: tuple[Patch, ...]) -> memoryview:
    """Do the same as patched(). If there are many patches in these bytes, a thread does it."""
    first = bisect.bisect_left(patches, offset, key=_OFFSET)
    if bisect.bisect_left(patches, offset + len(data), first, key=_OFFSET) - first <= _INLINE_PATCHES:
        return patched(data, offset, patches)
    return await trio.to_thread.run_sync(patched, data, offset, patches, limiter=_LARGE_READS)


def patched(data: memoryview, offset: int, patches: tuple[Patch, ...]) -> memoryview:
    """Write patches into *data*, which was read at *offset*, and return *data*. patches: sorted by offset."""
    end = offset + len(data)
    at = bisect.bisect_right(patches, offset, key=lambda patch: patch.end)
    while at < len(patches) and patches[at].offset < end:
        patch, at = patches[at], at + 1
        first, last = max(patch.offset, offset), min(patch.end, end)
        data[first - offset : last - offset] = patch.part(first, last)
    return data
