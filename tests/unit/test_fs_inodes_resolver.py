"""Directory descriptors: every one leads where its node's path leads now, or is not used."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.access.ledger import Ledger
from policyfs.fs.inodes import resolver as places_module
from policyfs.fs.inodes.resolver import DirectoryMovedError
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux import libc
from policyfs.store.watch import Change, WatchEvent
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts

GALLERY, MAPS = 10011, 10012
OPEN = '- {id: all, allow: [all], who: {app: any}, paths: "/**"}\n'


class Events:
    """A watch that reports what a test says."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.has_more = False

    def read_events(self, *, but_pid=-1) -> list[WatchEvent]:
        return self.events

    def stat_of_handle(self, handle: bytes) -> None:
        return None


class Told:
    """A notifier that takes everything."""

    def __getattr__(self, name: str):
        return lambda *_: True


@on_trio
async def test_a_move_in_the_store_ends_the_descriptors_of_all_below(tmp_path: Path) -> None:
    """Who works in a directory below one that was moved to a forbidden place is forbidden it."""
    (tmp_path / "open/b/c").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "open/b/c/f").write_bytes(b"x")
    rules = OPEN + '- {id: no, deny: [all], who: {app: maps}, paths: "/secret/**", errno: ENOENT}\n'
    with parts(tmp_path, engine_of(rules)) as made:
        watch = Events()
        changes = Invalidation(watch, made.nodes, Timeouts(alone=False), made.resolver._handles)  # type: ignore[arg-type] # ours
        made.resolver._on_open = changes.learn
        deep = await made.walk("/open/b/c", MAPS)
        made.resolver.dirfd(deep)
        handle = libc.handle_and_mount(made.resolver.dirfd(deep.parent))[0]
        above = libc.handle_and_mount(made.resolver.dirfd(deep.parent.parent))[0]
        os.rename(tmp_path / "open/b", tmp_path / "secret/b")
        watch.events = [WatchEvent(Change.MOVED_FROM, above, b"b", handle, 1, is_dir=True)]
        changes.take(Told(), made.resolver)  # type: ignore[arg-type] # ours
        with pytest.raises(pyfuse3.FUSEError) as denied:
            await made.lookup.lookup(deep, b"f", made.caller(MAPS))
        assert denied.value.errno == errno.ENOENT


@on_trio
async def test_who_is_in_a_directory_that_the_store_moved_is_decided_by_the_new_path(tmp_path: Path) -> None:
    """Also below it, and once somebody else has found it there.

    Attack B8.2: Use a working directory while another program moves it, or a directory above it, to a
    forbidden path
    Guard: policyfs/fs/inodes/node_table.py::NodeTable.found_at,
    policyfs/fs/inodes/placement.py::PlacedNode.find_out
    Also:
    tests/attack/test_old_numbers.py::test_who_is_below_a_directory_that_is_moved_is_decided_by_where_it_is
    Without: tests/attack/test_old_numbers.py::test_it_is_read_on_where_states_stay_as_they_were
    """
    (tmp_path / "open/b/c").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "open/b/c/f").write_bytes(b"x")
    rules = OPEN + '- {id: no, deny: [all], who: {app: gallery}, paths: "/secret/**", errno: ENOENT}\n'
    with parts(tmp_path, engine_of(rules)) as made:
        deep = await made.walk("/open/b/c", GALLERY)
        file = await made.walk("/open/b/c/f", GALLERY)
        os.rename(tmp_path / "open/b", tmp_path / "secret/b")
        made.resolver.moved(deep.parent)
        assert await made.walk("/secret/b", MAPS) is deep.parent
        for request in (
            made.lookup.lookup(deep, b"f", made.caller(GALLERY)),
            made.lookup.getattr(file, made.caller(GALLERY)),
            made.opener.open(file, os.O_RDONLY, made.caller(GALLERY)),
        ):
            with pytest.raises((OSError, pyfuse3.FUSEError)) as denied:
                await request
            assert denied.value.errno == errno.ENOENT


@on_trio
async def test_a_request_does_not_go_on_by_what_was_decided_for_the_old_path(tmp_path: Path) -> None:
    """Without a watch, too. The next request begins with the new path."""
    (tmp_path / "open/b").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    rules = OPEN + '- {id: no, deny: [all], who: {app: gallery}, paths: "/secret/**"}\n'
    with parts(tmp_path, engine_of(rules)) as made:
        made.resolver._watched = lambda: False
        directory = await made.walk("/open/b", GALLERY)
        os.rename(tmp_path / "open/b", tmp_path / "secret/b")
        with Ledger():
            for _ in range(2):
                with pytest.raises(DirectoryMovedError):
                    made.resolver.dirfd(directory)
            with pytest.raises(DirectoryMovedError):
                made.resolver.dirfd(await made.walk("/open", MAPS))
        with Ledger():
            assert made.resolver.dirfd(directory) >= 0
        assert directory.path() == b"/secret/b"
        os.rename(tmp_path / "secret/b", tmp_path / "secret/c")  # the same rules: nothing to decide again
        made.resolver.drop_all()
        with Ledger():
            assert made.resolver.dirfd(directory) >= 0


