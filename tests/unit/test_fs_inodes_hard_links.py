"""Further names of a file: which are kept, and by what states a request by number is decided."""

from __future__ import annotations

import pytest

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes.node import BytePath, HardLinks, Node, check_room
from policyfs.fs.inodes.placement import Placement
from policyfs.fs.path_bounds import KEPT_NAMES, MAX_LEVELS, PathTooLongError


class Tree:
    """Directories; the state of a path is `secret` below a directory of that name, else `open`."""

    def __init__(self) -> None:
        self.placement = Placement(self.child)  # type: ignore[arg-type]
        self.made = 1
        self.root = self.node()
        self.links = HardLinks(self.placement)

    @staticmethod
    def child(state: str, name: bytes) -> str:
        return "secret" if state == "secret" or name == b"secret" else "open"

    def node(self) -> Node:
        self.made += 1
        return Node(
            self.made, self.made, 0, FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, "open",  # type: ignore[arg-type]
            self.placement,
        )  # fmt: skip

    def directory(self, name: bytes, parent: Node | None = None) -> Node:
        made = self.node()
        made.parent, made.name = parent or self.root, name
        made.find_out(elsewhere=True)
        return made

    def move(self, node: Node, parent: Node, name: bytes) -> None:
        node.parent, node.name = parent, name
        self.placement.moved += 1
        self.root.place()
        node.find_out(elsewhere=True)

    def states(self) -> list[object]:
        return sorted(map(str, self.links.states()))

    def fill(self, parent: Node) -> None:
        """Add names until no more are kept."""
        for number in range(KEPT_NAMES - 1 - len(self.links)):
            assert self.links.add(parent, b"%d" % number)


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_names_are_kept_in_the_order_in_which_they_came(tree: Tree) -> None:
    a, b = tree.directory(b"a"), tree.directory(b"b")
    for parent, name in ((a, b"1"), (b, b"1"), (a, b"2")):
        assert tree.links.add(parent, name)
    assert list(tree.links) == [(a, b"1"), (b, b"1"), (a, b"2")]
    assert len(tree.links) == 3
    assert tree.links.has(b, b"1")
    assert not tree.links.has(b, b"2")
    tree.links.turn(a, b"1")
    assert list(tree.links) == [(b, b"1"), (a, b"2"), (a, b"1")]
    assert tree.links.pop() == (b, b"1")
    assert list(tree.links) == [(a, b"2"), (a, b"1")]


def test_a_state_lasts_as_long_as_one_of_its_names(tree: Tree) -> None:
    a, secret = tree.directory(b"a"), tree.directory(b"secret")
    for parent, name in ((a, b"1"), (secret, b"1"), (secret, b"2")):
        tree.links.add(parent, name)
    assert tree.states() == ["open", "secret"]
    assert tree.links.drop(secret, b"1")
    assert tree.states() == ["open", "secret"]
    assert tree.links.drop(secret, b"2")
    assert tree.states() == ["open"]
    assert not tree.links.drop(secret, b"2"), "it is not there any more"


def test_a_directory_that_becomes_secret_makes_the_names_in_it_so(tree: Tree) -> None:
    a, secret = tree.directory(b"a"), tree.directory(b"secret")
    tree.links.add(a, b"1")
    assert tree.states() == ["open"]
    tree.move(a, secret, b"a")
    assert tree.states() == ["secret"]
    tree.links.add(secret, b"2")
    assert tree.links.drop(a, b"1")
    assert tree.states() == ["secret"]
    tree.links.drop(secret, b"2")
    assert tree.states() == []


def test_a_name_that_comes_and_goes_between_a_move_and_the_next_request_leaves_nothing(tree: Tree) -> None:
    a, b = tree.directory(b"a"), tree.directory(b"secret")
    tree.links.add(a, b"1")
    tree.move(a, tree.root, b"x")
    tree.links.add(b, b"2")
    tree.links.drop(b, b"2")
    assert tree.states() == ["open"]
    tree.move(a, tree.root, b"y")
    tree.links.drop(a, b"1")
    assert tree.states() == []


def test_of_more_names_only_the_states_are_kept_and_for_good(tree: Tree) -> None:
    a, secret = tree.directory(b"a"), tree.directory(b"secret")
    tree.fill(a)
    assert len(tree.links) == KEPT_NAMES - 1
    assert not tree.links.add(secret, b"more")
    assert len(tree.links) == KEPT_NAMES - 1
    assert tree.states() == ["open", "secret"]
    assert not tree.links.drop(secret, b"more")
    assert tree.states() == ["open", "secret"], "the file may have another such name"
    assert not tree.links.has(secret, b"more")


def test_what_is_only_known_by_its_state_is_lost_with_a_reload(tree: Tree) -> None:
    a, secret = tree.directory(b"a"), tree.directory(b"secret")
    tree.placement.unlike += 1
    assert not tree.links.lost, "all its names are kept"
    tree.fill(a)
    tree.links.add(secret, b"more")
    assert not tree.links.lost, "found since then"
    tree.links.add(secret, b"still more")
    tree.placement.unlike += 1
    assert tree.links.lost
    tree.links.add(secret, b"and more")
    assert tree.links.lost, "the others are lost all the same"


def far(tree: Tree) -> Node:
    """A directory that was moved out of reach."""
    at = tree.root
    for _ in range(MAX_LEVELS):
        at = tree.directory(b"d", at)
    made = tree.directory(b"secret")
    tree.move(made, at, b"secret")
    assert made.out_of_reach
    return made


def test_names_out_of_reach_decide_nothing_and_are_the_last_to_be_the_first(tree: Tree) -> None:
    beyond, a = far(tree), tree.directory(b"a")
    tree.links.add(beyond, b"1")
    tree.links.add(a, b"2")
    assert tree.states() == ["open"]
    assert tree.links.pop() == (a, b"2")
    assert tree.states() == []
    assert tree.links.pop() == (beyond, b"1"), "better than none"
    assert tree.links.pop() is None


def test_a_name_that_comes_while_it_is_out_of_reach_is_kept_for_later(tree: Tree) -> None:
    beyond = far(tree)
    assert tree.states() == []
    assert tree.links.add(beyond, b"1")
    assert tree.states() == []
    assert tree.links.drop(beyond, b"1")


def test_a_name_that_comes_into_reach_counts(tree: Tree) -> None:
    beyond = far(tree)
    tree.links.add(beyond, b"1")
    assert tree.states() == []
    tree.move(beyond, tree.root, b"secret")
    assert tree.states() == ["secret"]
    tree.links.drop(beyond, b"1")
    assert tree.states() == []


def test_no_state_is_kept_of_a_name_beyond_and_out_of_reach(tree: Tree) -> None:
    beyond, a = far(tree), tree.directory(b"a")
    tree.fill(a)
    assert not tree.links.add(beyond, b"more")
    assert tree.states() == ["open"]


def test_a_name_must_have_room_in_its_directory(tree: Tree) -> None:
    at = tree.root
    for _ in range(MAX_LEVELS - 1):
        at = tree.directory(b"d", at)
    check_room(at, b"x")
    with pytest.raises(PathTooLongError):
        check_room(tree.directory(b"d", at), b"x")
