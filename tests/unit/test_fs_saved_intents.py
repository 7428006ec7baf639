"""Intents: what the next daemon reads is what the last one was about to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.intents import ChangeKind, Intent, Intents, Outcome, Side
from policyfs.fs.saved.saved_handle import Setup

MOVE = Intent(
    70, ChangeKind.MOVE, Side(3, b"n" * 255, 1 << 64 | 12, -5), Side(1, b"m" * 255, 13, 9), size=0
)
LAST = Intent(72, ChangeKind.APPEND, Side(3), size=1 << 40)


class Requests:
    """The requests of one daemon."""

    def __init__(self, state: SavedState) -> None:
        self.now: SimpleNamespace | None = SimpleNamespace(closed=False)
        self.intents = Intents(lambda: self.now)
        self.found = self.intents.read(state)
        self.intents.save_to(state)

    def answer(self) -> None:
        """Answer the present request; the next one begins."""
        assert self.now is not None
        self.now.closed = True
        self.now = SimpleNamespace(closed=False)


def test_the_next_daemon_finds_what_was_begun_and_not_what_was_answered() -> None:
    state = SavedState(2)
    first = Requests(state)
    first.intents.begin(MOVE._replace(size=4))
    first.answer()
    first.intents.begin(MOVE)
    first.intents.begin(MOVE)  # decided again
    assert Requests(state).found == [MOVE]
    first.answer()
    assert Requests(state).found == [MOVE]  # answered, perhaps not yet sent
    first.intents.begin(LAST)
    for _ in range(2):
        assert Requests(state).found == [LAST]


def test_an_outcome_is_known_until_its_request_is_answered() -> None:
    state = SavedState(2)
    Requests(state).intents.begin(LAST)
    second = Requests(state)
    second.intents.settle(LAST, Outcome.UNKNOWN)
    assert second.intents.before(70) is None
    for _ in range(2):
        assert second.intents.before(72) == (LAST, Outcome.UNKNOWN)
    assert state.again == (1, 1)
    second.answer()
    second.intents.begin(MOVE)
    assert second.intents.before(72) is None
    assert Requests(state).found == [MOVE]


def test_a_request_of_the_bridge_has_no_record_to_free() -> None:
    second = Requests(SavedState(2))
    second.intents.settle(MOVE, Outcome.MADE)
    assert second.intents.before(MOVE.unique) == (MOVE, Outcome.MADE)
    second.answer()
    second.intents.begin(LAST)
    assert second.intents.before(MOVE.unique) is None


def test_without_memory_or_request_nothing_is_kept() -> None:
    state = SavedState(2)
    Intents(lambda: None).begin(MOVE)
    first = Requests(state)
    first.intents.begin(MOVE._replace(unique=0))
    first.now = None
    first.intents.begin(MOVE)
    assert Requests(state).found == []


def test_a_full_table_ends_take_overs() -> None:
    state = SavedState(2)
    state.set_up(Setup(9, 77, b"init", "digest"))
    first = Requests(state)
    for unique in range(1, state.intents.slots + 2):
        assert state.can_continue
        first.intents.begin(LAST._replace(unique=unique))
    assert not state.can_continue
    assert [one.unique for one in Requests(state).found] == [*range(513, 1025)]  # of the others none can come


@pytest.mark.parametrize("name", [b"a/b", b".", b"a\0"])
def test_a_record_with_a_wrong_name_is_dropped(name: bytes) -> None:
    state = SavedState(2)
    Requests(state).intents.begin(MOVE._replace(old=Side(3, name, 5)))
    assert Requests(state).found == []
    assert state.intents.read() == {}