@on_trio
async def test_an_outdated_request_stays_so_beside_another(tmp_path: Path) -> None:
    for name in ("open/b", "open/c", "secret"):
        (tmp_path / name).mkdir(parents=True)
    rules = OPEN + '- {id: no, deny: [all], who: {app: gallery}, paths: "/secret/**"}\n'
    with parts(tmp_path, engine_of(rules)) as made:
        made.resolver._watched = lambda: False
        one, other = await made.walk("/open/b", GALLERY), await made.walk("/open/c", GALLERY)
        for name in ("b", "c"):
            os.rename(tmp_path / "open" / name, tmp_path / "secret" / name)
        with Ledger():
            with pytest.raises(DirectoryMovedError):
                made.resolver.dirfd(one)
            with Ledger(), pytest.raises(DirectoryMovedError):  # another request, meanwhile
                made.resolver.dirfd(other)
            with pytest.raises(DirectoryMovedError):
                made.resolver.dirfd(one)


@on_trio
async def test_a_directory_is_found_below_directories_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "x/y/z").mkdir(parents=True)
    with parts(tmp_path, engine_of(OPEN)) as made:
        directory = await made.walk("/a/b", MAPS)
        os.rename(tmp_path / "a/b", tmp_path / "x/y/z/b")
        made.resolver.moved(directory)
        assert directory.path() == b"/x/y/z/b"
        for node in made.nodes:
            made.nodes.forget(node.nodeid, node.lookups)
        assert len(made.nodes) == 1


@on_trio
async def test_a_step_that_was_moved_is_looked_at_by_itself(tmp_path: Path, monkeypatch) -> None:
    """All names lead to the very directory, but one on the way is another: one that finds any case."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    with parts(tmp_path, engine_of(OPEN)) as made:
        deep = await made.walk("/a/b/c", MAPS)
        made.resolver.dirfd(deep)
        other = tmp_path / "other"
        other.mkdir()
        os.rename(tmp_path / "a/b/c", other / "c")
        os.rename(tmp_path / "a/b", tmp_path / "a/old")
        os.rename(other, tmp_path / "a/b")
        folding = os.stat(tmp_path / "a/b").st_ino
        monkeypatch.setattr(
            places_module, "directory_folds_by_flag", lambda fd: os.fstat(fd).st_ino == folding
        )
        made.resolver.moved(deep.parent)  # as the watch says of both
        made.resolver.moved(deep)
        with pytest.raises(OSError) as refused:
            made.resolver.dirfd(deep)
        assert refused.value.errno == errno.EACCES


@on_trio
async def test_of_many_names_that_lead_nowhere_one_request_looks_at_a_few(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/0").write_bytes(b"x")
    for number in range(1, 50):
        os.link(tmp_path / "d/0", tmp_path / f"d/{number}")
    with parts(tmp_path, engine_of(OPEN)) as made:
        for number in range(50):
            node = await made.walk(f"/d/{number}", MAPS)
        for number in range(49):
            (tmp_path / f"d/{number}").unlink()
        tries = 0
        while len(list(node.all_names())) > 1:
            tries += 1
            with contextlib.suppress(OSError):
                made.resolver.locate(node)
        assert tries == 4
        assert made.resolver.locate(node)[1] == b"49"


@on_trio
async def test_what_goes_away_while_a_path_is_walked_is_absent(tmp_path: Path, monkeypatch) -> None:
    """Natively a name is not there in a directory that was just removed."""
    now = [1000.0]
    monkeypatch.setattr(places_module.time, "monotonic", lambda: now[0])
    (tmp_path / "a/b").mkdir(parents=True)
    with parts(tmp_path, engine_of(OPEN)) as made:
        made.resolver._watched = lambda: False
        directory = await made.walk("/a/b", MAPS)
        (tmp_path / "a/b").rmdir()
        for later_s, code in ((1.0, errno.ENOENT), (9.0, errno.ESTALE)):
            now[0] += later_s
            with pytest.raises(OSError) as gone:
                await made.lookup.lookup(directory, b"f", made.caller(MAPS))
            assert gone.value.errno == code
        (tmp_path / "a/b").mkdir()
        directory = await made.walk("/a/b", MAPS)
        (tmp_path / "a").rename(tmp_path / "z")
        (tmp_path / "a/b").mkdir(parents=True)  # the path leads to another directory
        now[0] += 2
        (tmp_path / "z/b/f").touch()
        assert (await made.lookup.lookup(directory, b"f", made.caller(MAPS))).st_rdev
        assert directory.path() == b"/z/b"


@on_trio
async def test_without_a_watch_a_deep_directory_is_believed_no_longer_than_one_above(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    now = [1000.0]
    monkeypatch.setattr(places_module.time, "monotonic", lambda: now[0])
    with parts(tmp_path, engine_of(OPEN)) as made:
        made.resolver._watched = lambda: False
        deep = await made.walk("/a/b/c", MAPS)
        made.resolver.dirfd(deep.parent.parent)
        now[0] += 0.9
        made.resolver.dirfd(deep.parent)
        now[0] += 0.09
        made.resolver.dirfd(deep)
        os.rename(tmp_path / "a", tmp_path / "z")
        assert made.resolver.dirfd(deep) >= 0
        assert deep.path() == b"/a/b/c"
        now[0] += 0.2  # more than a second since /a was looked at
        assert made.resolver.dirfd(deep) >= 0
        assert deep.path() == b"/z/b/c"


@on_trio
async def test_a_rename_over_a_depth_that_no_table_holds_moves_the_right_file(tmp_path: Path) -> None:
    """Reaching the new directory may close the descriptor of the old one, and use its number again."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old/f").write_bytes(b"mine")
    deep = tmp_path
    for _ in range(12):
        deep = deep / "d"
        deep.mkdir()
        (deep / "f").write_bytes(b"another's")
    with parts(tmp_path, engine_of(OPEN), descriptors=4) as made:
        new = await made.walk("/" + "/".join("d" * 12), MAPS)
        old = await made.walk("/old", MAPS)
        await made.lookup.lookup(old, b"f", made.caller(MAPS))
        await made.renamer.rename(old, b"f", new, b"g", 0, made.caller(MAPS))
        assert (deep / "g").read_bytes() == b"mine"
        assert (deep / "f").read_bytes() == b"another's"
        await made.renamer.rename(new, b"g", old, b"f", 0, made.caller(MAPS))
        assert (tmp_path / "old/f").read_bytes() == b"mine"


