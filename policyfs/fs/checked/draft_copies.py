"""Copies of drafts: for a truncation that must leave the draft unchanged if it is refused."""

from __future__ import annotations

import os
from copy import deepcopy

import trio

from policyfs.fs.inodes.pending_writes import Draft
from policyfs.store import ranges


async def copy_cut(draft: Draft, copy: Draft, size: int) -> None:
    """Make the empty draft *copy* a copy of *draft* of *size* bytes. After an OSError it is closed."""
    try:
        await trio.to_thread.run_sync(ranges.copy_all, draft.fd, copy.fd, min(size, draft.size))
        os.ftruncate(copy.fd, size)
    except BaseException:
        copy.close()
        raise
    copy.base, copy.began_empty, copy.created = draft.base, draft.began_empty, draft.created
    copy.kept = deepcopy(draft.kept)
    copy.kept.cut(size)
    copy.touch()
