"""The state that outlives a daemon: what the next one reads is what the last one had, or less, never more."""

from __future__ import annotations

import time

import pytest

from policyfs.domain import FileType
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import StaleNodeError
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import Setup
from policyfs.kernel import vectors
from tests.support.models.saved_nodes import all_in
from tests.unit.test_fs_inodes_saved_nodes import following, made, table

SETUP = Setup(9, 77, b"init", "digest")


def test_a_backing_id_is_there_until_it_is_given_back() -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    node = made(nodes, nodes.root, b"song", 10)
    state.registered(5, True)
    state.nodes.backed(node, 5)
    nodes.refer(node)
    assert (all_in(state)[node.nodeid].backing_id, state.backing_ids()) == (5, {5})
    state.nodes.unbacked(node.nodeid)
    assert (all_in(state)[node.nodeid].backing_id, state.backing_ids()) == (0, {5})
    state.registered(5, False)
    assert state.backing_ids() == set()


@pytest.mark.parametrize("size", [20, 200])
def test_an_app_has_a_share_of_each_table_and_what_is_beyond_is_stale_alone(size: int) -> None:
    state, nodes = SavedState(10), table()
    state.set_up(SETUP)
    nodes.saved = state
    above = made(nodes, nodes.root, b"above", 9, ftype=FileType.DIRECTORY, holder="greedy")
    name = b"%d" + b"n" * size
    greedy = [made(nodes, above, name % ino, ino, holder="greedy") for ino in range(10, 60)]
    lost = {one.nodeid for one in greedy} & state.nodes.unsaved.keys()
    assert 15 < len(lost) < 35
    assert set(state.nodes.unsaved.values()) == {"greedy"}
    assert state.can_continue
    modest = [made(nodes, nodes.root, name % ino, ino, holder="modest") for ino in range(60, 65)]
    assert not {one.nodeid for one in modest} & state.nodes.unsaved.keys()
    for one in greedy:
        nodes.forget(one.nodeid, 1)
    assert state.nodes.unsaved == {}
    greedy = [made(nodes, above, name % ino, ino, holder="greedy") for ino in range(70, 80)]
    assert state.nodes.unsaved == {}
    assert {one.nodeid for one in (above, *greedy, *modest)} == all_in(state).keys()


def test_a_directory_beyond_a_share_is_saved_for_the_next_app_that_uses_it() -> None:
    state, nodes = SavedState(5), table()
    nodes.saved = state
    for ino in range(100, 120):
        above = made(nodes, nodes.root, b"%d" % ino, ino, ftype=FileType.DIRECTORY, holder="greedy")
        made(nodes, above, b"one more", ino + 20, holder="greedy")
    below = made(nodes, above, b"below", 200, ftype=FileType.DIRECTORY, holder="greedy")
    assert {above.nodeid, below.nodeid} <= state.nodes.unsaved.keys()
    linked = made(nodes, nodes.root, b"linked", 202, holder="modest")
    nodes.add_name(linked, below, b"again")
    assert linked.nodeid in state.nodes.unsaved, "a node is decided by all of its names"
    file = made(nodes, below, b"file", 201, holder="modest")
    assert state.nodes.unsaved.keys().isdisjoint({above.nodeid, below.nodeid, file.nodeid})
    nodes.refer(linked, "modest")
    assert {linked.nodeid, file.nodeid} <= all_in(state).keys()


def test_the_next_daemon_knows_the_numbers_of_what_was_not_saved() -> None:
    state, nodes = SavedState(5), table()
    nodes.saved = state
    for ino in range(100, 140):
        made(nodes, nodes.root, b"%d" % ino, ino, holder="greedy")
    unsaved = set(state.nodes.unsaved)
    after = following(state)
    assert unsaved == {one for one in after.lost if one < vectors.OWN_NODES}
    assert unsaved <= after.unsaved
    with pytest.raises(StaleNodeError):
        after.get(min(unsaved))
    assert following(state).lost == [], "the second one has made the kernel forget them"


