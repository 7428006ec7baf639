"""What a record of a dead daemon is believed: nothing that a descriptor, or the node, does not show."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policyfs.domain import RAW_VIEW, FileType, Principal
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle, HandleTable
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.kernel_cache.name_expiry import AbsentNames
from policyfs.fs.namespace.open_directories import OpenDirectories
from policyfs.fs.namespace.recovery import Recovery
from policyfs.fs.namespace.restoration import Restoration, RestoredBytes
from policyfs.fs.saved.intents import Intents
from policyfs.fs.saved.state_memory import VERSION
from policyfs.kernel import bridge, vectors
from policyfs.kernel.bridge import FH_PASSTHROUGH, pack_fh
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.models.saved_nodes import all_in

ENGINE = engine_of('- {id: a, allow: [see], who: {app: any}, paths: ["/**"]}\n')
WRONG = ("another file", "a writer", "a directory", "a path", "twice", "passthrough")
CALLER = Caller(lambda uid: Principal(1, "app", uid), 1000, 1000, 42, 0)


class Side:
    """One daemon's tables, with what Restoration needs of the rest."""

    def __init__(self, tree: Tree) -> None:
        self.nodes = NodeTable(tree.fstat(tree.root_fd), ENGINE.root, ENGINE.child)
        self.handles = HandleTable()
        self.given: list[tuple[int, int]] = []
        self.released: set[int] = set()
        gate = SimpleNamespace(principal=CALLER._who, generation=0, engine=ENGINE, app=None)
        copies: Any = SimpleNamespace(
            restore=lambda _saved, _seen: {7}, save_to=lambda _saved: None, release=lambda: None,
            of=lambda _node, _fd, _backing_id: None,
        )  # fmt: skip
        held: Any = SimpleNamespace(restore=lambda _saved, _policy: None)
        self.intents = Intents(lambda: None)
        self.locks: Any = SimpleNamespace(save_to=lambda _saved: None, restore=lambda _saved, is_same: None)
        self.inherited: list[Any] = []
        fs: Any = SimpleNamespace(
            kept=SimpleNamespace(inherits=self.inherited.append),
            nodes=self.nodes, handles=self.handles, tree=tree, gate=gate, intents=self.intents
        )
        bridge: Any = SimpleNamespace(directories=None, take=lambda _fh: None)
        self.directories = OpenDirectories(bridge)
        self.absent_names = AbsentNames(lambda _parent, _name: True)
        self.restoration = Restoration(
            fs, self, self, self.directories, self.absent_names,  # type: ignore[arg-type]
            self.locks, Recovery(fs, None), RestoredBytes(copies, held),  # type: ignore[arg-type]
        )  # fmt: skip

    def enter(self, node: Node, *, writing: bool) -> OpenState:
        node.open = node.open or OpenState()
        node.open.handles += 1
        node.open.writers += writing
        return node.open

    def leave(self, handle: Handle, _state: OpenState) -> None:
        self.handles.pop(handle.fh)

    def restore(self, node: Node, backing_id: int) -> None:
        self.given.append((node.nodeid, backing_id))

    def adopt(self, backing_id: int) -> None:
        self.given.append((0, backing_id))

    def release_all_but(self, registered: set[int], kept: set[int]) -> None:
        self.released = registered - kept

    def save_to(self, _state: SavedState) -> None:
        pass


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    for name in ("song", "other"):
        (tmp_path / name).write_text(name)
    tree = Tree.open(str(tmp_path))
    yield tree
    tree.close()


@pytest.fixture
def state() -> SavedState:
    return SavedState(10)


@pytest.fixture
def old(tree: Tree, state: SavedState) -> Side:
    old = Side(tree)
    old.restoration.save_to(state)
    return old


def song(side: Side, tree: Tree, name: bytes = b"song") -> Node:
    found = tree.stat(tree.root_fd, name)
    node = side.nodes.add(found, FileType.REGULAR, RAW_VIEW, BytePath.RAW, ENGINE.root)
    side.nodes.add_name(node, side.nodes.root, name)
    side.nodes.refer(node)
    return node


def opened(
    side: Side, node: Node, fd: int, index: int = 1, unique: int = 0, flags: int = os.O_RDONLY, *,
    passed: bool = False,
) -> Handle:  # fmt: skip
    caller = Caller(CALLER._who, 1000, 1000, 42, 0)
    caller.unique = unique
    passed |= fd < 0
    mode = Mode.PASSTHROUGH if passed else Mode.MEDIATED
    fh = pack_fh(index, FH_PASSTHROUGH, 5) if passed else pack_fh(index)
    handle = Handle(index, node, caller, flags, fd, fh, mode)
    side.handles.add(handle)
    return handle


def next_one(tree: Tree, state: SavedState) -> tuple[Side, int]:
    new = Side(tree)
    return new, new.restoration.restore(state)


