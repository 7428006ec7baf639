"""Plans of whole films, which are put together from the plan of the index and the plans of the frames.

A film's index is planned by one request (INDEX). Its frames are looked at by further ones (LOOK), each with a
part of the table of frames: so no request takes longer for a long film, and requests for other files come
between.

This module is apart from frame_requests.py, because workers need no event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Final

import trio

from policyfs.content.plans import MAX_PATCH_BYTES, MAX_PATCHES, PATCH_MEMORY, refusal
from policyfs.domain import Patch
from policyfs.redact.core.frame_table import FrameTable, void_sum
from policyfs.redact.core.values import MAX_FINDINGS, Outcome, Plan, PlanSize

BATCH_BYTES: Final = 32 << 20
"""The bytes from the first frame of a batch to its last one. A disk that turns reads so much in 0.3 s."""
SHORT_BYTES: Final = 64 << 20
"""The largest film that is looked at as a whole before its first byte is read: half a second on a disk that
turns."""
LONG_FRAME_BYTES: Final = 14 << 20
"""The largest frame of a film that is looked at as it is read. A window has room for two of them, and a read
between (fs/redacted/windows.py)."""
BATCH_FRAMES: Final = 50_000
"""The largest number of frames in one request, so that its payload is within MAX_REQUEST_PAYLOAD."""
_TOO_MANY: Final = "the film has more hidden parts than policyfs can handle"
_AT_ONCE: Final = 1024
"""The number of patches that the event loop puts in order: about 0.4 ms. A thread does it with more."""
_JOINING: Final = trio.CapacityLimiter(2)
"""The limit of these threads: each of them makes the event loop wait for the interpreter lock."""


def batches(frames: FrameTable) -> Iterator[FrameTable]:
    """Yield all frames of a table, in order, in parts of at most BATCH_BYTES and BATCH_FRAMES. A longer frame
    is a part of its own."""
    first, count = 0, len(frames)
    while first < count:
        last = first + 1
        while last < min(count, first + BATCH_FRAMES):
            if frames.ends[last] - frames.starts[first] > BATCH_BYTES:
                break
            last += 1
        starts, ends, tracks = (column[first:last] for column in (frames.starts, frames.ends, frames.tracks))
        yield FrameTable(starts, ends, tracks, frames.forms)
        first = last


def is_short(index: Plan) -> bool:
    """Return True if all frames that an index leaves out lie within SHORT_BYTES of the file, or if a frame is
    too long to be read at once."""
    frames = index.frames
    if frames is None or not len(frames) or frames.longest > LONG_FRAME_BYTES:
        return True
    return frames.end - frames.starts[0] <= SHORT_BYTES


async def whole_plan(index: Plan, look: Callable[[FrameTable], Awaitable[Plan]]) -> Plan:
    """Return the plan of a whole film: of its index, and of the frames that the index leaves out. look: asks
    a worker for the plan of some frames. Any plan without Plan.frames is whole already."""
    if index.frames is None:
        return index
    plans, number, new_bytes = [index], len(index.patches), index.plan_size.memory_bytes
    for frames in batches(index.frames):
        plan = await look(frames)
        if plan.outcome is Outcome.REFUSE:
            return plan
        number, new_bytes = number + len(plan.patches), new_bytes + plan.plan_size.memory_bytes
        if number > MAX_PATCHES or new_bytes > MAX_PATCH_BYTES + MAX_PATCHES * PATCH_MEMORY:
            return refusal(_TOO_MANY)
        plans.append(plan)
    if number + len(index.frames.sums) <= _AT_ONCE:
        return _joined(plans, index.frames)
    return await trio.to_thread.run_sync(_joined, plans, index.frames, limiter=_JOINING)


def _joined(plans: list[Plan], table: FrameTable) -> Plan:
    """Join plans that do not refuse, and make the checksums over changed bytes void. table: the checksums."""
    patches = sorted((patch for plan in plans for patch in plan.patches), key=lambda patch: patch.offset)
    starts = [patch.offset for patch in patches]
    sums: list[Patch] = []
    for at, end in zip(table.sums, table.covered, strict=True):
        if bisect_left(starts, at) < bisect_left(starts, end):
            sums += void_sum(at)
    if sums:
        patches = sorted((*patches, *sums), key=lambda patch: patch.offset)
        size = PlanSize(sum(patch.size for patch in sums), PATCH_MEMORY * len(sums))
        plans = [*plans, Plan(Outcome.PATCH, plan_size=size, reason=plans[-1].reason)]
    if len(patches) > MAX_PATCHES:
        return refusal(_TOO_MANY)
    if any(first.end > second.offset for first, second in pairwise(patches)):
        return refusal("the hidden parts of the film overlap")
    return Plan(
        outcome=Outcome.PATCH if patches else Outcome.CLEAN,
        patches=tuple(patches),
        findings=tuple(one for plan in plans for one in plan.findings)[:MAX_FINDINGS],
        reason=f"{len(patches)} ranges changed" if patches else plans[-1].reason,
        plan_size=PlanSize(*map(sum, zip(*(plan.plan_size for plan in plans), strict=True))),
    )
