"""Copies of drafts that are cut: the draft itself stays as it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.fs.checked.draft_copies import copy_cut
from policyfs.fs.inodes.kept_bytes import KeptBytes
from policyfs.fs.inodes.pending_writes import Draft
from policyfs.linux.statx import fstatx
from tests.support.mount.file_system import on_trio
from tests.support.mount.steps import errno_of

_PIECE = 1 << 20
BYTES = os.urandom(_PIECE + 100)


def draft_with(path: Path, data: bytes, released: Callable[[], object] = lambda: None) -> Draft:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    return Draft(fd, fstatx(fd), created=True, released=released)


@pytest.mark.parametrize("size", [0, 1, _PIECE, _PIECE + 99, _PIECE + 1000])
@on_trio
async def test_a_copy_has_the_drafts_bytes_up_to_its_size_and_zeros_behind(tmp_path: Path, size: int) -> None:
    draft, copy = draft_with(tmp_path / "draft", BYTES), draft_with(tmp_path / "copy", b"")
    draft.kept = KeptBytes(len(BYTES))
    draft.kept.drop(10, 20)
    await copy_cut(draft, copy, size)
    assert (tmp_path / "copy").read_bytes() == BYTES[:size].ljust(size, b"\0")
    assert (tmp_path / "draft").read_bytes() == BYTES
    assert (copy.base, copy.began_empty, copy.created, copy.changed) == (draft.base, False, True, True)
    assert list(draft.kept.ranges()) == [(0, 10), (20, len(BYTES))]
    assert sum(end - start for start, end in copy.kept.ranges()) == {0: 0, 1: 1}.get(
        size, min(size, len(BYTES)) - 10
    )
    for each in (draft, copy):
        each.close()


@on_trio
async def test_a_copy_that_the_store_refuses_is_closed(tmp_path: Path) -> None:
    draft, closed = draft_with(tmp_path / "draft", BYTES), list[bool]()
    copy = draft_with(tmp_path / "copy", b"", lambda: closed.append(True))
    assert await errno_of(copy_cut(draft, copy, 2**63 - 1)) == errno.EFBIG
    assert (closed, copy.fd) == ([True], -1)
    assert not draft.changed
    draft.close()
