"""The memory of a saved state: what other code continues, and whose turn it is in a hand-over."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import SavedHandle, Setup
from policyfs.fs.saved.state_memory import READABLE, VERSION, layout_of, name_of
from tests.unit.test_fs_inodes_saved_nodes import described, following, made, table

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


def test_the_layout_before_goes_on_in_this_one_and_in_larger_tables() -> None:
    for version, room in ((VERSION - 1, 8), (VERSION - 1, 40), (VERSION, 40)):
        before, nodes = SavedState(8, version=version), table()
        before.set_up(Setup(5, 77, b"init", "digest", (1, 2), 3))
        before.absent(2, b"absent")
        before.registered(6, True)
        before.keep(HANDLE)
        nodes.saved = before
        for ino, name in enumerate((b"short", b"long" * 40), 10):
            node = made(nodes, nodes.root, name, ino)
            nodes.add_name(node, nodes.root, b"again" + name)
        fd, state = file_of(before), SavedState(room)
        state.succeed(fd, lambda theirs: theirs)
        os.close(fd)
        assert (state.absent_names(), state.backing_ids(), len(state.handles())) == ([(2, b"absent")], {6}, 1)
        assert described(following(state)) == described(nodes)
        assert {len(node.links or ()) for node in following(state)} == {0, 1}
        nodes.saved = state
        for ino in range(20, 20 + room):
            made(nodes, nodes.root, b"n" * 100 + b"%d" % ino, ino)
        assert described(following(state)) == described(nodes)


def test_only_this_layout_and_the_one_before_are_read() -> None:
    state = SavedState(40)
    fd = file_of(state)
    assert layout_of(fd) == (40, VERSION)
    for version in (*READABLE, VERSION + 1, READABLE.start - 1, 3):
        os.pwrite(fd, struct.pack("=Q", version), VERSION_AT)
        if version in READABLE:
            assert SavedState.of(fd).setup() is None
            continue
        with pytest.raises(PolicyfsError, match=f"in layout {version}, and this code continues 5 and 6"):
            layout_of(fd)
    os.close(fd)
    with open(os.devnull, "rb") as nothing, pytest.raises(PolicyfsError, match="layout 0"):
        layout_of(nothing.fileno())


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