def test_a_mediated_handle_goes_on_with_its_descriptor(tree: Tree, state: SavedState, old: Side) -> None:
    node = song(old, tree)
    node.mediated = True
    old.nodes.refer(node)
    fd = os.open("song", os.O_RDONLY, dir_fd=tree.root_fd)
    handle = opened(old, node, fd)
    new, handles = next_one(tree, state)
    found = new.handles.get(handle.fh)
    assert (handles, found.fd, found.mode, found.node.nodeid) == (1, fd, Mode.MEDIATED, node.nodeid)
    assert (found.node.lookups, found.caller.pid, found.caller.uid) == (2, 42, 1000)
    os.close(fd)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_descriptor_is_refused_and_closed(
    tree: Tree, state: SavedState, old: Side, what: str
) -> None:
    node = song(old, tree)
    node.mediated = what != "passthrough"
    old.nodes.refer(node)
    name, flags = {
        "another file": ("other", os.O_RDONLY), "a writer": ("song", os.O_RDWR),
        "a directory": (".", os.O_RDONLY), "a path": ("song", os.O_PATH),
    }.get(what, ("song", os.O_RDONLY))  # fmt: skip
    fd = os.open(name, flags, dir_fd=tree.root_fd)
    handle = opened(old, node, fd)
    if what == "twice":
        opened(old, node, fd, 2)
    new, handles = next_one(tree, state)
    assert handles == (what == "twice")
    if what != "twice":
        with pytest.raises(OSError, match="killed"):
            new.handles.get(handle.fh)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
        assert state.handles() == []
    else:
        os.close(fd)


def test_passthrough_needs_the_backing_id_of_its_node(tree: Tree, state: SavedState, old: Side) -> None:
    node, other = song(old, tree), song(old, tree, b"other")
    state.nodes.backed(node, 5)
    for backing_id in (5, 6, 7):  # 7: of a copy
        state.registered(backing_id, True)
    right, wrong = opened(old, node, -1), opened(old, other, -1, 2)
    new, handles = next_one(tree, state)
    assert (handles, new.given, new.released) == (1, [(0, 7), (node.nodeid, 5)], {6})
    assert new.handles.get(right.fh).mode is Mode.PASSTHROUGH
    assert new.handles.is_lost(wrong.fh)


def test_unknown_numbers_are_stale_and_not_bugs(tree: Tree, state: SavedState, old: Side) -> None:
    new, _ = next_one(tree, state)
    with pytest.raises(StaleNodeError):
        new.nodes.get(77)
    with pytest.raises(OSError, match="killed"):
        new.directories.find(77)
    with pytest.raises(KeyError):
        old.nodes.get(77)


def test_a_directory_is_open_again(tree: Tree, state: SavedState, old: Side) -> None:
    listing = old.directories.add(old.nodes.root, CALLER, kept=True)
    state.absent(1, b"no")
    new, handles = next_one(tree, state)
    found = new.directories.find(pack_fh(listing.index))
    assert (handles, found.kept, found.node) == (1, True, new.nodes.root)
    assert new.directories.add(new.nodes.root, CALLER, kept=False).index != listing.index
    assert new.absent_names.take() == [(1, b"no")]


def test_an_open_that_comes_again_has_one_handle(tree: Tree, state: SavedState, old: Side) -> None:
    node = song(old, tree)
    state.nodes.backed(node, 5)
    first, second = opened(old, node, -1, 1, unique=10), opened(old, node, -1, 2, unique=12)
    new, handles = next_one(tree, state)
    for _ in range(2):
        new.restoration.comes_again(12)
    assert handles == 2
    assert new.handles.is_lost(second.fh)
    assert not new.handles.is_lost(first.fh)


SLOT = struct.Struct("=QiIQQQQIIII88x")
"""A handle of the bridge (_opens.c): number, file, age, serial number; number, node, request; ids, flags."""
OURS, TAKEN = 1 << 55, 1 << 63


def plant(
    state: SavedState, place: int, node: Node, *, number: int = 0, same: bool = True, file: int = -1
) -> int:
    """Plant a handle as the bridge leaves it. number: another one, beside the place."""
    fh = number or OURS | 3 << 16 | place
    whose = 1000, 1000, 42, os.O_RDONLY if file < 0 else os.O_RDWR
    asked = fh & ~TAKEN if same else fh + 1, node.nodeid, 20 + place
    SLOT.pack_into(state.opens, SLOT.size * place, fh, file, 0, 3, *asked, *whose)
    return fh & ~TAKEN


