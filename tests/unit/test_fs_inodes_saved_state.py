"""The state that outlives a daemon: what the next one reads is what the last one had, or less, never more."""

from __future__ import annotations

import random
import time

import pytest

from policyfs.domain import RAW_VIEW, FileType, View
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.saved_state import SavedState, sum_of_view
from policyfs.fs.path_bounds import KEPT_NAMES
from policyfs.fs.saved.saved_handle import Setup
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of

ENGINE = engine_of('- {id: a, allow: [see], who: {app: any}, paths: ["/a/**", "/b/c/**"]}\n')
SETUP = Setup(9, 77, b"init", "digest")


def stat(ino: int, dev: int = 1) -> Stat:
    return Stat(ino, dev, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, ino * 3)


def table() -> NodeTable:
    return NodeTable(stat(2), ENGINE.root, ENGINE.child)


def made(nodes: NodeTable, parent: Node, name: bytes, ino: int, *, ftype: FileType = FileType.REGULAR,
         view: View = RAW_VIEW, byte_path: BytePath = BytePath.RAW) -> Node:  # fmt: skip
    node = nodes.add(stat(ino), ftype, view, byte_path, ENGINE.child(parent.state, name))
    nodes.add_name(node, parent, name)
    nodes.refer(node)
    return node


def following(state: SavedState) -> NodeTable:
    """The table of the next daemon."""
    nodes = table()
    nodes.restore(state.nodes(), state.last_id, state.links())
    return nodes


