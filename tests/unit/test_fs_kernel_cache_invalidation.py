"""What the kernel forgets of each change in the store: neither too little, nor what it knows already."""

from __future__ import annotations

import errno
import os
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from policyfs.fs.access.views import version_of
from policyfs.fs.inodes.node import BytePath, CachedPages
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.linux import libc
from policyfs.linux.statx import Stat
from policyfs.store.watch import Change, WatchEvent
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN


class Queue:
    """A watch whose events a test makes."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.has_more = False
        self.stat: Callable[[bytes], Stat | None] = lambda handle: None

    def read_events(self, *, but_pid: int) -> list[WatchEvent]:
        assert but_pid == os.getpid(), "our own changes are not told twice"
        found, self.events = self.events, []
        return found

    def stat_of_handle(self, handle: bytes) -> Stat | None:
        return self.stat(handle)


class Asked:
    """What the kernel was asked to forget; *refuses*: what the notifier does not take."""

    def __init__(self, *, epochs: bool = True) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.refuses, self.epochs = "", epochs

    def inval_inode(self, nodeid: int, offset: int = -1, length: int = 0) -> bool:
        self.asked.append(("inode", nodeid, offset))
        return self.refuses != "inode"

    def inval_entry(self, parent: int, name: bytes, gentle: bool) -> bool:
        self.asked.append(("entry", parent, name, gentle))
        return self.refuses != "entry"

    def inval_inodes(self, nodeids: Iterable[int]) -> bool:
        self.asked.append(("all", *sorted(nodeids)))
        return True

    def expire_entries(self, entries: Iterable[tuple[int, bytes]]) -> bool:
        self.asked.extend(("listed", *entry) for entry in entries)
        return True

    def inc_epoch(self) -> bool:
        return self.epochs


def handle_of(path: Path) -> bytes:
    fd = os.open(path, os.O_PATH)
    try:
        return libc.handle_and_mount(fd)[0]
    finally:
        os.close(fd)


class Watched:
    """The invalidation of a file system whose watch is a Queue."""

    def __init__(self, made: Parts) -> None:
        self.made, self.queue, self.asked = made, Queue(), Asked()
        self.changes = Invalidation(
            self.queue, made.nodes, made.timeouts, made.resolver._handles  # type: ignore[arg-type]
        )  # fmt: skip
        self.steps: list[tuple[object, ...]] = []
        self.resolver = types.SimpleNamespace(
            moved=lambda node: self.steps.append(("moved", node)),
            drop=lambda nodeid: self.steps.append(("drop", nodeid)),
            drop_all=lambda: self.steps.append(("drop all",)),
        )
        self.changes.owners_above = types.SimpleNamespace(  # type: ignore[assignment]
            changed=lambda node: self.steps.append(("owner", node)),
            changed_all=lambda: self.steps.append(("owners",)),
        )

    def take(self, *events: WatchEvent) -> list[tuple[object, ...]]:
        """Let these events come: what the kernel was asked for."""
        self.queue.events += events
        self.changes.take(self.asked, self.resolver)  # type: ignore[arg-type]
        found, self.asked.asked = self.asked.asked, []
        return found

    def root(self) -> bytes:
        return handle_of(self.made.store)


def event(
    kind: Change, directory: bytes | None, name: bytes | None = None, target: bytes | None = None,
    *, is_dir: bool = False,
) -> WatchEvent:  # fmt: skip
    return WatchEvent(kind, directory, name, target, 0, is_dir)


@pytest.fixture
def watched(store: Path) -> Iterator[Watched]:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        yield Watched(made)


@pytest.mark.parametrize(
    ("kind", "is_dir", "gentle"),
    [
        (Change.CREATE, False, False), (Change.DELETE, False, False), (Change.MOVED_FROM, False, False),
        (Change.MOVED_TO, False, False), (Change.CREATE, True, True), (Change.ATTRIB, False, True),
        (Change.CLOSE_WRITE, False, True),
    ],
)  # fmt: skip
def test_a_name_that_changed_goes_with_the_listing(
    watched: Watched, kind: Change, is_dir: bool, gentle: bool
) -> None:
    root = watched.made.root.nodeid
    got = watched.take(event(kind, watched.root(), b"n", is_dir=is_dir))
    assert got == [("inode", root, 0), ("entry", root, b"n", gentle)]
    assert watched.made.root.changes == 1, "a listing that was begun before is old"
    assert watched.changes.report() == {"running": True, "events": 1, "overflows": 0}


@on_trio
async def test_a_name_stays_where_a_change_of_its_file_decides_nothing(store: Path) -> None:
    """Every name is seen, and the file is shown raw: attributes and bytes decide nothing here."""
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        watched = Watched(made)
        watched.changes.shows_all = lambda directory: directory is made.root
        node, handle = await made.walk("/empty", MAPS), handle_of(store / "empty")
        root = made.root.nodeid
        for kind in (Change.ATTRIB, Change.CLOSE_WRITE, Change.ATTRIB | Change.CLOSE_WRITE):
            assert watched.take(event(kind, watched.root(), b"empty", handle)) == []
        entry = [("inode", root, 0), ("entry", root, b"empty", True)]
        assert watched.take(event(Change.ATTRIB, watched.root(), b"empty", handle, is_dir=True)) == entry
        assert watched.take(event(Change.ATTRIB, watched.root(), b"empty")) == entry
        hard = [("inode", root, 0), ("entry", root, b"empty", False)]
        for kind in (Change.CREATE, Change.DELETE, Change.MOVED_TO, Change.CREATE | Change.CLOSE_WRITE):
            assert watched.take(event(kind, watched.root(), b"empty", handle)) == hard
        node.byte_path = BytePath.COPY  # which copy is shown depends on the bytes
        assert watched.take(event(Change.CLOSE_WRITE, watched.root(), b"empty", handle)) == entry
        node.byte_path = BytePath.RAW
        watched.changes.shows_all = lambda directory: directory is not made.root
        assert watched.take(event(Change.CLOSE_WRITE, watched.root(), b"empty", handle)) == entry


@on_trio
async def test_all_names_of_a_changed_file_go(store: Path) -> None:
    """The event names one of them. The new bytes may have another kind, which decides who sees each name."""
    (store / "d").mkdir()
    os.link(store / "a.jpg", store / "d/b.jpg")
    with parts(store, engine_of(OPEN)) as made:
        watched = Watched(made)
        node, inner = await made.walk("/a.jpg", MAPS), await made.walk("/d", MAPS)
        assert await made.walk("/d/b.jpg", MAPS) is node
        handle, stat = handle_of(store / "a.jpg"), made.tree.stat(made.tree.root_fd, b"a.jpg")
        node.tell(version_of(stat))
        watched.queue.stat = lambda _: stat
        root, before = made.root.nodeid, inner.changes
        named = [("inode", root, 0), ("entry", root, b"a.jpg", True)]
        other = [("inode", inner.nodeid, 0), ("entry", inner.nodeid, b"b.jpg", True)]
        assert watched.take(event(Change.CLOSE_WRITE, watched.root(), b"a.jpg", handle)) == named + other
        assert inner.changes == before + 1
        watched.changes.shows_all = lambda directory: directory is inner
        assert watched.take(event(Change.CLOSE_WRITE, watched.root(), b"a.jpg", handle)) == named
        assert watched.take(event(Change.DELETE, watched.root(), b"a.jpg", handle))[2:] == []


@on_trio
async def test_what_happens_elsewhere_on_the_file_system_is_nobodys_matter(store: Path) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        watched = Watched(made)
        await made.walk("/empty", MAPS)
        elsewhere = handle_of(store / "d")  # nobody has looked at it
        watched.queue.stat = lambda handle: pytest.fail("not even looked at")
        assert watched.take(event(Change.CREATE, elsewhere, b"n", handle_of(store / "empty"))) == []


@on_trio
async def test_a_file_is_forgotten_unless_the_kernel_knows_this_very_version(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        watched, node = Watched(made), await made.walk("/a.jpg", MAPS)
        target = handle_of(store / "a.jpg")
        fd = os.open(store / "a.jpg", os.O_PATH)
        stat = made.tree.fstat(fd)
        os.close(fd)
        watched.queue.stat = lambda handle: stat if handle == target else None
        changed = event(Change.CLOSE_WRITE, None, None, target)
        node.tell(version_of(stat))
        node.cached = None
        assert watched.take(changed) == []
        node.cached = CachedPages(version_of(stat), 0)
        assert watched.take(changed) == []
        node.cached = CachedPages(version_of(stat)._replace(size=1), 0)
        assert watched.take(changed) == [("inode", node.nodeid, 0)], "its pages are of another version"
        node.cached = None
        node.tell(version_of(stat)._replace(size=1))
        assert watched.take(changed) == [("inode", node.nodeid, 0)]
        handle = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        assert node.open is not None
        node.tell(version_of(stat)._replace(size=1))
        node.open.mode = Mode.PASSTHROUGH
        assert watched.take(changed) == [("inode", node.nodeid, -1)], "the kernel reads the file itself"
        node.open.mode = Mode.MEDIATED
        await made.release(handle)
        watched.queue.stat = lambda handle: None
        assert watched.take(changed) == [], "it is gone"


@on_trio
async def test_a_file_of_which_the_bridge_tells_attributes_is_forgotten_at_each_change(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        watched, node = Watched(made), await made.walk("/a.jpg", MAPS)
        target = handle_of(store / "a.jpg")
        fd = os.open(store / "a.jpg", os.O_PATH)
        stat = made.tree.fstat(fd)
        os.close(fd)
        watched.queue.stat = lambda handle: stat
        node.told_by_bridge()
        assert node.was_told_another(version_of(stat))
        node.tell(version_of(stat))
        assert node.was_told_another(version_of(stat)), "the kernel may have ignored that"
        found = watched.take(event(Change.CLOSE_WRITE, None, None, target))
        assert found == [("inode", node.nodeid, 0)]


@on_trio
async def test_what_is_known_of_a_directory_that_moves_goes_or_changes_its_owner(store: Path) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        watched, node = Watched(made), await made.walk("/d", MAPS)
        target = handle_of(store / "d")
        assert watched.changes.knows(node)
        for kind, step in (
            (Change.MOVED_FROM, [("moved", node)]), (Change.MOVED_TO, [("moved", node)]),
            (Change.DELETE, [("drop", node.nodeid)]), (Change.ATTRIB, [("owner", node)]),
            (Change.CREATE, []),
        ):  # fmt: skip
            del watched.steps[:]
            before = node.changes
            assert watched.take(event(kind, None, None, target, is_dir=True)) == [("inode", node.nodeid, 0)]
            assert node.changes > before, "a listing that was begun before is old"
            assert watched.steps == step, kind
        made.nodes.forget(node.nodeid, node.lookups)
        assert not watched.changes.knows(node)
        assert watched.take(event(Change.CREATE, target, b"n")) == [], "nobody knows it any more"


def test_lost_events_make_the_kernel_forget_everything_once(watched: Watched) -> None:
    root = watched.made.root.nodeid
    some = event(Change.CREATE, watched.root(), b"n")
    got = watched.take(event(Change.OVERFLOW, None), some, event(Change.OVERFLOW, None), some)
    assert got == [("all", root)]
    assert watched.steps == [("drop all",), ("owners",)]
    assert (watched.changes.events, watched.changes.overflows) == (4, 2)


@pytest.mark.parametrize("why", ["inode", "entry", "not found"])
@on_trio
async def test_an_event_that_cannot_be_followed_counts_as_lost(store: Path, why: str) -> None:
    with parts(store, engine_of(OPEN)) as made:
        watched = Watched(made)
        node = await made.walk("/a.jpg", CAMERA)

        def fails(handle: bytes) -> Stat | None:
            raise OSError(errno.ENOMEM, "a file that is being removed")

        watched.queue.stat = fails
        watched.asked.refuses = why
        name = b"n" if why != "not found" else None
        target = None if why != "not found" else handle_of(store / "a.jpg")
        got = watched.take(event(Change.CREATE, watched.root(), name, target))
        assert got[-1] == ("all", made.root.nodeid, node.nodeid)


@on_trio
async def test_a_kernel_without_epochs_is_told_each_name_it_knows(store: Path) -> None:
    os.link(store / "a.jpg", store / "b.jpg")
    with parts(store, engine_of(OPEN)) as made:
        watched = Watched(made)
        node, gone = await made.walk("/a.jpg", CAMERA), await made.walk("/empty", CAMERA)
        assert await made.walk("/b.jpg", CAMERA) is node
        gone.lookups = 0
        watched.asked.epochs = False
        root = made.root.nodeid
        got = watched.take(event(Change.OVERFLOW, None))
        gone.lookups = 1
        assert got[0] == ("all", root, node.nodeid)
        assert set(got[1:]) == {("entry", root, b"a.jpg", True), ("entry", root, b"b.jpg", True)}


def test_a_directory_of_another_file_system_ends_the_long_timeouts_for_good(watched: Watched) -> None:
    made = watched.made
    made.timeouts.watched = False
    watched.changes.start()
    assert made.timeouts.watched
    fd = os.open("/proc", os.O_PATH)
    watched.changes.learn(made.root, fd)
    os.close(fd)
    assert not made.timeouts.watched
    assert not watched.changes.watching
    watched.changes.start()
    assert not made.timeouts.watched


def test_without_a_watch_there_is_nothing_to_read(watched: Watched) -> None:
    made = watched.made
    changes = Invalidation(None, made.nodes, made.timeouts, made.resolver._handles)
    changes.learn(made.root, made.tree.root_fd)
    changes.start()
    assert (changes.watching, made.timeouts.watched) == (False, False)
    assert not changes.take(watched.asked, made.resolver)  # type: ignore[arg-type]
    assert watched.asked.asked == []
