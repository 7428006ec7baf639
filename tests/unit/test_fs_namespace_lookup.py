"""Lookup: what is found, hidden and absent, and what the kernel may keep of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.fs.access.facts import FactFinder
from policyfs.fs.inodes.node import ROOT_ID, child_path
from policyfs.fs.kernel_cache.attributes import LONG_S, UNWATCHED_S
from policyfs.fs.namespace.xattr import ExtendedAttributes
from policyfs.fs.path_bounds import MAX_PATH_BYTES
from policyfs.kernel import bridge, vectors
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.libc import RENAME_EXCHANGE
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, errno_of, look_up, replace

EVERYBODY = """\
- {id: all, allow: [all], paths: "/**"}
"""
HIDDEN = '- {id: hide, deny: [all], %s paths: "/secret/***", errno: ENOENT}\n'
HIDDEN_FROM_ALL = EVERYBODY + HIDDEN % ""
HIDDEN_FROM_MAPS = EVERYBODY + HIDDEN % "who: {app: maps},"
BY_KIND = EVERYBODY + '- {id: text, deny: [see], paths: "/**", when: {type: "text/*"}, errno: ENOENT}\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    (directory / "d/inner").mkdir(parents=True)
    (directory / "secret/inner").mkdir(parents=True)
    (directory / "a.jpg").write_bytes(PHOTO)
    return directory


async def answer_of(request) -> dict[str, object] | int:
    """All fields of a reply, or the errno."""
    try:
        return (await request).__getstate__()
    except pyfuse3.FUSEError as error:
        return error.errno


@contextmanager
def names_looked_at() -> Iterator[list[bytes]]:
    """The names that the store is asked about."""
    seen: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        real = Tree.stat

        def stat(tree: Tree, dirfd: int, name: bytes):
            seen.append(name)
            return real(tree, dirfd, name)

        patch.setattr(Tree, "stat", stat)
        yield seen


# -- names -------------------------------------------------------------------------------------------


@on_trio
async def test_a_found_name_has_one_node_and_each_answer_counts(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        first, second = [await look_up(made, "a.jpg", CAMERA) for _ in range(2)]
        node, found = made.nodes.get(first.st_ino), os.stat(store / "a.jpg")
        assert second.st_ino == first.st_ino
        assert (node.lookups, node.path()) == (2, b"/a.jpg")
        assert (first.st_size, first.st_mode, first.st_nlink) == (len(PHOTO), found.st_mode, 1)
        assert (first.st_rdev, first.st_mtime_ns) == (found.st_ino, found.st_mtime_ns)


@pytest.mark.parametrize(("watched", "timeout"), [(True, LONG_S), (False, UNWATCHED_S)])
def test_the_kernel_keeps_a_name_that_is_the_same_for_all(store: Path, watched: bool, timeout: float) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(HIDDEN_FROM_MAPS)) as made:
            made.timeouts.watched = watched
            entry = await look_up(made, "a.jpg", MAPS)
            assert entry.entry_timeout == timeout
            assert made.nodes.get(entry.st_ino).kept
            entry = await look_up(made, "secret", CAMERA)
            assert entry.entry_timeout == 0.0
            assert not made.nodes.get(entry.st_ino).kept

    run()


@pytest.mark.parametrize(
    ("rules", "forgets", "timeout"),
    [(EVERYBODY, True, LONG_S), (EVERYBODY, False, UNWATCHED_S)],
    ids=["kept", "never forgotten"],
)
def test_the_kernel_keeps_an_absent_name_as_long_as_no_one_could_tell_it_from_another(
    store: Path, rules: str, forgets: bool, timeout: float
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            made.timeouts.forgets_absent = forgets
            entry = await look_up(made, "none", CAMERA)
            assert (entry.st_ino, entry.entry_timeout, entry.attr_timeout) == (0, timeout, 0.0)
            assert made.whole.kernel_cache.absent_names.take() == [(ROOT_ID, b"none")]

    run()


@on_trio
async def test_an_absent_name_that_one_caller_may_not_know_of_is_not_kept(store: Path) -> None:
    (store / "secret").rename(store / "moved")
    with parts(store, engine_of(HIDDEN_FROM_MAPS)) as made:
        for uid in (CAMERA, MAPS):
            assert await errno_of(look_up(made, "secret", uid)) == errno.ENOENT
        assert len(made.whole.kernel_cache.absent_names) == 0


@on_trio
async def test_a_hidden_name_is_told_as_an_absent_one_and_without_a_look_at_the_store(store: Path) -> None:
    """Whether the kernel may keep it or not."""
    for rules, uid in ((HIDDEN_FROM_ALL, CAMERA), (HIDDEN_FROM_MAPS, MAPS)):
        with parts(store, engine_of(rules)) as made, names_looked_at() as seen:
            there = await answer_of(look_up(made, "secret", uid))
            (store / "secret").rename(store / "moved")
            assert await answer_of(look_up(made, "secret", uid)) == there
            (store / "moved").rename(store / "secret")
            assert seen == []
            assert [(e.operation, e.path, e.decision) for e in made.sink.events] == [
                ("lookup", b"/secret", "deny")
            ] * 2


@on_trio
async def test_where_only_a_directory_may_be_seen_a_file_is_denied_as_an_absent_name_is(store: Path) -> None:
    with parts(store, engine_of('- {id: a, allow: [all], who: {app: camera}, paths: "/d/x/**"}\n')) as made:
        assert (await look_up(made, "d", CAMERA)).st_ino
        (store / "d").rename(store / "moved")
        assert await errno_of(look_up(made, "d", CAMERA)) == errno.ENOENT
        (store / "d").touch()
        assert await errno_of(look_up(made, "d", CAMERA)) == errno.ENOENT
        assert [(e.path, e.decision, e.repeats) for e in made.sink.events] == [(b"/d", "deny", 0)] * 2


@on_trio
async def test_special_files_are_absent_and_leave_no_record(store: Path) -> None:
    os.mkfifo(store / "fifo")
    with parts(store, engine_of(EVERYBODY), app="camera") as made:
        answers = [await answer_of(look_up(made, name, CAMERA)) for name in ("fifo", "none")]
        assert answers[0] == answers[1]
        assert isinstance(answers[0], dict)
        assert made.sink.events == []


@on_trio
async def test_a_name_that_is_withheld_is_absent_but_never_kept(store: Path) -> None:
    with parts(store, engine_of(EVERYBODY), app="camera") as made:
        node = await made.walk("/a.jpg", CAMERA)
        await made.withheld_names.hide(node)
        assert await errno_of(look_up(made, "a.jpg", CAMERA)) == errno.ENOENT
        assert len(made.whole.kernel_cache.absent_names) == 0
        made.withheld_names.show(node)
        assert (await look_up(made, "a.jpg", CAMERA)).st_ino == node.nodeid


@on_trio
async def test_names_beyond_the_longest_path_are_out_of_reach_whether_they_exist_or_not(store: Path) -> None:
    with parts(store, engine_of(EVERYBODY)) as made, names_looked_at() as seen:
        made.root.size_bytes = MAX_PATH_BYTES - 1
        for name in ("a.jpg", "none"):
            assert await errno_of(look_up(made, name, CAMERA)) == errno.ENAMETOOLONG
        assert seen == []
        made.root.size_bytes -= len("none")
        assert (await look_up(made, "none", CAMERA)).st_ino == 0


def test_a_path_in_the_root_has_one_slash(store: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            assert child_path(made.root, b"a") == b"/a"
            assert child_path(await made.walk("/d/inner", CAMERA), b"a") == b"/d/inner/a"

    run()


@on_trio
async def test_a_kind_hides_a_name_on_record(store: Path) -> None:
    (store / "text").write_bytes(b"words")
    with parts(store, engine_of(BY_KIND)) as made:
        for name in ("text", "none"):  # neither is kept: the kind is one app's finding
            with pytest.raises(pyfuse3.FUSEError) as hidden:
                await look_up(made, name, CAMERA)
            assert hidden.value.errno == errno.ENOENT
        assert (await look_up(made, "a.jpg", CAMERA)).st_ino
        assert [(e.path, e.decision) for e in made.sink.events] == [(b"/text", "deny")]


# -- a policy that changes meanwhile -----------------------------------------------------------------


@on_trio
async def test_a_lookup_that_a_reload_overtakes_is_decided_by_the_new_policy(store: Path) -> None:
    (store / "text").write_bytes(b"words")
    with parts(store, engine_of(BY_KIND)) as made:
        await overtake(made, [engine_of(EVERYBODY)])
        assert (await look_up(made, "text", CAMERA)).st_ino
    with parts(store, engine_of(BY_KIND)) as made:
        await overtake(made, [engine_of(HIDDEN_FROM_ALL.replace("/secret/***", "/text"))])
        assert (await look_up(made, "text", CAMERA)).st_ino == 0


@on_trio
async def test_a_lookup_that_is_overtaken_again_and_again_ends(store: Path) -> None:
    (store / "text").write_bytes(b"words")
    with parts(store, engine_of(BY_KIND)) as made:
        reloads = await overtake(made, [engine_of(BY_KIND)] * 100)
        assert await errno_of(look_up(made, "text", CAMERA)) == errno.ESTALE
        assert 1 < 100 - len(reloads) < 20


async def overtake(made: Parts, engines: list) -> list:
    """Reload while each of the next files is sniffed; the policies that are left."""
    left, real = list(engines), made.sniffed.kind_of_fd

    async def reloading(fd: int, *, lane=None, **_):
        if left:
            os.utime(fd)  # what was found is not remembered
            made.reload(left.pop())
        return await real(fd, lane=lane)

    made.sniffed.kind_of_fd = reloading
    return left


# -- directories that others use -----------------------------------------------------------------------


@on_trio
async def test_a_hidden_directory_in_use_by_others_stays_theirs(store: Path) -> None:
    """Its entry tells nothing, holds for no time, and leads to requests that are refused."""
    with parts(store, engine_of(HIDDEN_FROM_MAPS)) as made:
        node = await made.walk("/secret", CAMERA)
        entry = await look_up(made, "secret", MAPS)
        assert (entry.st_ino, node.lookups) == (node.nodeid, 2)
        assert (entry.entry_timeout, entry.attr_timeout) == (0.0, 0.0)
        assert (entry.st_nlink, entry.st_size, entry.st_blocks) == (1, 4096, 8)
        assert made.sink.events == []
        assert await errno_of(made.lookup.getattr(node, made.caller(MAPS))) == errno.ENOENT
        assert await errno_of(made.lookup.access(node, os.X_OK, made.caller(MAPS))) == errno.ENOENT
        assert [e.path for e in made.sink.events] == [b"/secret"] * 2


@on_trio
async def test_a_hidden_directory_is_absent_once_nobody_uses_it_or_it_is_another(store: Path) -> None:
    with parts(store, engine_of(HIDDEN_FROM_MAPS)) as made:
        node = await made.walk("/secret", CAMERA)
        (store / "secret").rename(store / "moved")
        assert await errno_of(look_up(made, "secret", MAPS)) == errno.ENOENT
        (store / "secret").mkdir()
        assert await errno_of(look_up(made, "secret", MAPS)) == errno.ENOENT
        (store / "secret").rmdir()
        (store / "moved").rename(store / "secret")
        assert (await look_up(made, "secret", MAPS)).st_ino == node.nodeid
        inner = await made.walk("/secret/inner", CAMERA)  # keeps the node, without references
        made.nodes.forget(node.nodeid, node.lookups)
        assert inner.parent is node
        assert await errno_of(look_up(made, "secret", MAPS)) == errno.ENOENT


@on_trio
async def test_where_one_app_is_alone_nobody_else_uses_a_hidden_directory(store: Path) -> None:
    with parts(store, engine_of(EVERYBODY), app="camera") as made:
        assert (await made.walk("/secret", CAMERA)).lookups == 1
        made.reload(engine_of(HIDDEN_FROM_ALL))
        assert (await look_up(made, "secret", CAMERA)).st_ino == 0


@on_trio
async def test_a_directory_hidden_by_a_fact_stays_with_those_who_use_it(store: Path) -> None:
    rules = EVERYBODY + (
        "- {id: d, deny: [see], who: {app: maps}, paths: /d, when: {type: inode/directory}, errno: ENOENT}\n"
    )
    with parts(store, engine_of(rules)) as made:
        assert await errno_of(look_up(made, "d", MAPS)) == errno.ENOENT
        node = await made.walk("/d", CAMERA)
        assert (await look_up(made, "d", MAPS)).st_ino == node.nodeid
        assert await errno_of(made.lookup.getattr(node, made.caller(MAPS))) == errno.ENOENT


@on_trio
async def test_callers_from_outside_get_nothing_but_keep_the_directories_of_others(store: Path) -> None:
    with parts(store, engine_of(EVERYBODY)) as made:
        for name in (b"a.jpg", b"d", b"none"):
            with pytest.raises(pyfuse3.FUSEError) as refused:
                made.lookup.lookup_from_outside(made.root, name)
            assert refused.value.errno == errno.EACCES
        node = await made.walk("/d", CAMERA)
        await made.walk("/a.jpg", CAMERA)
        assert made.lookup.lookup_from_outside(made.root, b"d").st_ino == node.nodeid
        with pytest.raises(pyfuse3.FUSEError):
            made.lookup.lookup_from_outside(made.root, b"a.jpg")


# -- repeats that the bridge answers ------------------------------------------------------------------


@pytest.fixture
def table() -> Iterator[None]:
    bridge.library.open_vectors(16, 4)
    yield
    bridge.prepare(0, 0)


@contextmanager
def repeating(store: Path) -> Iterator[Parts]:
    """A shared mount with vectors, of whose names the kernel keeps none: strangers see nothing."""
    with parts(store, engine_of(OPEN)) as made:
        made.nodes.vectors.of_names = made.nodes.vectors.in_use = True
        yield made


def installed() -> int:
    return vectors.stats().installed


@on_trio
async def test_requests_come_to_the_bridge_once_they_are_repeated(store: Path, table: None) -> None:
    with repeating(store) as made:
        caller, node = made.caller(CAMERA), await made.walk("/a.jpg", CAMERA)
        for request in (
            lambda: made.lookup.lookup(made.root, b"a.jpg", caller),
            lambda: made.lookup.getattr(node, caller),
            lambda: made.lookup.access(node, os.R_OK, caller),
        ):
            node.asked = made.root.asked = 0
            before, counts = installed(), []
            for _ in range(2):
                await request()
                counts.append(installed() - before)
            assert counts == [0, 1]
        before = installed()
        for _ in range(2):
            await made.lookup.access(node, os.X_OK, caller)
        assert installed() == before, "the file's mode decides"
        made.lookup.listed(node, caller)
        assert installed() == before + 1, "it will be looked up soon"


@on_trio
async def test_absent_names_come_to_the_bridge_where_a_caller_sees_all(store: Path, table: None) -> None:
    with repeating(store) as made:
        caller, directory = made.caller(CAMERA), await made.walk("/d", CAMERA)
        before, counts = installed(), []
        for _ in range(2):
            assert await errno_of(made.lookup.lookup(directory, b"none", caller)) == errno.ENOENT
            counts.append(installed() - before)
        assert counts == [0, 1]


@on_trio
async def test_a_name_that_an_open_has_missed_does_not(store: Path, table: None) -> None:
    """The bridge would not keep what has the name for the open."""
    with repeating(store) as made:
        caller, node = made.caller(CAMERA), await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"words")
        assert await errno_of(made.opener.open(node, os.O_RDONLY, caller)) == errno.ESTALE
        before = installed()
        for _ in range(2):
            entry = await look_up(made, "a.jpg", CAMERA)
        made.lookup.listed(made.nodes.get(entry.st_ino), caller)
        assert installed() == before


BY_OWNER = EVERYBODY + '- {id: own, deny: [see], who: {app: maps}, paths: "/**", unless: {owner: none}}\n'
READ_BY_KIND = """\
- {id: look, allow: [see], paths: "/**"}
- {id: photos, allow: [read], paths: "/**", when: {type: image/jpeg}}
"""


def swaps_before_facts(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Let another mount exchange the files a.jpg and other once, right before the next search for facts."""
    done: list[bool] = []

    def swapping(search):
        async def swapped(*arguments, **options):
            if not done:
                done.append(True)
                swap(store)
            return await search(*arguments, **options)

        return swapped

    for name in ("find", "behind"):
        monkeypatch.setattr(FactFinder, name, swapping(getattr(FactFinder, name)))