def described(nodes: NodeTable) -> set[tuple[object, ...]]:
    whole = [node for node in nodes if node.links is None and node.byte_path is BytePath.RAW]
    return {
        (node.nodeid, node.ino, node.btime_ns, node.ftype, node.lookups, node.name, node.mediated,
         node.children, None if node.parent is None else node.parent.nodeid,
         None if node.was_in is None else node.was_in.nodeid, node.out_of_reach, node.last_state)
        for node in whole
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_the_next_table_is_the_last_one(seed: int) -> None:
    dice, state, nodes = random.Random(seed), SavedState(400), table()
    nodes.saved = state
    directories, files = [nodes.root], []
    for ino in range(100, 220):
        parent, name = dice.choice(directories), dice.choice([b"%d", b"%d-" + b"n" * 200]) % ino
        if dice.random() < 0.2:
            directories.append(made(nodes, parent, name, ino, ftype=FileType.DIRECTORY))
        else:
            files.append(made(nodes, parent, name, ino))
        if not files:
            continue
        one = dice.choice(files)
        for _ in range(dice.randrange(3)):
            nodes.refer(one)
        if dice.random() < 0.2:
            nodes.forget(one.nodeid, dice.randrange(3))
        if dice.random() < 0.2 and one.parent is not None and nodes.find(one.nodeid):
            parent, name = one.parent, one.name
            nodes.add_name(one, dice.choice(directories), b"moved%d" % ino)
            nodes.drop_name(one, parent, name)
        files = [each for each in files if nodes.find(each.nodeid) is each]
    assert described(following(state)) == described(nodes)
    assert described(following(state)) == described(nodes)  # reading changes nothing
    again = following(state)
    assert again.add(stat(999), FileType.REGULAR, RAW_VIEW, BytePath.RAW, ENGINE.root).nodeid > max(
        node.nodeid for node in nodes
    )


def test_a_view_is_restored_by_the_policy_alone() -> None:
    state, nodes, view = SavedState(10), table(), View(3, frozenset({"location"}), False)
    state.uid_of = lambda lane: {"app": 7}.get(str(lane))
    nodes.saved = state
    plain = made(nodes, nodes.root, b"plain", 10)
    copy, foreign, own = (
        made(nodes, nodes.root, name, ino, view=view, byte_path=BytePath.COPY)
        for ino, name in enumerate((b"shared", b"foreign", b"own"), 11)
    )
    for node, lane in ((foreign, "other"), (own, "app")):
        node.whose = lane
        nodes.refer(node)
    saved = state.nodes()
    assert [saved[one.nodeid].whole for one in (plain, copy, foreign, own)] == [True, True, False, True]
    assert (saved[own.nodeid].uid, saved[copy.nodeid].uid) == (7, None)
    assert saved[own.nodeid].view == sum_of_view(view) != sum_of_view(View(3, frozenset({"time"}), False))
    assert {node.nodeid for node in following(state)} == {1, plain.nodeid}  # no policy tells their views
    again = table()
    again.restore(state.nodes(), state.last_id, seen=lambda one, _: (view, "app") if one.uid else None)
    found = again.find(own.nodeid)
    assert found is not None
    assert (found.view, found.whose, found.byte_path, len(again)) == (view, "app", BytePath.COPY, 3)
    state.use_policy("another")
    assert not state.nodes()[own.nodeid].whole
    assert state.nodes()[plain.nodeid].whole


def test_a_file_keeps_all_of_its_names() -> None:
    state, nodes = SavedState(100), table()
    nodes.saved = state
    above = made(nodes, nodes.root, b"a", 9, ftype=FileType.DIRECTORY)
    file, other = made(nodes, above, b"one", 10), made(nodes, above, b"other", 11)
    for name in (b"two", b"three", b"n" * 255):
        nodes.add_name(file, nodes.root, name)
    nodes.add_name(other, nodes.root, b"beside")
    for gone in (b"two", b"one"):  # the second is the first name
        nodes.drop_name(file, above if gone == b"one" else nodes.root, gone)
        for _ in range(2):
            found = following(state)
            for one in (file, other):
                again = found.find(one.nodeid)
                assert again is not None
                assert {(above.nodeid, name) for above, name in again.all_names()} == {
                    (above.nodeid, name) for above, name in one.all_names()
                }
                assert set(again.states()) == set(one.states())
    nodes.forget(other.nodeid, 1)
    assert {nodeid for nodeid, _, _ in state.links()} == {file.nodeid}


def test_a_file_with_names_that_are_not_known_is_not_whole() -> None:
    state, nodes = SavedState(4 * KEPT_NAMES), table()
    nodes.saved = state
    file = made(nodes, nodes.root, b"one", 10)
    for number in range(KEPT_NAMES):
        nodes.add_name(file, nodes.root, b"%d" % number)
    assert file.is_beyond
    assert not state.nodes()[file.nodeid].whole


def test_a_name_changes_between_the_tables_of_short_and_long_names() -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    node = made(nodes, nodes.root, b"s", 10)
    for name in (b"l" * 255, b"t", b"m" * 100):
        nodes.add_name(node, nodes.root, name)
        nodes.drop_name(node, nodes.root, node.name)
        assert state.nodes()[node.nodeid].name == name
        assert len(state.nodes()) == 1


def test_a_backing_id_is_there_until_it_is_given_back() -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    node = made(nodes, nodes.root, b"song", 10)
    state.registered(5, True)
    state.backed(node, 5)
    nodes.refer(node)
    assert (state.nodes()[node.nodeid].backing_id, state.backing_ids()) == (5, {5})
    state.unbacked(node.nodeid)
    assert (state.nodes()[node.nodeid].backing_id, state.backing_ids()) == (0, {5})
    state.registered(5, False)
    assert state.backing_ids() == set()


def test_a_state_that_could_not_take_all_is_not_continued() -> None:
    state, nodes = SavedState(2), table()
    state.set_up(SETUP)
    nodes.saved = state
    for ino in range(10, 14):
        made(nodes, nodes.root, b"%d" % ino, ino)
    assert state.can_continue
    made(nodes, nodes.root, b"one too many", 20)
    assert not state.can_continue


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
    right, memory = state.nodes(), state._memory
    counts = {nodeid: {one.lookups for one in (found,)} | {1, 0} for nodeid, found in right.items()}
    used = [at for at, byte in enumerate(memory[: 1 << 16]) if byte]
    for at in used[:600]:
        memory[at] ^= 0x10
        for nodeid, one in state.nodes().items():
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
