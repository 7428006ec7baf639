"""Bookkeeping of nodes: names, what keeps a node alive, states after moves and reloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node, StaleNodeError
from policyfs.fs.inodes.node_table import PHANTOMS, NodeTable
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.path_bounds import KEPT_NAMES, MAX_LEVELS, MAX_PATH_BYTES, PathTooLongError
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of

HALF = MAX_LEVELS // 2 + 10
"""Two such paths, one below the other, are too long."""
RULES = '- {id: a, allow: [see], who: {app: any}, paths: ["/a/**", "/b/c/**"]}\n'


def stat(ino: int, dev: int = 1, btime_ns: int = 7, mode: int = 0o100644) -> Stat:
    return Stat(ino, dev, mode, 1, 0, 0, 0, 0, 4096, 0, 0, 0, btime_ns)


class Tree:
    """A table with an engine's states, and names made in it."""

    def __init__(self) -> None:
        self.engine = engine_of(RULES)
        self.table = NodeTable(stat(2), self.engine.root, self.engine.child)
        self.inode = 100

    def make(self, path: str, ftype: FileType = FileType.DIRECTORY, ino: int = 0) -> Node:
        """The node of a path; the directories above are made too."""
        node = self.table.root
        names = path.strip("/").split("/")
        for position, name in enumerate(names):
            last = position == len(names) - 1
            node = self.child(node, name.encode(), ftype if last else FileType.DIRECTORY, ino if last else 0)
        return node

    def child(self, parent: Node, name: bytes, ftype: FileType, ino: int) -> Node:
        for node in self.table:
            if any(known.parent is parent and known.name == name for known in node.names()):
                return node
        self.inode += 1
        state = self.engine.child(parent.state, name)
        node = self.table.add(stat(ino or self.inode), ftype, RAW_VIEW, BytePath.RAW, state)
        node.lookups = 1
        self.table.add_name(node, parent, name)
        return node

    def consistent(self) -> None:
        """What must hold whatever happened."""
        nodes = list(self.table)
        for node in nodes:
            named = sum(parent is node for n in nodes for parent, _ in n.all_names())
            assert node.children == named + sum(n.parent is None and n.was_in is node for n in nodes)
            assert node in list(self.table.same_inode(node.ino))
            if node.parent is not None and not node.out_of_reach:
                assert node.state is self.engine.state_of(node.path())
                assert node.levels == node.path().count(b"/")
                assert node.size_bytes == len(node.path())
            for known in node.names():
                assert self.table.find(known.parent.nodeid) is known.parent
                assert known.state is self.engine.child(known.parent.state, known.name)
                assert known.state in node.states()


@pytest.fixture
def tree() -> Iterator[Tree]:
    made = Tree()
    yield made
    made.consistent()


def test_a_node_lives_while_the_kernel_knows_it_or_what_is_below_it(tree: Tree) -> None:
    file = tree.make("/a/b/f", FileType.REGULAR)
    middle, top = file.parent, file.parent.parent
    tree.table.forget(top.nodeid, 1)
    tree.table.forget(middle.nodeid, 1)
    assert len(tree.table) == 4
    tree.table.forget(file.nodeid, 1)
    assert len(tree.table) == 1
    tree.table.forget(file.nodeid, 1)  # unknown by now
    tree.table.forget(ROOT_ID, 100)
    assert tree.table.get(ROOT_ID) is tree.table.root


def test_a_node_lives_while_it_is_open(tree: Tree) -> None:
    file = tree.make("/a/f", FileType.REGULAR)
    file.open = OpenState()
    tree.table.forget(file.nodeid, 1)
    tree.table.drop_name(file, file.parent, b"f")
    assert tree.table.find(file.nodeid) is file
    file.open = None
    tree.table.closed(file)
    assert tree.table.find(file.nodeid) is None


def test_the_kernel_may_give_up_more_references_than_it_has(tree: Tree) -> None:
    file = tree.make("/a/f", FileType.REGULAR)
    tree.table.forget(file.nodeid, 10)
    assert tree.table.find(file.nodeid) is None


