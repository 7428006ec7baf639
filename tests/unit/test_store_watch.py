"""The fanotify watch on real file systems, and its parser on bytes."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.linux.libc import handle_and_mount, open_handle
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from policyfs.store.watch import Change, Watch, WatchEvent, inode_hint, parse_events
from tests.support.machine.counts import first
from tests.support.machine.images import STORE_KINDS, file_system
from tests.support.machine.processes import call_as

pytestmark = pytest.mark.mount
FAR_S = 10.0
TMPFS_FIRST = sorted(STORE_KINDS, key="tmpfs".__ne__)
"""The queue of events is the same for all file systems."""


@pytest.fixture(scope="module", params=STORE_KINDS)
def base(request, tmp_path_factory):
    with file_system(request.param, tmp_path_factory.mktemp("watch")) as root:
        yield root


@pytest.fixture
def here(base):
    path = base / f"w{len(os.listdir(base))}"
    path.mkdir()
    return path


@pytest.fixture
def watch(here):
    before = set(os.listdir("/proc/self/fd"))
    with Tree.open(here) as tree, Watch(tree.root_fd) as watch:
        yield watch
    watch.close()
    assert set(os.listdir("/proc/self/fd")) == before


def handle_of(watch: Watch, path: Path) -> bytes:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return handle_and_mount(fd)[0]
    finally:
        os.close(fd)


def watch_also(watch: Watch, path: Path) -> None:
    fd = os.open(path, os.O_PATH)
    watch.add(fd)
    os.close(fd)


def events_of(watch: Watch, action, *arguments) -> list[WatchEvent]:
    """What is reported of one action, done by another process."""
    assert watch.read_events() == []
    call_as(0, action, *arguments)
    assert wait([watch.fileno()], FAR_S)
    events = watch.read_events()
    assert os.getpid() not in {event.pid for event in events}
    return events


def where(events: list[WatchEvent]) -> list[tuple[Change, bytes | None, bytes | None]]:
    return [(event.kind, event.dir_handle, event.name) for event in events]


class TestEvents:
    def test_create_write_close(self, watch, here):
        events = events_of(watch, (here / "new").write_bytes, b"abc")
        directory, target = handle_of(watch, here), handle_of(watch, here / "new")
        assert {(event.dir_handle, event.name, event.target_handle) for event in events} == {
            (directory, b"new", target)
        }
        assert [event.is_dir for event in events] == [False] * len(events)
        total = Change(0)
        for event in events:
            total |= event.kind
        assert total == Change.CREATE | Change.CLOSE_WRITE

    def test_names_are_bytes(self, watch, here):
        name = b"\xff\xfe" + b"x" * 253
        events = events_of(watch, os.mkdir, os.fsencode(here) + b"/" + name)
        assert where(events) == [(Change.CREATE, handle_of(watch, here), name)]
        assert events[0].is_dir

    def test_delete(self, watch, here):
        (here / "a").write_bytes(b"")
        (here / "d").mkdir()
        watch.read_events()
        target = handle_of(watch, here / "a")
        events = events_of(watch, (here / "a").unlink)
        assert (Change.DELETE, handle_of(watch, here), b"a") in where(events)
        assert {event.target_handle for event in events} == {target}
        events = events_of(watch, (here / "d").rmdir)
        assert (Change.DELETE, handle_of(watch, here), b"d") in where(events)

    def test_rename_names_both_ends(self, watch, here):
        (here / "d").mkdir()
        (here / "a").write_bytes(b"")
        watch_also(watch, here / "d")
        watch.read_events()
        target = handle_of(watch, here / "a")
        events = events_of(watch, os.rename, here / "a", here / "d" / "b")
        assert where(events) == [
            (Change.MOVED_FROM, handle_of(watch, here), b"a"),
            (Change.MOVED_TO, handle_of(watch, here / "d"), b"b"),
        ]
        assert {event.target_handle for event in events} == {target}

    def test_a_rename_has_an_end_without_a_handle_where_nothing_is_watched(self, watch, here):
        (here / "d").mkdir()
        (here / "a").write_bytes(b"")
        watch.read_events()
        out = events_of(watch, os.rename, here / "a", here / "d" / "b")
        back = events_of(watch, os.rename, here / "d" / "b", here / "c")
        directory = handle_of(watch, here)
        assert where(out) == [(Change.MOVED_FROM, directory, b"a"), (Change.MOVED_TO, b"", b"")]
        assert where(back) == [(Change.MOVED_FROM, b"", b""), (Change.MOVED_TO, directory, b"c")]
        assert {event.target_handle for event in out + back} == {handle_of(watch, here / "c")}

    def test_the_move_of_a_watched_directory_is_reported_wherever_it_is(self, watch, here):
        (here / "d/moved").mkdir(parents=True)
        watch_also(watch, here / "d/moved")
        watch.read_events()
        events = events_of(watch, os.rename, here / "d/moved", here / "d/other")
        assert where(events) == [(Change.MOVED, None, None)]
        assert (events[0].target_handle, events[0].is_dir) == (handle_of(watch, here / "d/other"), True)

    def test_elsewhere_nothing_is_reported(self, watch, here, base):
        (elsewhere := base / f"elsewhere of {here.name}").mkdir()
        watch_also(watch, elsewhere)
        watch.remove(handle_of(watch, elsewhere))
        watch.remove(b"\1\0\0\0" + b"\xff" * 8)
        (here / "d").mkdir()
        watch.read_events()
        for place in (elsewhere, here / "d"):
            (place / "a").write_bytes(b"abc")
            (place / "a").chmod(0o700)
            (place / "a").rename(place / "b")
            (place / "c").mkdir()
            (place / "c").rmdir()
        assert not wait([watch.fileno()], 0)

    def test_exchange_and_rename_over_a_file(self, watch, here):
        for name in ("a", "b", "c"):
            (here / name).write_bytes(b"")
        watch.read_events()
        over = events_of(watch, os.rename, here / "a", here / "b")
        directory = handle_of(watch, here)
        assert (Change.MOVED_TO, directory, b"b") in where(over)
        with Tree.open(here) as tree:
            events = events_of(watch, tree.rename2, tree.root_fd, b"b", tree.root_fd, b"c", 2)
        names = {(event.kind, event.name) for event in events}
        assert names == {
            (Change.MOVED_FROM, b"b"),
            (Change.MOVED_TO, b"c"),
            (Change.MOVED_FROM, b"c"),
            (Change.MOVED_TO, b"b"),
        }

    def test_attributes_of_files_and_directories(self, watch, here):
        (here / "a").write_bytes(b"")
        (here / "d").mkdir()
        watch.read_events()
        for name in ("a", "d"):
            events = events_of(watch, os.chmod, here / name, 0o700)
            assert {event.kind for event in events} == {Change.ATTRIB}
            assert handle_of(watch, here / name) in {event.target_handle for event in events}
        events = events_of(watch, os.setxattr, here / "a", "user.x", b"1")
        assert [event.kind for event in events] == [Change.ATTRIB]

    def test_hard_links_say_which_inode(self, watch, here):
        (here / "a").write_bytes(b"")
        watch.read_events()
        events = events_of(watch, os.link, here / "a", here / "b")
        assert (Change.CREATE, handle_of(watch, here), b"b") in where(events)
        assert {event.target_handle for event in events} == {handle_of(watch, here / "a")}

    def test_links_are_reported_wherever_they_are(self, watch, here):
        (here / "d").mkdir()
        (here / "a").write_bytes(b"")
        watch.read_links()
        for action in (partial(os.link, here / "a", here / "d/b"), (here / "d/b").unlink):
            call_as(0, action)
            events = watch.read_links()
            assert where(events) == [(Change.ATTRIB, None, None)]
            assert events[0].target_handle == handle_of(watch, here / "a")
        call_as(0, os.chmod, here / "a", 0o700)
        assert watch.read_links() == []  # read_events() has told

    def test_reading_and_listing_are_silent(self, watch, here):
        (here / "a").write_bytes(b"abc")
        watch.read_events()
        (here / "a").read_bytes()
        os.listdir(here)
        os.stat(here / "a")
        assert not wait([watch.fileno()], 0)

    def test_our_own_carry_our_pid(self, watch, here):
        (here / "a").write_bytes(b"")
        assert {event.pid for event in watch.read_events()} == {os.getpid()}

    def test_those_of_one_process_can_be_left_out(self, watch, here):
        (here / "a").write_bytes(b"")
        assert watch.read_events(but_pid=os.getpid()) == []

    def test_a_read_takes_a_part_of_many_and_says_so(self, watch, here):
        for number in range(1000):
            (here / f"{number:0200}").touch()
        parts = [watch.read_events()]
        while watch.has_more:
            parts.append(watch.read_events())
        assert max(map(len, parts)) < 200
        assert len({event.name for part in parts for event in part}) == 1000

    @pytest.mark.parametrize("base", first(1, zip(TMPFS_FIRST)), indirect=True)
    def test_overflow_is_flagged_and_the_watch_goes_on(self, watch, here):
        limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
        with Tree.open(here) as tree:
            for number in range(limit + 100):
                tree.symlink(tree.root_fd, b"%d" % number, b"t", 0, 0)
                tree.unlink(tree.root_fd, b"%d" % number)
        events: list[WatchEvent] = []
        while more := watch.read_events():
            events += more
        assert [event.overflow for event in events].count(True) == 1
        assert events[-1] == WatchEvent(Change.OVERFLOW, None, None, None, events[-1].pid)
        assert len(events) > limit // 2
        (here / "after").write_bytes(b"")
        assert watch.read_events()[0].name == b"after"


class TestHandles:
    def test_lead_back_to_the_inode_until_it_is_gone(self, watch, here):
        (here / "a").write_bytes(b"abc")
        with Tree.open(here) as tree:
            fd = tree.open_path(tree.root_fd, b"a")
            handle, stat = handle_and_mount(fd)[0], tree.fstat(fd)
            assert watch.stat_of_handle(handle) == stat
            assert watch.stat_of_handle(handle_of(watch, here)) == tree.fstat(tree.root_fd)
            os.close(fd)
            tree.rename2(tree.root_fd, b"a", tree.root_fd, b"b")
            assert watch.stat_of_handle(handle).ino == stat.ino
            tree.unlink(tree.root_fd, b"b")
        assert watch.stat_of_handle(handle) is None

    def test_nonsense_is_no_inode(self, watch):
        for handle in (b"\1\0\0\0" + b"\xff" * 8, b"\x7f\0\0\0" + b"x" * 8, b"\1\0\0\0"):
            assert watch.stat_of_handle(handle) is None

    def test_two_inodes_never_share_one(self, watch, here):
        handles = set()
        for _ in range(50):
            (here / "a").write_bytes(b"")
            handles.add(handle_of(watch, here / "a"))
            (here / "a").unlink()
        assert len(handles) == 50

    def test_opening_by_handle(self, here):
        (here / "a").write_bytes(b"abc")
        mount_fd, path_fd = os.open(here, os.O_RDONLY), os.open(here / "a", os.O_PATH)
        fd = open_handle(mount_fd, handle_and_mount(path_fd)[0], os.O_RDONLY)
        assert (os.read(fd, 9), os.get_inheritable(fd)) == (b"abc", False)
        for descriptor in (mount_fd, path_fd, fd):
            os.close(descriptor)


def test_of_a_btrfs_subvolume_either_works_or_is_refused(tmp_path):
    """Its id is not that of the file system's root; kernels before 6.8 refuse it with EXDEV."""
    with file_system("btrfs", tmp_path) as root:
        for store in (root / "sub", root / "sub" / "nested"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", store], check=True, timeout=20)
        fd = os.open(root / "sub", os.O_PATH)
        facts = probe(fd)
        if facts.fanotify:
            with Watch(fd) as watch:
                for place in (root, root / "sub", root / "sub" / "nested"):
                    watch_also(watch, place)
                    events = events_of(watch, os.mkdir, place / "new")
                    assert where(events) == [(Change.CREATE, handle_of(watch, place), b"new")]
                    assert watch.stat_of_handle(events[0].target_handle).ino == (place / "new").stat().st_ino
        else:
            with pytest.raises(OSError) as caught:
                Watch(fd)
            assert caught.value.errno == errno.EXDEV
        os.close(fd)
        assert facts.reflink
        assert facts.leases


def test_where_there_can_be_none_it_says_so_and_leaks_nothing(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    proc = os.open("/proc", os.O_PATH)
    with pytest.raises(OSError):
        Watch(proc)
    os.close(proc)
    fd = os.open(tmp_path, os.O_PATH)
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError):
        call_as(65534, Watch, fd)
    os.close(fd)
    assert set(os.listdir("/proc/self/fd")) == before


class TestParser:
    def test_overflow_has_no_information(self):
        raw = struct.pack("=IBBHQii", 24, 3, 0, 24, 0x4000, -1, 0)
        assert parse_events(raw) == [WatchEvent(Change.OVERFLOW, None, None, None, 0)]

    def test_a_name_of_one_dot_is_the_directory_itself(self):
        handle = b"\1\0\0\0handle.."
        info = struct.pack("=BBH8sII", 2, 0, 20 + 8 + 4, b"f" * 8, 8, 1) + b"handle.." + b".\0\0\0"
        raw = struct.pack("=IBBHQii", 24 + len(info), 3, 0, 24, 0x40000004, -1, 7) + info
        assert parse_events(raw) == [WatchEvent(Change.ATTRIB, handle, None, handle, 7, True)]

    @pytest.mark.parametrize(
        "head", [(24, 2, 0, 24, 8, -1, 0), (20, 3, 0, 24, 8, -1, 0), (99, 3, 0, 24, 8, -1, 0)]
    )
    def test_another_version_or_length_is_refused(self, head):
        with pytest.raises(ValueError, match="malformed"):
            parse_events(struct.pack("=IBBHQii", *head))

    @settings(max_examples=100)
    @given(st.binary(max_size=200))
    def test_any_information_bytes_end_in_events_or_value_error(self, info):
        raw = struct.pack("=IBBHQii", 24 + len(info), 3, 0, 24, 0x100, -1, 1) + info
        try:
            events = parse_events(raw)
        except ValueError:
            return
        assert all(event.kind for event in events)


def test_a_handle_tells_the_inode_number(here: Path) -> None:
    """Events about a file that the kernel of the mount does not know are then dropped at once."""
    for number in range(20):
        (here / f"{number}").touch()
    names = [here, *(here / f"{number}" for number in range(0, 20, 5))]
    for path in names:
        fd = os.open(path, os.O_PATH)
        try:
            assert inode_hint(handle_and_mount(fd)[0]) == os.fstat(fd).st_ino
        finally:
            os.close(fd)


def test_a_handle_of_an_unknown_type_or_length_tells_none() -> None:
    for handle in (struct.pack("=III", 0x99, 7, 0), struct.pack("=I", 1), struct.pack("=II", 0x81, 7)):
        assert inode_hint(handle) is None
