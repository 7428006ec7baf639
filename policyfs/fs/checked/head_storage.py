"""Storage of heads: a head gets into the store's file whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence

from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.fs.inodes.pending_writes import Write
from policyfs.store import ranges
from policyfs.store.tree import Tree


def put_head(tree: Tree, fd: int, data: bytes) -> None:
    """Write a whole head at the beginning of a file, on a thread. Without room the file gets its old bytes
    back, and the OSError is raised. Bytes that another program appends stay."""
    put_writes(tree, fd, [Write(0, data)])


def put_writes(tree: Tree, fd: int, writes: Sequence[Write]) -> None:
    """Make all of these writes within the first HEAD_BYTES, or none, as put_head(). Appends go to the end."""
    size = end = tree.fstat(fd).size
    before = os.pread(fd, HEAD_BYTES, 0) if size else b""
    done = 0
    try:
        for offset, data in writes:
            at, rest = end if offset is None else offset, memoryview(data)
            while rest:
                written = ranges.write(fd, rest, at, os.RWF_APPEND if offset is None else 0)
                rest, at = rest[written:], at + written
                done, end = max(done, at), max(end, at)
    except OSError:
        _take_back(tree, fd, before, size, done)
        raise


def _take_back(tree: Tree, fd: int, before: bytes, size: int, done: int) -> None:
    """Put back a file's old bytes. INVARIANT: no part of a head stays in the store, since only the whole was
    judged. If another program has appended bytes, the part behind the old end becomes zeros."""
    now = tree.fstat(fd).size
    if now == max(size, done):
        tree.truncate_fd(fd, size)
        now = size
    ranges.put_all(fd, before[:done].ljust(done, b"\0")[:now], 0)