def test_numbers_are_never_used_twice(tree: Tree) -> None:
    seen = set()
    for _ in range(5):
        file = tree.make("/a/f", FileType.REGULAR)
        assert file.nodeid not in seen
        seen.add(file.nodeid)
        tree.table.forget(file.nodeid, 1)


def test_the_first_name_goes_and_the_next_takes_its_place_with_its_state(tree: Tree) -> None:
    file = tree.make("/a/f", FileType.REGULAR)
    other = tree.make("/b/c")
    state = tree.engine.child(other.state, b"g")
    tree.table.add_name(file, other, b"g")
    tree.table.add_name(file, other, b"g")  # says nothing new
    assert len(file.states()) == 2
    tree.table.drop_name(file, file.parent, b"f")
    assert (file.parent, file.name, file.states()) == (other, b"g", (state,))
    tree.table.drop_name(file, other, b"unknown")
    assert file.path() == b"/b/c/g"
    tree.table.drop_name(file, other, b"g")
    assert file.parent is None
    assert file.path() == b"/b/c/g"  # of what is gone, for the trail
    assert list(file.names()) == []


def test_a_name_that_comes_back_is_a_name_like_any(tree: Tree) -> None:
    file = tree.make("/a/f", FileType.REGULAR)
    above = file.parent
    tree.table.drop_name(file, above, b"f")
    tree.table.add_name(file, above, b"g")
    assert file.path() == b"/a/g"
    assert above.children == 1


def test_nodes_of_one_inode_are_found_and_told_apart_by_file_system_and_birth(tree: Tree) -> None:
    one = tree.make("/a/f", FileType.REGULAR, ino=77)
    two = tree.make("/b/f", FileType.REGULAR, ino=77)
    assert set(tree.table.same_inode(77)) == {one, two}
    assert tree.table.named(77, one.parent, b"f") == [one]
    assert tree.table.is_same(one, stat(77))
    assert not tree.table.is_same(one, stat(77, btime_ns=8))
    assert not tree.table.is_same(one, stat(77, dev=2))
    assert tree.table.key_of(stat(77, dev=2)) != tree.table.key_of(stat(77, dev=3))
    tree.table.forget(one.nodeid, 1)
    assert set(tree.table.same_inode(77)) == {two}
    tree.table.forget(two.nodeid, 1)
    assert list(tree.table.same_inode(77)) == []


def test_below_a_moved_directory_everything_has_another_state_and_nothing_else(tree: Tree) -> None:
    deep = tree.make("/a/x/y/f", FileType.REGULAR)
    beside = tree.make("/b/z/g", FileType.REGULAR)
    moved, old, new = deep.parent.parent, deep.parent.parent.parent, tree.make("/b")
    tree.table.add_name(beside, deep.parent, b"h")
    before = beside.state
    tree.table.add_name(moved, new, b"x")
    tree.table.drop_name(moved, old, b"x")
    assert deep.state is tree.engine.state_of(b"/b/x/y/f")
    assert deep.path() == b"/b/x/y/f"
    assert beside.state is before
    assert [name.state for name in beside.names()] == [before, tree.engine.state_of(b"/b/x/y/h")]
    assert set(beside.states()) == {before, tree.engine.state_of(b"/b/x/y/h")}


def test_at_a_reload_everything_is_restated_what_is_gone_by_the_path_it_had(tree: Tree) -> None:
    file, gone = tree.make("/a/x/f", FileType.REGULAR), tree.make("/b/c")
    below = tree.make("/b/c/d/g", FileType.REGULAR)
    tree.table.drop_name(gone, gone.parent, b"c")
    newer = engine_of(RULES.replace("/b/c/**", "/b/**"))
    tree.engine = newer
    tree.table.use(newer.root, newer.child)
    assert file.state is newer.state_of(b"/a/x/f")
    assert gone.state is newer.state_of(b"/b/c")
    assert below.state is newer.state_of(b"/b/c/d/g")


