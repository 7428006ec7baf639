"""Held bytes that outlive a daemon: what was saved is read, and what is not saved prevents a take-over."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from policyfs.domain import Op, RuleMatch
from policyfs.fs.checked.restored_held import _is_draft
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Draft, Head, KeptBytes, Refusal, Write
from policyfs.fs.inodes.saved_held import ROOM
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import Setup
from policyfs.linux.statx import fstatx

WRITER = Caller(lambda _uid: None, 1, 2, 3, 0)  # type: ignore[arg-type, return-value]


def opened(nodeid: int, **fields: Any) -> tuple[Any, OpenState]:
    state = OpenState()
    for name, value in fields.items():
        setattr(state, name, value)
    return SimpleNamespace(nodeid=nodeid, open=state, view=SimpleNamespace(redact=frozenset())), state


def head_of(held: bytes | None, *late: Write) -> Head:
    head = Head(0, created=True, refused=True)
    head.held, head.late = held, late
    return head


def test_a_head_and_late_writes_are_read_as_they_were_saved() -> None:
    state = SavedState(4)
    late = Write(None, b"end"), Write(4, b"four")
    state.held.put(*opened(5, head=head_of(b"first"), writer_uids=frozenset({7}), mapped=True))
    state.held.put(*opened(6, head=head_of(b"all", *late)))
    first, second = state.held.read()
    assert (first.nodeid, first.fd, first.data, first.late, first.is_unsaved) == (5, -1, b"first", (), True)
    assert (first.fields["uids"], first.fields["mapped"], first.fields["created"]) == ([7], True, True)
    assert (second.nodeid, second.late) == (6, late)
    state.held.put(*opened(5, head=Head(3)))
    state.held.drop(6)
    assert state.held.read() == []


def test_a_draft_is_read_as_it_was_saved_until_it_is_closed(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    state = SavedState(4)
    rules = (RuleMatch("a", "content", Op.WRITE, certain=False),)
    draft = Draft(fd, fstatx(fd), created=True, released=lambda: state.held.closing(5, fd))
    draft.touch()
    draft.kept, draft.torn, draft.copied = KeptBytes(100), "a part", (0, 1, 2, 3, 4, True)
    draft.kept.drop(10, 20)
    draft.recorded, draft.cleaned_of = (b"\xff", "note"), frozenset({"location"})
    draft.refusal = Refusal("image/png", "why", rules, True, 0, WRITER)
    state.held.put(*opened(5, draft=draft))
    (saved,) = state.held.read()
    assert (saved.fd, saved.is_unsaved, _is_draft(saved)) == (fd, True, True)
    for policy, generation in ((0, 8), (1, -1)):
        found = Draft(fd, fstatx(fd), created=False)
        saved.fill(found, saved.refusal(lambda *ids: WRITER if ids == (1, 2, 3) else None, 8, policy))
        assert found.refusal == draft.refusal._replace(generation=generation)
        for name in ("changed", "torn", "copied", "recorded", "cleaned_of", "base", "created"):
            assert getattr(found, name) == getattr(draft, name), name
        assert list(found.kept.ranges()) == [(0, 10), (20, 100)]
    draft.close()
    assert state.held.read() == []
    assert not _is_draft(saved)


def test_bytes_without_room_and_under_redaction_prevent_a_take_over() -> None:
    state = SavedState(4)
    state.set_up(Setup(1, 2, b"", ""))
    for redact, held in ((frozenset({"location"}), b"x"), (frozenset[str](), b"x" * ROOM)):
        node, one = opened(5, head=head_of(held))
        node.view.redact = redact
        for _ in range(2):
            state.held.put(node, one)
            assert not state.can_continue
        state.held.drop(5)
        assert state.can_continue
