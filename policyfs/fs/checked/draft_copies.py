"""Copies of drafts: for a truncation that must leave the draft unchanged if it is refused."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Final

import trio

from policyfs.fs.inodes.pending_writes import Draft
from policyfs.store import ranges

_PIECE: Final = 1 << 20
"""The number of bytes that are copied at once."""


async def copy_cut(draft: Draft, copy: Draft, size: int) -> None:
    """Make an empty draft, *copy*, a copy of *draft* that is cut, or made longer, to *size* bytes.

    Raise OSError of the store. Then close *copy*.
    """
    try:
        await trio.to_thread.run_sync(copy_all, draft.fd, copy.fd, min(size, draft.size))
        os.ftruncate(copy.fd, size)
    except BaseException:
        copy.close()
        raise
    copy.base, copy.began_empty, copy.created = draft.base, draft.began_empty, draft.created
    copy.kept = deepcopy(draft.kept)
    copy.kept.cut(size)
    copy.touch()


def copy_all(source: int, target: int, size: int) -> None:
    """Copy the first *size* bytes of a file into an empty one, holes as holes, on a worker thread."""
    for start, end in ranges.data_ranges(source, 0, size):
        at = start
        while at < end and (data := os.pread(source, min(_PIECE, end - at), at)):
            ranges.put_all(target, data, at)
            at += len(data)
    os.ftruncate(target, min(size, os.fstat(source).st_size))