# ---------------------------------------------------------------- bounds of a path


def chain(tree: Tree, above: Node, names: list[bytes]) -> list[Node]:
    """Directories one in the other."""
    nodes = [above]
    for name in names:
        nodes.append(tree.child(nodes[-1], name, FileType.DIRECTORY, 0))
    return nodes


def test_a_path_has_so_many_names_and_no_more(tree: Tree) -> None:
    nodes = chain(tree, tree.table.root, [b"d"] * MAX_LEVELS)
    assert not nodes[-1].out_of_reach
    assert nodes[-2].has_room(b"x")
    assert not nodes[-1].has_room(b"x")
    assert nodes[-1].path() == b"/d" * MAX_LEVELS


def test_a_path_has_so_many_bytes_and_no_more(tree: Tree) -> None:
    nodes = chain(tree, tree.table.root, [b"x" * 255] * (MAX_PATH_BYTES // 256 - 1))
    assert nodes[-1].has_room(b"x" * 255)
    assert not nodes[-1].has_room(b"x" * 256)
    assert len(nodes[-1].path()) == MAX_PATH_BYTES - 256


def moved(tree: Tree, node: Node, parent: Node, name: bytes) -> None:
    old_parent, old = node.parent, node.name
    tree.table.add_name(node, parent, name)
    tree.table.drop_name(node, old_parent, old)


def test_what_is_moved_out_of_reach_is_in_reach_again_when_it_is_moved_up(tree: Tree) -> None:
    long, short = (chain(tree, tree.make(f"/{top}"), [b"d"] * HALF) for top in "ab")
    state = short[-1].state
    moved(tree, short[0], long[-1], b"x")
    assert not short[100].out_of_reach
    for node in (short[-1], short[MAX_LEVELS - HALF - 1]):
        assert node.out_of_reach
        with pytest.raises(PathTooLongError):
            tree.table.get(node.nodeid)
        with pytest.raises(PathTooLongError):
            node.states()
    assert short[-1].path().startswith(b".../d/d")
    moved(tree, short[0], tree.table.root, b"b")
    assert tree.table.get(short[-1].nodeid).state is state


def test_a_directory_moved_below_itself_by_the_store_ends_nothing_in_a_circle() -> None:
    """What was known of the store and what is there now may contradict each other for a moment."""
    tree = Tree()
    nodes = chain(tree, tree.table.root, [b"d"] * 5)
    tree.table.found_at(nodes[1], nodes[5], b"d")
    assert nodes[3].out_of_reach
    assert nodes[3].path().startswith(b".../")


def test_a_directory_found_at_a_path_with_other_rules_is_told(tree: Tree) -> None:
    """Also one below which no node is known: the kernel may keep absent names and the listing."""
    told: list[int] = []
    tree.table.found_elsewhere = lambda: told.append(tree.table.unlike)
    near, far, node = tree.make("/b"), tree.make("/c"), tree.make("/b/c")
    state, unlike = node.state, tree.table.unlike
    tree.table.found_at(node, near, b"c")
    assert (told, node.state) == ([], state)
    tree.table.found_at(node, far, b"c")
    assert node.state is not state
    assert told == [unlike + 1]
    tree.table.found_at(node, far, b"x")
    assert told == [unlike + 1], "the same rules hold there"
    tree.table.found_at(tree.make("/n"), tree.table.root, b"n")
    assert told == [unlike + 1], "it was found for the first time"


def test_a_file_is_in_reach_by_any_of_its_names(tree: Tree) -> None:
    long, short = (chain(tree, tree.make(f"/{top}"), [b"d"] * HALF) for top in "ab")
    file = tree.child(short[-1], b"f", FileType.REGULAR, 0)
    near = tree.make("/b/c")
    tree.table.add_name(file, near, b"g")
    moved(tree, short[0], long[-1], b"x")
    assert tree.table.get(file.nodeid) is file
    assert file.path() == b"/a" + b"/d" * HALF + b"/x/c/g"
    assert file.states() == (tree.engine.child(near.state, b"g"),)


# ---------------------------------------------------------------- many names


def many(tree: Tree, names: int) -> tuple[Node, Node]:
    file = tree.make("/a/0", FileType.REGULAR)
    for number in range(1, names):
        tree.table.add_name(file, file.parent, b"%d" % number)
    return file, file.parent


def test_of_names_beyond_those_kept_the_states_count(tree: Tree) -> None:
    file, above = many(tree, KEPT_NAMES)
    assert not file.is_beyond
    other = tree.make("/b")
    tree.table.add_name(file, other, b"f")
    assert file.is_beyond
    assert len(list(file.all_names())) == KEPT_NAMES
    assert set(file.states()) == {file.state, tree.engine.child(other.state, b"f")}
    assert file.is_named(other, b"anything")
    tree.table.drop_name(file, above, b"5")
    tree.table.drop_name(file, other, b"f")  # kept in no list: its state stays
    assert len(file.states()) == 2


def test_after_a_reload_such_a_file_is_to_be_looked_up_again() -> None:
    tree = Tree()
    file, above = many(tree, KEPT_NAMES + 1)
    moved(tree, above, tree.make("/b/c"), b"a")  # a move in the mount: as many may do as much there
    assert file.states()
    tree.engine = engine_of(RULES.replace("/b/c/**", "/b/**"))
    tree.table.use(tree.engine.root, tree.engine.child)
    with pytest.raises(StaleNodeError):
        file.states()
    assert not file.is_all(file.state)
    few = tree.make("/a/few", FileType.REGULAR)
    assert few.states() == (few.state,)


def test_a_phantom_whose_announcer_was_killed_is_stale(tree: Tree) -> None:
    with pytest.raises(StaleNodeError):
        tree.table.get(PHANTOMS + 1)
    with pytest.raises(KeyError):
        tree.table.get(12345)


def test_directories_that_are_not_all_known_are_not_told(tree: Tree) -> None:
    file, above = many(tree, KEPT_NAMES)
    assert file.directories(file.state) == [above]
    tree.table.add_name(file, above, b"more")
    with pytest.raises(StaleNodeError):
        file.directories(file.state)


STEPS = st.lists(
    st.tuples(st.sampled_from("mlfdrv"), st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=40
)


@settings(max_examples=60)
@given(STEPS)
def test_whatever_happens_the_table_is_consistent(steps: list[tuple[str, int, int]]) -> None:
    """make, link, forget, drop a name, rename, move a directory: in any order."""
    tree = Tree()
    paths = ["/a", "/a/x", "/a/x/y", "/b", "/b/c"]
    for step, which, where in steps:
        nodes = [node for node in tree.table if node.nodeid != ROOT_ID]
        if step == "m" or not nodes:
            tree.make(f"{paths[where]}/{'fgh'[which % 3]}", FileType.REGULAR)
            continue
        node = nodes[which % len(nodes)]
        above = tree.make(paths[where])
        name = b"abcd"[which % 4 : which % 4 + 1]
        if step == "l" and node.ftype is FileType.REGULAR:
            tree.table.add_name(node, above, name)
        elif step == "f":
            tree.table.forget(node.nodeid, 1)
        elif step == "d" and node.parent is not None:
            tree.table.drop_name(node, node.parent, node.name)
        elif step == "v" and node.parent is not None and node.ftype is FileType.DIRECTORY:
            below_itself = (above.path() + b"/").startswith(node.path() + b"/")
            if not below_itself and tree.table.directory(above, name) is None:
                moved(tree, node, above, name)
        elif step == "r" and node.parent is not None and node.ftype is FileType.REGULAR:
            parent, old = node.parent, node.name
            if (parent, old) != (above, name):
                tree.table.add_name(node, above, name)
                tree.table.drop_name(node, parent, old)
        tree.consistent()
