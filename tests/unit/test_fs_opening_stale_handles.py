"""Open files in passthrough that the policy in force would not open in this way."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.domain import NO_FACTS, Decision, Facts, Op
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening import stale_handles
from policyfs.fs.opening.stale_handles import LISTED, StaleHandle, StaleHandles, summary

ALLOWED = Decision(allowed=True, errno=0)
DENIED = Decision(allowed=False, errno=errno.EACCES)
PHOTO = Facts("image/jpeg", "none")


class Gate:
    """Decides by *answer*; where facts must be found, *found* says how."""

    def __init__(self) -> None:
        self.generation = 1
        self.answer = ALLOWED
        self.asked: list[tuple[Op, object]] = []
        self.found: Any = None

    def judge(self, principal: object, ops: Op, node: object, facts: Facts) -> Decision:
        self.asked.append((ops, facts))
        return self.answer

    async def node(self, caller: object, ops: Op, node: object) -> Decision:
        if self.found is not None:
            await self.found()
        return self.judge(caller, ops, node, PHOTO)


def a_handle(**fields: Any) -> Any:
    handle = SimpleNamespace(
        mode=Mode.PASSTHROUGH, readable=True, writable=False, facts=PHOTO, hides=frozenset(),
        caller=SimpleNamespace(uid=10011, pid=77, principal=SimpleNamespace(label="gallery")),
        node=SimpleNamespace(path=lambda: b"/a\xff.jpg", ino=5, view=SimpleNamespace(checked=False)),
    )  # fmt: skip
    vars(handle).update(fields)
    return Key(handle)


class Key:
    """A handle that can be the key of a dictionary."""

    def __init__(self, handle: SimpleNamespace) -> None:
        vars(self).update(vars(handle))


def found(handles: list[Any], gate: Gate) -> list[StaleHandle]:
    stale = StaleHandles(SimpleNamespace(handles=handles, gate=gate))  # type: ignore[arg-type]
    return trio.run(stale.find, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("readable", "writable", "ops", "access"),
    [
        (True, False, Op.SEE | Op.READ, "read"),
        (False, True, Op.SEE | Op.WRITE, "write"),
        (True, True, Op.SEE | Op.READ | Op.WRITE, "read and write"),
    ],
)
def test_a_handle_that_would_be_denied_is_stale(readable: bool, writable: bool, ops: Op, access: str) -> None:
    gate, handle = Gate(), a_handle(readable=readable, writable=writable)
    assert found([handle], gate) == []
    gate.answer = DENIED
    assert found([handle], gate) == [
        StaleHandle(
            "gallery", 10011, 77, b"/a\xff.jpg", 5, access, "the policy now refuses this open: EACCES"
        )
    ]
    assert gate.asked == [(ops, PHOTO)] * 2


def test_the_daemon_itself_refuses_in_a_mediated_file() -> None:
    gate = Gate()
    gate.answer = DENIED
    assert found([a_handle(mode=Mode.MEDIATED)], gate) == []
    assert not gate.asked


@pytest.mark.parametrize(
    ("hides", "readable", "count"),
    [({"location", "device"}, True, 0), ({"device"}, True, 1), (set(), False, 0)],
)
def test_a_handle_that_shows_what_is_removed_now_is_stale(
    hides: set[str], readable: bool, count: int
) -> None:
    gate = Gate()
    gate.answer = Decision(allowed=True, errno=0, redact=frozenset({"location"}))
    stale = found([a_handle(hides=frozenset(hides), readable=readable)], gate)
    assert [one.reason for one in stale] == ["shows data that the policy now hides: location"] * count


@pytest.mark.parametrize(
    ("checked", "writable", "count"), [(False, True, 1), (True, True, 0), (False, False, 0)]
)
def test_a_handle_that_writes_what_is_checked_now_is_stale(checked: bool, writable: bool, count: int) -> None:
    gate, handle = Gate(), a_handle(writable=writable)
    handle.node.view.checked = checked
    gate.answer = Decision(allowed=True, errno=0, content=(frozenset({"image/*"}),))
    told = "writes bytes that the policy now checks"
    assert [one.reason for one in found([handle], gate)] == [told] * count


def test_facts_that_take_too_long_count_as_unknown_against_the_handle() -> None:
    gate = Gate()
    gate.found = trio.sleep_forever
    gate.answer = DENIED
    assert len(found([a_handle(facts=None), a_handle(facts=None)], gate)) == 2
    assert [facts for _, facts in gate.asked] == [NO_FACTS, NO_FACTS]


def test_a_file_that_is_gone_is_stale() -> None:
    async def gone() -> None:
        raise OSError(errno.ESTALE, "gone")

    gate = Gate()
    gate.found = gone
    [stale] = found([a_handle(facts=None)], gate)
    assert stale.reason == "policyfs cannot find the file any more (ESTALE)"


def test_what_was_closed_is_not_told_any_more() -> None:
    gate, handles = Gate(), [a_handle(), a_handle()]
    gate.answer = DENIED
    stale = StaleHandles(SimpleNamespace(handles=handles, gate=gate))  # type: ignore[arg-type]
    assert len(trio.run(stale.find)) == 2
    handles.pop()
    assert len(stale.live()) == 1


def test_the_next_policy_has_its_own_look(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()

    async def reload() -> None:
        gate.generation += 1

    gate.found = reload
    found([a_handle(facts=None), a_handle(facts=None)], gate)
    assert len(gate.asked) == 1


def test_other_requests_get_a_turn_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_handles, "_SLICE", 2)
    turns = 0

    async def checkpoint() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(trio.lowlevel, "checkpoint", checkpoint)
    gate = Gate()
    stale = StaleHandles(SimpleNamespace(handles=[a_handle() for _ in range(6)], gate=gate))  # type: ignore[arg-type]
    trio.run(stale.find)
    assert turns == 3


def test_all_are_counted_and_the_first_are_listed() -> None:
    one = StaleHandle("gallery", 1, 2, b"/a\xff", 3, "read", "the policy now refuses this open: EACCES")
    told = summary([one] * LISTED + [one._replace(app="maps")])
    assert (told["count"], told["apps"]) == (LISTED + 1, {"gallery": LISTED, "maps": 1})
    files = told["files"]
    assert isinstance(files, list)
    assert len(files) == LISTED
    assert files[0]["path"] == "/a\\xff"