def test_handles_of_the_bridge_go_on_as_those_of_python(tree: Tree, state: SavedState, old: Side) -> None:
    assert len(state.opens) % SLOT.size == 0
    node, other = song(old, tree), song(old, tree, b"other")
    state.nodes.backed(node, 5)
    files = [plant(state, 0, node), plant(state, 300, node, number=TAKEN | OURS | 300)]
    top = plant(state, 5, old.nodes.root)
    for place, wrong in enumerate(({"number": 7}, {"number": OURS | 9}, {"same": False}), 20):
        plant(state, place, node, **wrong)  # type: ignore[arg-type]
    plant(state, 30, other)  # it has no backing id
    adopted = Handle(9, node, CALLER, os.O_RDONLY, -1, plant(state, 6, node), Mode.PASSTHROUGH)
    old.handles.add(adopted)  # the daemon died before the bridge dropped it
    for _ in range(2):  # a daemon that dies in the middle of it has a successor, too
        new, handles = next_one(tree, state)
        assert handles == 4
        assert {one.fh for one in new.handles} == {*files, adopted.fh}
        assert new.handles.get(files[0]).caller.pid == 42
        assert new.directories.find(top).kept
    vectors.library.open_vectors(16, 2, state.opens)
    assert vectors.read_opens(state.opens) == []
    new, handles = next_one(tree, state)
    assert handles == 4
    new.restoration.comes_again(20)  # the kernel did not get the first one
    assert {one.fh for one in new.handles} == {files[1], adopted.fh}
    with pytest.raises(ValueError, match="memory"):
        vectors.read_opens(state.opens[1:])
    bridge.prepare(0, 0)


def test_a_file_whose_node_is_lost_is_closed(
    tree: Tree, state: SavedState, old: Side, tmp_path: Path
) -> None:
    stat = tree.stat(tree.root_fd, b"song")
    node = old.nodes.add(stat, FileType.REGULAR, RAW_VIEW, BytePath.RAW, ENGINE.root)  # it has no name yet
    file = os.open(tmp_path / "song", os.O_RDWR)
    plant(state, 0, node, file=file)
    assert next_one(tree, state)[1] == 0
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)


def test_a_writer_of_the_bridge_goes_on_whose_file_has_another_name(
    tree: Tree, state: SavedState, old: Side, tmp_path: Path
) -> None:
    node = song(old, tree)
    state.nodes.backed(node, 5)
    ways = (("song", os.O_RDWR), ("other", os.O_RDWR), ("song", os.O_RDONLY))  # the others are wrong
    fhs = [plant(state, at, node, file=os.open(tmp_path / name, how)) for at, (name, how) in enumerate(ways)]
    theirs = [one.file for one in vectors.read_opens(state.opens)]
    assert (VERSION, SLOT.format) == (6, "=QiIQQQQIIII88x"), "other slots need another version"
    (tmp_path / "song").rename(tmp_path / "elsewhere")
    vectors.renumber_opens(state.opens, os.dup)  # an upgrade
    for file in theirs:
        os.close(file)
    new, handles = next_one(tree, state)
    [handle] = new.handles
    assert (handles, handle.fh, os.fstat(handle.fd).st_ino) == (1, fhs[0], node.ino)
    os.close(handle.fd)


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("how", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY])
def test_a_writer_goes_on_only_with_a_descriptor_that_writes(
    tree: Tree, state: SavedState, old: Side, how: int, passed: bool
) -> None:
    node = song(old, tree)
    node.mediated = not passed
    old.nodes.refer(node)
    if passed:
        state.nodes.backed(node, 5)
    fd = os.open("song", how, dir_fd=tree.root_fd)
    handle = opened(old, node, fd, flags=os.O_WRONLY, passed=passed)
    new, handles = next_one(tree, state)
    assert handles == (how == os.O_RDWR)
    if handles:
        found = new.handles.get(handle.fh)
        assert (found.fd, found.mode is Mode.PASSTHROUGH, found.writable) == (fd, passed, True)
        assert found.node.open is not None
        assert (found.node.open.writers, found.node.open.writer_uids) == (1, {1000})
        os.close(fd)


def test_an_open_file_without_a_name_keeps_its_descriptor(tree: Tree, state: SavedState, old: Side) -> None:
    node, other = song(old, tree), song(old, tree, b"other")
    state.nodes.backed(node, 5)
    opened(old, node, -1)
    kept, wrong = (os.open(name, os.O_RDONLY, dir_fd=tree.root_fd) for name in ("song", "other"))
    state.unnamed(node, kept, CALLER)
    state.unnamed(other, wrong, CALLER)  # it is not open, and has a name
    old.nodes.drop_name(node, old.nodes.root, b"song")
    new, handles = next_one(tree, state)
    found = new.nodes.find(node.nodeid)
    assert found is not None
    assert found.open is not None
    assert (handles, found.open.fd, found.parent) == (1, kept, None)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(wrong)
    os.close(kept)


def test_no_handle_gets_the_number_of_one_that_a_release_may_still_name(
    tree: Tree, state: SavedState, old: Side
) -> None:
    used = [old.handles.new_index(CALLER) for _ in range(3)]
    new, _ = next_one(tree, state)
    assert new.handles.new_index(CALLER) not in used


def test_look_ups_that_the_bridge_has_answered_are_counted(tree: Tree, state: SavedState, old: Side) -> None:
    node, other = song(old, tree), song(old, tree, b"other")
    for place, (nodeid, lookups) in enumerate(((node.nodeid, 5), (0, 9), (other.nodeid, 0), (77, 3))):
        struct.pack_into("=QQ", state.counts, 16 * place, nodeid, lookups)
    new, _ = next_one(tree, state)
    assert [new.nodes.get(one.nodeid).lookups for one in (node, other)] == [6, 1]
    assert all_in(state)[node.nodeid].lookups == 6  # the bridge forgets its counts next