def test_marks_are_of_numbers_that_are_as_great_as_can_be() -> None:
    state = SavedState(1)
    many = [7, 1 << 26 | 8, vectors.OWN_NODES | 9, vectors.OWN_NODES | 3 << 26 | 10]
    for nodeid in [*many, 11]:
        state.nodes._lose(nodeid, "app")
    state.nodes.gone(11)
    found = state.nodes.read().unsaved
    assert set(many) <= set(found)
    assert 11 not in found
    assert state.nodes.read().unsaved == []


def test_held_bytes_prevent_a_take_over() -> None:
    state = SavedState(2)
    assert not state.can_continue  # no INIT yet
    state.set_up(SETUP)
    for change, possible in ((1, False), (1, False), (-1, False), (-1, True)):
        state.locked(change)
        assert state.can_continue is possible


def test_the_policy_in_force_replaces_the_digest_alone() -> None:
    state = SavedState(2)
    state.use_policy("too early")
    assert state.setup() is None
    state.set_up(SETUP)
    state.use_policy("another")
    assert state.setup() == SETUP._replace(policy="another")


def test_handles_and_absent_names() -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    song = made(nodes, nodes.root, b"song", 10)
    caller = Caller(lambda _uid: None, 1000, 1001, 42, 0)  # type: ignore[arg-type, return-value]
    caller.unique = 66
    handle = Handle(1, song, caller, 0, 7, (1 << 63) + 1, Mode.PASSTHROUGH, by_kind=True)
    state.opened(handle)
    state.listing(1, nodes.root, caller, kept=True)
    one, two = sorted(state.handles(), key=lambda each: each.is_directory)
    assert one[:8] == (66, (1 << 63) + 1, song.nodeid, 0, 1000, 1001, 42, -1)
    assert (one.by_kind, two.is_directory, two.kept, two.fh, two.nodeid) == (True, True, True, 1, 1)
    state.closed(handle.fh)
    state.unlisted(1)
    assert state.handles() == []
    writer = Handle(2, song, caller, 1, 8, (1 << 63) + 2, Mode.PASSTHROUGH)
    state.opened(writer)
    state.unnamed(song, 9, caller)
    seen = sorted((one.fd, one.flags, one.is_unnamed) for one in state.handles())
    assert seen == [(8, 1, False), (9, 0, True)]
    for each in state.handles():
        state.drop(each)
    assert state.handles() == []
    state.absent(1, b"x")
    state.absent(1, b"y")
    state.present(1, b"x")
    assert state.absent_names() == [(1, b"y")]


def test_no_flipped_byte_makes_a_node_that_was_not_there() -> None:
    state, nodes = SavedState(4), table()
    nodes.saved = state
    state.set_up(SETUP)
    made(nodes, nodes.root, b"a", 10)
    nodes.refer(made(nodes, nodes.root, b"b", 11))
    right, memory = all_in(state), state._memory
    counts = {nodeid: {one.lookups for one in (found,)} | {1, 0} for nodeid, found in right.items()}
    used = [at for at, byte in enumerate(memory[: 1 << 16]) if byte]
    for at in used[:600]:
        memory[at] ^= 0x10
        for nodeid, one in all_in(state).items():
            assert one._replace(lookups=0) == right[nodeid]._replace(lookups=0)
            assert one.lookups in counts[nodeid]
        assert state.setup() in {SETUP, None}
        memory[at] ^= 0x10


def test_a_change_costs_a_few_microseconds() -> None:
    state, nodes = SavedState(1000), table()
    nodes.saved = state
    node = made(nodes, nodes.root, b"a name as long as that of a film (2021).mkv", 10)
    took = []
    for _ in range(200):
        began = time.perf_counter_ns()
        nodes.refer(node)
        took.append(time.perf_counter_ns() - began)
    assert sorted(took)[20] < 50_000
