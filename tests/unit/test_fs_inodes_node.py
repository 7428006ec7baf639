"""Nodes alone: their names and states, and what the kernel was told of them."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import FileType
from policyfs.fs.inodes.node import BytePath, StaleNodeError
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.path_bounds import KEPT_NAMES
from policyfs.store.frozen import Version
from tests.unit.test_fs_inodes_node_table import Tree

FILE = FileType.REGULAR


def test_a_stale_node_is_estale() -> None:
    assert StaleNodeError().errno == errno.ESTALE


def test_bytes_that_are_shown_decide_the_kind_on_two_paths() -> None:
    assert {path for path in BytePath if path.finds_kind} == {BytePath.COPY, BytePath.LEASED}


def test_the_version_that_the_kernel_was_told() -> None:
    node = Tree().make("/a/f", FILE)
    old, new = Version(1, 2, 3), Version(1, 2, 4)
    assert not node.was_told(old)
    assert not node.was_told_another(old), "it was told none"
    node.tell(old)
    assert node.was_told(Version(1, 2, 3))
    assert not node.was_told_another(old)
    assert node.was_told_another(new)
    node.tell(new)
    assert (node.was_told(old), node.was_told_another(old)) == (False, True)


def test_a_node_is_idle_while_the_kernel_alone_has_it() -> None:
    tree = Tree()
    node = tree.make("/a/f", FILE)
    assert node.is_idle
    node.open = OpenState()
    assert not node.is_idle
    node.open = None
    node.lookups = 0
    assert not node.is_idle
    tree.table.root.lookups = 1
    assert not tree.table.root.is_idle


def test_one_name_is_one_state_and_two_may_be_two() -> None:
    tree = Tree()
    node, outside = tree.make("/a/f", FILE), tree.make("/b")
    inside = node.state
    assert node.states() == (inside,)
    assert node.is_all(inside)
    tree.table.add_name(node, outside, b"g")
    other = tree.engine.child(outside.state, b"g")
    assert set(node.states()) == {inside, other}
    assert not node.is_all(inside)
    assert not node.is_all(other)
    tree.table.add_name(node, tree.make("/a"), b"h")
    assert len(node.states()) == 2, "states are told once"
    assert [(name.parent.name, name.name) for name in node.names()] == [
        (b"a", b"f"),
        (b"b", b"g"),
        (b"a", b"h"),
    ]


def test_directories_of_a_state() -> None:
    tree = Tree()
    node, a, b = tree.make("/a/f", FILE), tree.make("/a"), tree.make("/b")
    assert node.directories(node.state) == [a]
    tree.table.add_name(node, b, b"g")
    assert node.directories(node.state) == [a]
    assert node.directories(tree.engine.child(b.state, b"g")) == [b]
    assert tree.table.root.directories(tree.table.root.state) == []


def test_a_node_knows_its_names_by_directory() -> None:
    tree = Tree()
    node, a, b = tree.make("/a/f", FILE), tree.make("/a"), tree.make("/b")
    assert node.is_named(a, b"f")
    assert not node.is_named(a, b"g")
    assert not node.is_named(b, b"f")
    tree.table.add_name(node, b, b"g")
    assert node.is_named(b, b"g")
    assert not node.is_beyond


def test_beyond_the_kept_names_any_name_may_be_one() -> None:
    tree = Tree()
    node, a, b = tree.make("/a/f", FILE), tree.make("/a"), tree.make("/b")
    for number in range(KEPT_NAMES + 1):
        tree.table.add_name(node, b, b"n%d" % number)
    assert node.is_beyond
    assert node.is_named(a, b"unheard of")
    with pytest.raises(StaleNodeError):
        node.directories(tree.engine.child(b.state, b"n0"))


def test_states_of_names_that_may_have_changed_are_not_known() -> None:
    tree = Tree()
    node, b = tree.make("/a/f", FILE), tree.make("/b")
    for number in range(KEPT_NAMES + 1):
        tree.table.add_name(node, b, b"n%d" % number)
    assert len(node.states()) == 2
    state = node.state
    node._placement.unlike += 1  # a directory went to another path class
    with pytest.raises(StaleNodeError):
        node.states()
    assert not node.is_all(state)
