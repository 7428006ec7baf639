"""The state that all handles of a node share: which bytes wait, and for whom."""

from __future__ import annotations

from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Head


def test_a_held_head_holds_back_and_is_unsaved_until_it_is_dropped() -> None:
    state = OpenState()
    assert not (state.holds_back or state.unsaved or state.is_new)
    state.head = Head(0, created=True)
    assert (state.holds_back, state.unsaved, state.is_new) == (False, False, True)
    state.head.held = b"bytes"
    assert (state.holds_back, state.unsaved) == (True, True)
    state.drop_held()
    assert not (state.holds_back or state.unsaved or state.is_new)


def test_a_writer_that_still_opens_is_no_other_writer() -> None:
    state = OpenState(writers=2, opening=1)
    assert not state.has_other_writers
    state.opening = 0
    assert state.has_other_writers
