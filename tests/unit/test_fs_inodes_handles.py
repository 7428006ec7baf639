"""Handles by number: no two open ones share an index, whatever number the kernel gets."""

from __future__ import annotations

import os
from typing import cast

import pytest

from policyfs.domain import RAW_VIEW, FileType, Principal
from policyfs.fs.inodes import handles as handles_module
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle, HandleTable, SharedDescriptors
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.placement import Placement
from policyfs.fs.sharing.shares import Shares
from policyfs.kernel.bridge import FH_PASSTHROUGH, pack_fh
from tests.support.models.policies import engine_of

ENGINE = engine_of('- {id: a, allow: [see], who: {app: any}, paths: "/**"}\n')
CALLER = Caller(ENGINE.principal, 10010, 10010, 1, 0)


def a_node() -> Node:
    return Node(5, 50, 0, FileType.REGULAR, RAW_VIEW, BytePath.RAW, ENGINE.root, Placement(ENGINE.child))


def a_handle(table: HandleTable, node: Node, flags: int = os.O_RDONLY, backing_id: int = 0) -> Handle:
    handle = Handle(table.new_index(CALLER), node, CALLER, flags, -1)
    handle.fh = pack_fh(handle.index, FH_PASSTHROUGH if backing_id else 0, backing_id)
    table.add(handle)
    return handle


def test_handles_are_found_by_the_whole_number_and_let_go_once() -> None:
    table, node = HandleTable(), a_node()
    one, two = a_handle(table, node), a_handle(table, node, backing_id=3)
    assert table.get(one.fh) is one
    assert table.get(two.fh) is two
    assert len(table) == len(list(table)) == 2
    assert table.of_node(node) == [one, two]
    assert table.of_node(a_node()) == []
    assert table.pop(one.fh) is one
    assert table.pop(one.fh) is None
    with pytest.raises(KeyError):
        table.get(one.fh)
    assert table.get(two.fh) is two


class Bridge:
    """A source that has one handle."""

    def __init__(self, table: HandleTable, handle: Handle) -> None:
        self.table, self.handle = table, handle

    def take(self, fh: int) -> None:
        if fh == self.handle.fh:
            self.table.add(self.handle)


def test_after_a_take_over_a_handle_of_the_bridge_is_not_lost() -> None:
    table = HandleTable()
    handle = Handle(table.new_index(CALLER), a_node(), CALLER, os.O_RDONLY, -1)
    table.follows = True
    table.take_from(Bridge(table, handle))
    assert table.is_lost(handle.fh + 1)
    assert not table.is_lost(handle.fh)
    assert table.get(handle.fh) is handle


def test_an_index_starts_over_and_steps_over_what_is_open(monkeypatch) -> None:
    monkeypatch.setattr(handles_module, "MAX_INDEX", 3)
    table, node = HandleTable(), a_node()
    handles = [a_handle(table, node) for _ in range(3)]
    assert [handle.index for handle in handles] == [1, 2, 3]
    with pytest.raises(OSError, match="too many"):
        table.new_index(CALLER)
    table.pop(handles[1].fh)
    assert table.new_index(CALLER) == 2


@pytest.mark.parametrize(
    ("flags", "readable", "writable"),
    [
        (os.O_RDONLY, True, False),
        (os.O_WRONLY, False, True),
        (os.O_RDWR | os.O_APPEND, True, True),
        (os.O_RDONLY | os.O_TRUNC, True, False),
    ],
)
def test_what_a_handle_was_opened_for(flags: int, readable: bool, writable: bool) -> None:
    handle = a_handle(HandleTable(), a_node(), flags)
    assert (handle.readable, handle.writable) == (readable, writable)


def test_a_caller_is_known_by_the_policy_in_force() -> None:
    engines = [ENGINE]

    def who(uid: int) -> Principal:
        return engines[-1].principal(uid)

    caller = Caller(who, 10010, 10010, 1, 0)
    assert caller.principal.app == "camera"
    engines.append(
        engine_of(
            'apps:\n  web: {uid: 10010}\nrules:\n  - {id: a, allow: [see], who: {app: any}, paths: "/**"}\n'
        )
    )
    assert caller.principal.app == "web"


NODE, OTHER = (cast("Node", object()) for _ in range(2))


def test_who_leaves_hands_on_what_it_took_to_one_who_stays() -> None:
    shares = Shares(10, "descriptors")
    descriptors = SharedDescriptors(shares)
    draft, unnamed = descriptors.take(NODE, "one"), descriptors.take(NODE, "two")
    elsewhere = descriptors.take(OTHER, "one")
    descriptors.hand_on(NODE, {"one": 1, "two": 1})
    assert (shares.held("one"), shares.held("two")) == (2, 1)
    descriptors.hand_on(NODE, {"two": 1})
    assert (shares.held("one"), shares.held("two")) == (1, 2)
    for give_back in (draft, unnamed, elsewhere):
        give_back()
    assert shares.used == shares.held("one") == shares.held("two") == 0


def test_the_last_one_keeps_what_it_has_until_that_is_closed() -> None:
    shares = Shares(10, "descriptors")
    descriptors = SharedDescriptors(shares)
    give_back = descriptors.take(NODE, "one")
    descriptors.hand_on(NODE, ())
    assert shares.held("one") == 1
    give_back()
    assert shares.used == 0