@on_trio
async def test_a_directory_that_the_kernel_gave_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a descriptor nor a handle that the watch goes by, whether it was removed or not."""
    (tmp_path / "kept/below").mkdir(parents=True)
    (tmp_path / "removed").mkdir()
    with parts(tmp_path, engine_of(OPEN)) as made:
        changes = Invalidation(Events(), made.nodes, Timeouts(alone=False), made.resolver._handles)  # type: ignore[arg-type] # ours
        made.resolver._on_open = changes.learn
        before = len(os.listdir("/proc/self/fd"))
        for path in ("/kept/below", "/removed"):
            node = await made.walk(path, MAPS)
            made.resolver.dirfd(node)
            assert changes.knows(node)
        removed = node
        await made.remover.remove(made.nodes.root, b"removed", made.caller(MAPS), directory=True)
        made.resolver.dirfd(removed)
        for node in made.nodes:
            made.nodes.forget(node.nodeid, node.lookups)
        assert len(made.nodes) == 1
        assert len(made.resolver) == 0
        assert len(os.listdir("/proc/self/fd")) == before
        assert changes._directories.keys() == {libc.handle_and_mount(made.tree.root_fd)[0]}


@on_trio
async def test_a_store_that_does_not_answer_costs_no_descriptor(tmp_path: Path, monkeypatch) -> None:
    """Each time-out of a network store cost one, until the daemon had none left."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()

    def dead(_fd: int) -> None:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    with parts(tmp_path, engine_of(OPEN)) as made:
        a, b, c = [await made.walk(path, MAPS) for path in ("/a", "/b", "/c")]
        for node in (a, b, c):
            made.resolver.dirfd(node)
        before = len(os.listdir("/proc/self/fd"))
        made.resolver.keep_removed(b, os.open(tmp_path / "b", os.O_PATH))
        with monkeypatch.context() as away:
            away.setattr(type(made.tree), "fstat", lambda _tree, fd: dead(fd))
            made.resolver.keep_removed(c, os.open(tmp_path / "c", os.O_PATH))
            assert len(os.listdir("/proc/self/fd")) == before + 2
            with pytest.raises(OSError, match="timed out"):
                made.resolver.drop(a.nodeid)
            assert len(os.listdir("/proc/self/fd")) == before + 1
            made.resolver.close()
            assert len(os.listdir("/proc/self/fd")) == before - 3


@on_trio
async def test_a_directory_that_is_opened_again_keeps_its_number(tmp_path: Path, monkeypatch) -> None:
    """A rename asks for the directories of both names. The time of the first may end between the two."""
    (tmp_path / "open").mkdir()
    with parts(tmp_path, engine_of(OPEN)) as made:
        made.resolver._watched = lambda: False
        directory, now = await made.walk("/open", GALLERY), [1000.0]
        monkeypatch.setattr(places_module.time, "monotonic", lambda: now[0])
        one = made.resolver.dirfd(directory)
        now[0] += places_module.UNWATCHED_S
        two = made.resolver.dirfd(directory)
        assert (one, os.get_inheritable(two)) == (two, False)
        assert os.fstat(one).st_ino == (tmp_path / "open").stat().st_ino
