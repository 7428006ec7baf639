"""The names that the kernel is told after a reload, and the cases in which it drops all at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from policyfs.fs.kernel_cache import name_expiry
from policyfs.fs.kernel_cache.name_expiry import AbsentNames, ListedNames, StayingNames
from policyfs.fs.path_bounds import KEPT_NAMES
from policyfs.kernel.bridge import fh_index, pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Notes, Parts, on_trio, parts
from tests.support.mount.steps import CAMERA

OPEN = "- {id: all, allow: [all], paths: '/**'}\n"
REDACTED = OPEN + "- {id: places, require: {redact: location}, paths: '/**'}\n"
HIDES = OPEN + "- {id: hide, deny: [all], paths: '/d/***', errno: ENOENT}\n"


class Told(Notes):
    """All names that the kernel is told, and whether gently; *meanwhile* comes before the first."""

    def __init__(self, *, takes: bool = True, epochs: bool = True) -> None:
        super().__init__()
        self.takes, self.epochs = takes, epochs
        self.names: list[tuple[int, bytes, bool]] = []
        self.dropped = 0
        self.meanwhile = lambda: None

    def inval_entries_now(self, entries: Iterable[tuple[int, bytes, bool]]) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self.names += entries
        return self.takes

    def inval_entry(self, parent: int, name: bytes, expire: bool) -> None:
        self.names.append((parent, name, expire))

    def inc_epoch_now(self) -> bool:
        self.dropped += 1
        return self.epochs


def told(made: Parts, **more: bool) -> Told:
    made.whole.kernel_cache.notifier = answer = Told(**more)  # type: ignore[assignment]
    return answer


async def reload(made: Parts, text: str) -> bool:
    made.reload(engine_of(text))
    return await made.whole.kernel_cache.expire_all_names()


@pytest.fixture
def store(store: Path) -> Path:
    (store / "d").mkdir()
    (store / "d/e").mkdir()
    return store


@on_trio
async def test_names_that_stay_visible_are_only_looked_up_again(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        d, _ = await made.walk("/d", CAMERA), await made.walk("/d/e", CAMERA)
        await made.walk("/a.jpg", CAMERA)
        kernel, root = told(made), made.root.nodeid
        assert await reload(made, OPEN + "# the same\n")
        assert sorted(kernel.names) == [(root, b"a.jpg", True), (root, b"d", True), (d.nodeid, b"e", True)]
        assert not kernel.dropped


@on_trio
async def test_names_that_are_hidden_now_are_forgotten(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        d, _ = await made.walk("/d", CAMERA), await made.walk("/d/e", CAMERA)
        await made.walk("/a.jpg", CAMERA)
        kernel, root = told(made), made.root.nodeid
        assert await reload(made, HIDES)
        assert sorted(kernel.names) == [(root, b"a.jpg", True), (root, b"d", False), (d.nodeid, b"e", False)]


@on_trio
async def test_files_that_are_shown_otherwise_now_are_forgotten(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        await made.walk("/d", CAMERA)
        await made.walk("/a.jpg", CAMERA)
        kernel, root = told(made), made.root.nodeid
        assert await reload(made, REDACTED)
        assert (root, b"a.jpg", False) in kernel.names


@on_trio
async def test_names_that_the_kernel_could_not_keep_are_only_looked_up_again(store: Path) -> None:
    apart = HIDES + "- {id: apart, deny: [all], who: {app: maps}, paths: '/***', errno: ENOENT}\n"
    with parts(store, engine_of(apart.replace("'/d/***'", "'/x/***'"))) as made:
        await made.walk("/d", CAMERA)
        kernel = told(made)
        assert await reload(made, HIDES)
        assert kernel.names == [(made.root.nodeid, b"d", True)]


@on_trio
async def test_absent_names_are_looked_up_again(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        made.whole.timeouts.forgets_absent = True
        caller = made.caller(CAMERA)
        assert (await made.names.lookup.lookup(made.root, b"none", caller)).st_ino == 0
        kernel = told(made)
        assert await reload(made, HIDES)
        assert kernel.names == [(made.root.nodeid, b"none", True)]
        assert await reload(made, OPEN)
        assert len(kernel.names) == 1


@on_trio
async def test_a_name_that_moves_meanwhile_is_forgotten_under_the_new_one(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node, root = await made.walk("/a.jpg", CAMERA), made.root
        kernel = told(made)

        def move() -> None:
            made.nodes.add_name(node, root, b"moved.jpg")
            made.nodes.drop_name(node, root, b"a.jpg")

        kernel.meanwhile = move
        assert await reload(made, OPEN + "# the same\n")
        assert kernel.names == [(root.nodeid, b"a.jpg", True), (root.nodeid, b"moved.jpg", False)]


@pytest.mark.parametrize("why", ["refused", "too many", "lost", "too many links", "slow", "cancelled"])
@on_trio
async def test_else_all_names_are_dropped_at_once(
    store: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        if why == "too many links":
            for number in range(KEPT_NAMES + 1):
                os.link(store / "a.jpg", store / f"d/{number}.jpg")
                await made.walk(f"/d/{number}.jpg", CAMERA)
        await made.walk("/a.jpg", CAMERA)
        kernel = told(made, takes=why != "refused")
        if why == "too many":
            monkeypatch.setattr(name_expiry, "_MOST", 0)
        elif why == "lost":
            made.whole.kernel_cache.absent_names.lost = True
        elif why == "slow":
            monkeypatch.setattr(name_expiry, "_EXPIRE_S", 0.05)
            kernel.meanwhile = lambda: time.sleep(0.2)
        with trio.CancelScope() as scope:
            if why == "cancelled":
                scope.cancel()
            assert not await reload(made, HIDES)
        assert kernel.dropped == 1


@on_trio
async def test_a_kernel_without_epochs_is_told_each_name_it_knows(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        await made.walk("/a.jpg", CAMERA)
        kernel = told(made, takes=False, epochs=False)
        assert not await reload(made, HIDES)
        assert kernel.names[-1] == (made.root.nodeid, b"a.jpg", True)


@on_trio
async def test_names_of_a_listing_under_way_expire_beside_all_others(store: Path, monkeypatch) -> None:
    """Where all names are dropped at once."""
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda *_: True)
    with parts(store, engine_of(OPEN)) as made:
        d = await made.walk("/d", CAMERA)
        index = fh_index(await made.listings.opendir(d, made.caller(CAMERA)))
        kernel = told(made, takes=False)
        await made.listings.readdir(index, 0, None)
        assert not await reload(made, HIDES)
        assert kernel.dropped == 1
        assert kernel.names[-1] == (d.nodeid, b"e", True)
        await made.listings.readdir(index, 3 << 61, None)  # the kernel asks for more: it has used those
        kernel.names.clear()
        made.whole.kernel_cache.forget_all_names()
        assert kernel.names == []
        await made.listings.releasedir(index)


def test_all_names_are_taken_once() -> None:
    names = AbsentNames(lambda parent, name: True)
    for _ in range(2):
        names.add(1, b"a")
        names.add(2, b"a")
    assert len(names) == 2
    assert sorted(names.take()) == [(1, b"a"), (2, b"a")]
    assert names.take() == []


def test_beyond_the_bound_the_kernel_forgets_what_was_looked_up_longest_ago() -> None:
    forgotten: list[tuple[int, bytes]] = []

    def forget(parent: int, name: bytes) -> bool:
        forgotten.append((parent, name))
        return True

    names = AbsentNames(forget, most=2)
    for name in (b"a", b"b", b"a", b"c"):
        names.add(1, name)
    assert forgotten == [(1, b"b")]
    assert not names.lost
    assert names.take() == [(1, b"a"), (1, b"c")]


def test_a_name_that_cannot_be_forgotten_is_lost_until_the_next_expiry_of_all() -> None:
    names = AbsentNames(lambda parent, name: False, most=1)
    names.add(1, b"a")
    assert not names.lost
    names.add(1, b"b")
    names.add(1, b"c")
    assert names.lost
    names.take()
    assert not names.lost


def test_a_name_that_exists_by_now_displaces_none() -> None:
    forgotten: list[tuple[int, bytes]] = []

    def forget(parent: int, name: bytes) -> bool:
        forgotten.append((parent, name))
        return True

    names = AbsentNames(forget, most=2)
    names.add(1, b"absent")
    for number in range(9):
        names.add(1, b"new%d" % number)
        names.found(1, b"new%d" % number)
    names.found(1, b"never looked up")
    assert forgotten == []
    assert names.take() == [(1, b"absent")]


def test_names_are_remembered_until_the_kernel_asks_for_more() -> None:
    names = ListedNames(lambda _: None)
    for index, name in ((1, b"a"), (1, b"b"), (2, b"c")):
        names.add(index, 10 + index, name)
    assert list(names) == [(11, b"a"), (11, b"b"), (12, b"c")]
    names.used(1)
    names.used(3)
    assert (list(names), len(names)) == ([(12, b"c")], 1)


def test_the_oldest_are_expired_where_there_are_too_many() -> None:
    expired: list[tuple[int, bytes]] = []
    names = ListedNames(expired.extend, most=3)
    for number in range(8):
        names.add(number // 2, 1, b"%d" % number)
        assert len(names) <= 3
    assert expired == [(1, b"%d" % number) for number in range(6)]
    assert list(names) == [(1, b"6"), (1, b"7")]


def test_one_long_reply_is_expired_in_parts() -> None:
    expired: list[tuple[int, bytes]] = []
    names = ListedNames(expired.extend, most=3)
    for number in range(6):
        names.add(1, 1, b"%d" % number)
    assert len(expired) + len(names) == 6


ALL = "- {id: all, allow: [all], paths: '/***'}\n"
DENIED = "- {{id: hide, deny: [see], who: {{app: {}}}, paths: '/***', errno: ENOENT}}\n"


@pytest.mark.parametrize(
    ("rules", "directory", "file"),
    [
        (ALL, True, True),
        (ALL + "- {id: some, deny: [write], who: {app: gallery}, paths: '/***'}\n", True, True),
        (ALL + "- {id: hide, deny: [see], paths: '/***', errno: ENOENT}\n", False, False),
        (ALL + DENIED.format("gallery"), False, False),
        (ALL + "- {id: places, require: {redact: location}, paths: '/***'}\n", True, False),
        (
            ALL + "- {id: owned, deny: [see], when: {owner: camera}, paths: '/***'}\n",
            False,
            False,
        ),
        (ALL + "- {id: own, deny: [write], paths: '/{uid}/***'}\n", False, False),
        ("- {id: deep, allow: [all], paths: '/d/x/**'}\n", True, False),
    ],
    ids=["the same", "written less", "hidden", "for some", "redacted", "by owner", "by uid", "on the way"],
)
@on_trio
async def test_names_stay_that_all_callers_see_as_before(
    store: Path, rules: str, *, directory: bool, file: bool
) -> None:
    (store / "d").mkdir(exist_ok=True)
    with parts(store, engine_of(ALL)) as made:
        d, photo = await made.walk("/d", CAMERA), await made.walk("/a.jpg", CAMERA)
        made.reload(engine_of(rules))
        stays = StayingNames(made.whole.timeouts, made.gate).stays
        assert (stays(d), stays(photo)) == (directory, file)
        assert stays(d), "nothing was kept of it since"


@on_trio
async def test_a_file_with_several_names_does_not_stay(store: Path) -> None:
    os.link(store / "a.jpg", store / "b.jpg")
    with parts(store, engine_of(ALL)) as made:
        photo = await made.walk("/a.jpg", CAMERA)
        assert await made.walk("/b.jpg", CAMERA) is photo
        assert not StayingNames(made.whole.timeouts, made.gate).stays(photo)


@on_trio
async def test_what_the_kernel_could_not_keep_stays(store: Path) -> None:
    with parts(store, engine_of(ALL + DENIED.format("gallery"))) as made:
        photo = await made.walk("/a.jpg", CAMERA)
        made.reload(engine_of(ALL + DENIED.format("any")))
        assert StayingNames(made.whole.timeouts, made.gate).stays(photo)


@on_trio
async def test_in_an_app_mount_the_app_alone_counts(store: Path) -> None:
    with parts(store, engine_of(ALL), app="camera") as made:
        photo = await made.walk("/a.jpg", CAMERA)
        for hidden_from, stays in (("gallery", True), ("camera", False)):
            photo.kept = True
            made.reload(engine_of(ALL + DENIED.format(hidden_from)))
            assert StayingNames(made.whole.timeouts, made.gate).stays(photo) is stays
