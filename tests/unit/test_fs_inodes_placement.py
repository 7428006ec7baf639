"""Where a node is: states and lengths that are right after moves above, and how little is computed for it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from policyfs.fs.inodes.placement import PlacedNode, Placement
from policyfs.fs.path_bounds import MAX_LEVELS, MAX_PATH_BYTES, PathTooLongError


class Tree:
    """Directories whose states are their paths, and the steps that were computed."""

    def __init__(self) -> None:
        self.steps: list[bytes] = []
        self.states: dict[bytes, bytes] = {}  # a state is one object, as in a policy
        self.placement = Placement(self.child)  # type: ignore[arg-type]
        self.root = PlacedNode(b"", self.placement)  # type: ignore[arg-type]

    def child(self, state: bytes, name: bytes) -> bytes:
        self.steps.append(name)
        made = b"(secret)" if b"(secret)" in (state, name) else state + b"/" + name
        return self.states.setdefault(made, made)

    def make(self, parent: PlacedNode, *names: bytes) -> list[PlacedNode]:
        made = []
        for name in names:
            node = PlacedNode(b"", self.placement)  # type: ignore[arg-type]
            node.parent, node.name = parent, name
            node.find_out(elsewhere=True)
            made.append(node)
            parent = node
        return made

    def move(self, node: PlacedNode, parent: PlacedNode, name: bytes) -> None:
        """As a node table does it for a directory with nodes below."""
        node.parent, node.name = parent, name
        self.placement.moved += 1
        self.root.place()
        node.find_out(elsewhere=True)
        del self.steps[:]


def right(node: PlacedNode) -> bool:
    path = node.path()
    return (node.state, node.levels, node.size_bytes) == (path, path.count(b"/"), len(path))


def test_what_is_below_a_moved_directory_has_its_new_path_when_asked() -> None:
    tree = Tree()
    a, b, c = tree.make(tree.root, b"a", b"b", b"c")
    (other,) = tree.make(tree.root, b"other")
    tree.move(a, other, b"longer")
    assert c.state == b"/other/longer/b/c"
    assert right(b)
    assert right(c)
    assert c.seen == b.seen == tree.placement.moved


def test_a_move_into_a_secret_directory_makes_secret_what_is_below() -> None:
    tree = Tree()
    a, b = tree.make(tree.root, b"a", b"b")
    (secret,) = tree.make(tree.root, b"(secret)")
    tree.move(a, secret, b"a")
    assert b.state == b"(secret)"
    tree.move(a, tree.root, b"a")
    assert b.state == b"/a/b"


def test_a_secret_name_of_the_same_length_makes_secret_all_that_is_below() -> None:
    tree = Tree()
    a, b, c, d = tree.make(tree.root, b"camera01", b"b", b"c", b"d")
    tree.move(a, tree.root, b"(secret)")
    assert (d.state, c.state, b.state) == (b"(secret)",) * 3


def test_two_moves_between_two_requests_are_both_seen() -> None:
    """What was up to date together is not so any more if only one of two was asked for in between."""
    tree = Tree()
    a, b, c = tree.make(tree.root, b"a", b"b", b"c")
    (other,) = tree.make(tree.root, b"other")
    tree.move(a, other, b"a")
    assert b.state == b"/other/a/b"  # b is asked for, c is not
    tree.move(a, tree.root, b"x")
    tree.move(a, tree.root, b"a")
    assert b.state == b"/a/b"
    assert c.state == b"/a/b/c"
    assert right(c)


def test_a_move_elsewhere_costs_no_step_below_what_stayed() -> None:
    tree = Tree()
    a, *_, last = tree.make(tree.root, b"a", b"b", b"c", b"d")
    moved, target = (tree.make(tree.root, name)[0] for name in (b"m", b"t"))
    tree.move(moved, target, b"m")
    assert last.state == b"/a/b/c/d"
    assert tree.steps == [b"a"], "only to see that the topmost is as it was"
    assert last.state == b"/a/b/c/d"
    assert len(tree.steps) == 1
    assert a.seen == tree.placement.moved


def test_a_file_that_lost_its_last_name_follows_the_directory_of_it() -> None:
    tree = Tree()
    a, file = tree.make(tree.root, b"a", b"f")
    file.was_in, file.parent = a, None
    assert file.above is a
    tree.move(a, tree.root, b"b")
    assert file.state == b"/b/f"
    assert file.path() == b"/b/f"


def test_the_root_has_the_path_of_a_slash() -> None:
    tree = Tree()
    assert tree.root.path() == b"/"
    assert tree.root.above is None
    assert (tree.root.levels, tree.root.size_bytes) == (0, 0)


def test_levels_are_bounded_exactly() -> None:
    tree = Tree()
    *_, parent, last = tree.make(tree.root, *[b"d"] * MAX_LEVELS)
    assert parent.has_room(b"x")
    assert not last.out_of_reach
    assert right(last)
    assert not last.has_room(b"x")
    (beyond,) = tree.make(last, b"x")
    assert beyond.out_of_reach
    assert not beyond.has_room(b"")
    with pytest.raises(PathTooLongError):
        _ = beyond.state


def test_bytes_are_bounded_exactly() -> None:
    tree = Tree()
    *_, last = tree.make(tree.root, *[b"n" * 255] * (MAX_PATH_BYTES // 256 - 1))
    left = MAX_PATH_BYTES - len(last.path()) - 1
    assert last.has_room(b"x" * left)
    assert not last.has_room(b"x" * (left + 1))
    full, over = (tree.make(last, b"x" * size)[0] for size in (left, left + 1))
    assert not full.out_of_reach
    assert len(full.path()) == MAX_PATH_BYTES
    assert over.out_of_reach
    assert over.path().startswith(b".../"), "the trail has the end of it"
    assert len(over.path()) <= MAX_PATH_BYTES


def test_what_was_moved_out_of_reach_is_in_reach_again_with_its_new_state_once_it_is_moved_back() -> None:
    tree = Tree()
    chain = tree.make(tree.root, *[b"d"] * (MAX_LEVELS - 1))
    a, b, c = tree.make(tree.root, b"a", b"b", b"c")
    tree.move(a, chain[-1], b"a")
    assert not a.out_of_reach
    assert not c.has_room(b"x"), "also if that is asked first"
    assert b.out_of_reach
    assert c.out_of_reach
    tree.move(a, tree.root, b"back")
    assert c.state == b"/back/b/c"
    assert not b.out_of_reach


def test_a_chain_far_too_deep_is_out_of_reach_at_once_and_told_by_its_end() -> None:
    tree = Tree()
    upper, lower = (tree.make(tree.root, *[b"d"] * (MAX_LEVELS - 1)) for _ in range(2))
    for above, below in pairwise(upper):
        assert below.parent is above
    tree.move(lower[0], upper[-1], b"d")
    tree.placement.moved += 1  # and a move elsewhere, so that none of them is up to date
    tree.root.place()
    assert lower[-1].out_of_reach
    assert tree.steps == [], "without a step for any of the directories above"
    assert lower[-1].path().count(b"/") == MAX_LEVELS