def swap(store: Path) -> None:
    """Exchange the files a.jpg and other."""
    with Tree.open(str(store)) as tree:
        tree.rename2(tree.root_fd, b"a.jpg", tree.root_fd, b"other", RENAME_EXCHANGE)


async def is_shown(made: Parts, name: str, uid: int) -> bool:
    answer = await answer_of(made.lookup.lookup(made.root, name.encode(), made.caller(uid)))
    return isinstance(answer, dict) and answer["st_ino"] != 0


@pytest.mark.parametrize("rules", [BY_KIND, BY_OWNER], ids=["kind", "owner"])
def test_a_lookup_tells_no_attributes_of_a_file_by_the_facts_of_another(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    """Else an app that exchanges two names through a second mount sees what is hidden by kind or owner."""
    (store / "other").write_bytes(b"words of the camera")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            fd = made.tree.open_file(made.tree.root_fd, b"other", os.O_RDONLY)
            made.owners.set(fd, made.tree.fstat(fd), "camera")
            os.close(fd)
            before = len(os.listdir("/proc/self/fd"))
            swaps_before_facts(monkeypatch, store)
            found = [await is_shown(made, name, MAPS) for name in ("other", "other", "a.jpg")]
            assert (store / "other").read_bytes() == PHOTO
            assert found == [False, True, False]
            assert len(os.listdir("/proc/self/fd")) == before

    run()


def test_a_request_by_number_is_not_decided_by_the_kind_of_another_file(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its name again when its attribute is read."""
    (store / "other").write_bytes(b"words of the camera")
    os.setxattr(store / "other", "user.note", b"hidden")
    shows = ExtendedAttributes._shows_xattrs

    async def swapped_back(*arguments) -> bool:
        try:
            return await shows(*arguments)
        finally:
            if (store / "other").read_bytes() == PHOTO:
                swap(store)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(READ_BY_KIND)) as made:
            node, caller = await made.walk("/other", MAPS), made.caller(MAPS)
            swaps_before_facts(monkeypatch, store)
            monkeypatch.setattr(ExtendedAttributes, "_shows_xattrs", swapped_back)
            asked = made.xattrs.getxattr(node, b"user.note", caller)
            assert await errno_of(asked) in {errno.ENODATA, errno.ESTALE}
            assert (store / "other").read_bytes() != PHOTO

    run()


@on_trio
async def test_a_directory_is_not_shown_by_the_owner_of_another(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule may ask for the owner of directories alone."""
    rules = EVERYBODY + (
        '- {id: own, deny: [see], who: {app: maps}, paths: "/*", when: {type: inode/directory},'
        " unless: {owner: none}, errno: ENOENT}\n"
    )
    with parts(store, engine_of(rules)) as made:
        (store / "other").mkdir()
        fd = made.tree.open_path(made.tree.root_fd, b"other")
        made.owners.set(fd, made.tree.fstat(fd), "camera")
        os.close(fd)
        (store / "a.jpg").unlink()
        (store / "a.jpg").mkdir()
        swaps_before_facts(monkeypatch, store)
        found = [await is_shown(made, name, MAPS) for name in ("other", "other", "a.jpg")]
        assert found == [False, True, False]
