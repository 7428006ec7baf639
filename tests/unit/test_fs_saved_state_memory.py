"""The memory of a saved state: what other code continues, and whose turn it is in a hand-over."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import SavedHandle, Setup
from policyfs.fs.saved.state_memory import READABLE, VERSION, name_of, nodes_in

HANDLE = SavedHandle(7, 9, 2, os.O_RDONLY, 1, 1, 1, -1, False, False, False, False, True)
VERSION_AT = 2048 + 8


def file_of(state: SavedState) -> int:
    """Open the memory of a state of this process."""
    state.numbered(id(state))
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and os.readlink(entry) == f"/memfd:{name_of(os.getpid())} (deleted)":
            fd = os.open(entry, os.O_RDWR)
            if os.pread(fd, 8, 0) == struct.pack("=Q", id(state)):  # others may not have been freed yet
                return fd
            os.close(fd)
    raise AssertionError(state)


def test_another_state_goes_on_with_other_descriptors() -> None:
    before = SavedState(40)
    before.set_up(Setup(5, 77, b"init", "digest", (1, 2), 3))
    for fh, fd in ((9, 30), (10, -1)):
        before.keep(HANDLE._replace(fh=fh))
        before._put_handle(fh, 2, 0, (7, 1, 1, 1), fd, 0)
    fd = file_of(before)
    before.numbered(12)
    state = SavedState(40)
    state.succeed(fd, lambda theirs: theirs + 100)
    os.close(fd)
    setup = state.setup()
    assert setup == Setup(105, 77, b"init", "digest", (1, 2), 3)
    assert (state.last_id, state.upgrades) == (12, (1, True))
    assert {one.fd for one in state.handles()} == {130, -1}
    assert {one.fd for one in before.handles()} == {30, -1}
    state.died(1, was_early=False)
    assert state.upgrades == (1, False)


def test_only_this_layout_and_the_one_before_are_read() -> None:
    state = SavedState(40)
    fd = file_of(state)
    assert nodes_in(fd) == 40
    for version in (*READABLE, VERSION + 1, READABLE.start - 1, 3):
        os.pwrite(fd, struct.pack("=Q", version), VERSION_AT)
        if version in READABLE:
            assert SavedState.of(fd).setup() is None
            continue
        with pytest.raises(PolicyfsError, match=f"in layout {version}, and this code continues 5"):
            nodes_in(fd)
    os.close(fd)
    with open(os.devnull, "rb") as nothing, pytest.raises(PolicyfsError, match="layout 0"):
        nodes_in(nothing.fileno())


def test_a_candidate_that_has_not_taken_over_is_followed_by_nobody() -> None:
    before, state = SavedState(4), SavedState(4)
    state.set_up(Setup(5, 77, b"init", "digest"))
    state.before = before.handover
    assert state.obstacle == "the daemon had not yet taken over"
    before.handover.offer(3, 4)
    before.handover.give()
    assert (before.handover.candidate, before.handover.is_given) == ((3, 4), True)
    before.handover.withdraw()
    assert (before.handover.candidate[0], before.handover.is_given) == (0, False)
    before.handover.take()
    assert state.can_continue
