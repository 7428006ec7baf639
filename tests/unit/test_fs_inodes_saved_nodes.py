"""The nodes of the next daemon are those that the last one had, or fewer, whenever each is read."""

from __future__ import annotations

import random

import pytest

from policyfs.domain import RAW_VIEW, FileType, View
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.saved_nodes import NOBODY, sum_of_view
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.path_bounds import KEPT_NAMES
from policyfs.fs.sharing.shares import Holder
from policyfs.kernel import vectors
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of
from tests.support.models.saved_nodes import all_in

ENGINE = engine_of('- {id: a, allow: [see], who: {app: any}, paths: ["/a/**", "/b/c/**"]}\n')


def stat(ino: int, dev: int = 1) -> Stat:
    return Stat(ino, dev, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, ino * 3)


def table() -> NodeTable:
    return NodeTable(stat(2), ENGINE.root, ENGINE.child)


def made(
    nodes: NodeTable, parent: Node, name: bytes, ino: int, *, ftype: FileType = FileType.REGULAR,
    view: View = RAW_VIEW, byte_path: BytePath = BytePath.RAW, holder: Holder = NOBODY,
) -> Node:  # fmt: skip
    node = nodes.add(stat(ino), ftype, view, byte_path, ENGINE.child(parent.state, name))
    nodes.add_name(node, parent, name)
    nodes.refer(node, holder)
    return node


def following(state: SavedState) -> NodeTable:
    """The table of the next daemon."""
    nodes = table()
    nodes.restore(state.nodes.read(), state.last_id, lambda _saved, _state: None)
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


@pytest.mark.parametrize("seed", range(20))
def test_nodes_that_are_read_at_their_first_use_are_as_if_all_were_read_first(seed: int) -> None:
    dice, state, nodes = random.Random(seed), SavedState(400), table()
    nodes.saved = state
    directories = [nodes.root]
    for ino in range(100, 180):
        ftype = dice.choice([FileType.DIRECTORY, *[FileType.REGULAR] * 4])
        node = made(nodes, dice.choice(directories), b"%d" % ino, ino, ftype=ftype)
        directories += [node] * (ftype is FileType.DIRECTORY)
        if dice.random() < 0.1 and ftype is FileType.REGULAR:
            made(nodes, dice.choice(directories), b"%d-again" % ino, ino)  # another view
    late, early = following(state), following(state)
    known = list(early)
    assert len(late) == len(known)
    for _ in range(150):
        one, name = dice.choice(known), b"%d" % dice.randrange(99)
        how, parent, lookups = dice.randrange(5), dice.choice(directories).nodeid, dice.randrange(2)
        for which in (late, early):
            node = None if how in {0, 3} else which.find(one.nodeid)
            if how == 3:
                which.forget(one.nodeid, lookups)
            elif how == 0:
                assert one.nodeid in {each.nodeid for each in which.same_inode(one.ino)} or one.nodeid == 1
            elif node is None or node is which.root:
                continue
            elif how == 1 and node.parent is not None:
                which.drop_name(node, node.parent, node.name)
            elif how == 2 and node.ftype is FileType.REGULAR and (above := which.find(parent)) is not None:
                which.add_name(node, above, name)
            else:
                which.forget(node.nodeid, lookups)
        known = [each for each in known if early.find(each.nodeid) is not None]
    assert (len(late), described(late)) == (len(early), described(early))
    assert (late.lost, early.lost) == ([], [])


def test_nodes_without_their_directory_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    above = made(nodes, nodes.root, b"a", 10, ftype=FileType.DIRECTORY)
    below = [made(nodes, above, name, ino) for ino, name in enumerate((b"x", b"y"), 11)]
    damaged = made(nodes, nodes.root, b"z", 13)
    state.nodes.gone(above.nodeid)
    found = following(state)
    assert sorted(found.lost) == [one.nodeid for one in below]
    assert found.find(below[0].nodeid) is None
    monkeypatch.setattr(state.nodes._short, "get", lambda _slot: b"")
    assert (found.find(damaged.nodeid), found.root.children) == (None, 0)
    assert found.lost[2:] == [damaged.nodeid]


def test_a_view_is_restored_by_the_policy_alone() -> None:
    state, nodes, view = SavedState(10), table(), View(3, frozenset({"location"}), False)
    state.nodes.uid_of = lambda lane: {"app": 7}.get(str(lane))
    nodes.saved = state
    plain = made(nodes, nodes.root, b"plain", 10)
    copy, foreign, own = (
        made(nodes, nodes.root, name, ino, view=view, byte_path=BytePath.COPY)
        for ino, name in enumerate((b"shared", b"foreign", b"own"), 11)
    )
    for node, lane in ((foreign, "other"), (own, "app")):
        node.whose = lane
        nodes.refer(node)
    saved = all_in(state)
    assert [saved[one.nodeid].whole for one in (plain, copy, foreign, own)] == [True, True, False, True]
    assert (saved[own.nodeid].uid, saved[copy.nodeid].uid) == (7, None)
    assert saved[own.nodeid].view == sum_of_view(view) != sum_of_view(View(3, frozenset({"time"}), False))
    assert {node.nodeid for node in following(state)} == {1, plain.nodeid}  # no policy tells their views
    again = table()
    again.restore(state.nodes.read(), state.last_id, lambda one, _: (view, "app") if one.uid else None)
    found = again.find(own.nodeid)
    assert found is not None
    assert (found.view, found.whose, found.byte_path, len(list(again))) == (view, "app", BytePath.COPY, 3)
    state.use_policy("another")
    assert not all_in(state)[own.nodeid].whole
    assert all_in(state)[plain.nodeid].whole


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
    assert {nodeid for nodeid, _, _ in state.nodes.read().links} == {file.nodeid}


def test_a_file_with_names_that_are_not_known_is_not_whole() -> None:
    state, nodes = SavedState(4 * KEPT_NAMES), table()
    nodes.saved = state
    file = made(nodes, nodes.root, b"one", 10)
    for number in range(KEPT_NAMES):
        nodes.add_name(file, nodes.root, b"%d" % number)
    assert file.is_beyond
    assert not all_in(state)[file.nodeid].whole


def test_a_name_changes_between_the_tables_of_short_and_long_names() -> None:
    state, nodes = SavedState(10), table()
    nodes.saved = state
    node = made(nodes, nodes.root, b"s", 10)
    for name in (b"l" * 255, b"t", b"m" * 100):
        nodes.add_name(node, nodes.root, name)
        nodes.drop_name(node, nodes.root, node.name)
        assert all_in(state)[node.nodeid].name == name
        assert len(all_in(state)) == 1


def test_a_node_of_the_bridge_has_its_backing_id_from_its_first_record_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a death between two records takes the handles of its file, and opens of it fail."""
    own = vectors.OwnNode(vectors.OWN_NODES + 1, 1, b"new", 100, 300, lookups=1, backing_id=7)
    state, nodes = SavedState(400), table()
    nodes.saved = state
    put, seen = state.nodes.put, []

    def died(node: Node) -> None:
        put(node)
        seen.append((all_in(state)[node.nodeid].backing_id, state.backing_ids()))

    monkeypatch.setattr(state.nodes, "put", died)
    monkeypatch.setattr(vectors, "take_node", lambda _nodeid: [own])
    assert nodes.find(own.nodeid) is not None
    assert seen == [(7, {7})]
