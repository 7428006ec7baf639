"""Owner, group and mode by the caller's rights, for programs that go by them."""

from __future__ import annotations

import stat as bits
from pathlib import Path

import pytest

from policyfs.fs.access.shown_modes import ShownModes
from policyfs.linux.statx import Stat
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN

APPS = """\
apps:
  camera: {uid: 10010, modes: policy}
  gallery: {uid: 10011, modes: policy}
  maps: {uid: 10012}
"""
RULES = """\
- {id: all, allow: [all], who: {app: [camera, maps]}, paths: "/**"}
- {id: look, allow: [see, read], who: {app: gallery}, paths: "/**"}
- {id: blind, deny: [read], who: {app: gallery}, paths: "/unread"}
"""


def shows(
    made: Parts, *, any_uid: bool = False, read_only: bool = False, by_mount: bool = False
) -> ShownModes:
    return ShownModes(made.gate, by_mount=by_mount, any_uid=any_uid, read_only=read_only)


async def shown(made: Parts, modes: ShownModes, path: str, uid: int) -> Stat:
    node = await made.walk(path, uid)
    stat = Stat(*made.tree.fstat(made.tree.root_fd))._replace(
        uid=7, gid=8, mode=(made.store / path.strip("/")).lstat().st_mode
    )
    return modes.shown(stat, node, made.caller(uid))


@pytest.fixture
def files(store: Path) -> Path:
    (store / "d").mkdir()
    (store / "run").write_bytes(b"words")
    (store / "unread").write_bytes(b"words")
    (store / "run").chmod(0o001)
    (store / "unread").chmod(0o777)
    (store / "link").symlink_to("a.jpg")
    (store / "a.jpg").chmod(0o600)
    return store


@on_trio
@pytest.mark.parametrize(
    ("uid", "path", "mode"),
    [
        (CAMERA, "/a.jpg", 0o660), (CAMERA, "/run", 0o770), (CAMERA, "/d", 0o770), (CAMERA, "/link", 0o777),
        (GALLERY, "/a.jpg", 0o440), (GALLERY, "/run", 0o550), (GALLERY, "/d", 0o770),
        (GALLERY, "/unread", 0o000),
    ],
)  # fmt: skip
async def test_the_bits_are_those_of_the_rights(files: Path, uid: int, path: str, mode: int) -> None:
    with parts(files, engine_of(RULES, apps=APPS)) as made:
        got = await shown(made, shows(made), path, uid)
        before = (files / path.strip("/")).lstat().st_mode
    assert bits.S_IMODE(got.mode) == mode
    assert bits.S_IFMT(got.mode) == bits.S_IFMT(before)


@on_trio
async def test_only_who_may_change_attributes_is_shown_as_the_owner(files: Path) -> None:
    """The owner may take leases, for which every other open of the file waits."""
    with parts(files, engine_of(RULES, apps=APPS)) as made:
        modes = shows(made)
        mine, theirs = [await shown(made, modes, "/a.jpg", uid) for uid in (CAMERA, GALLERY)]
    assert (mine.uid, mine.gid) == (CAMERA, CAMERA)
    assert (theirs.uid, theirs.gid) == (7, GALLERY)


@on_trio
async def test_who_did_not_ask_for_it_sees_the_stores_own(files: Path) -> None:
    with parts(files, engine_of(RULES, apps=APPS)) as made:
        modes = shows(made)
        got = await shown(made, modes, "/a.jpg", MAPS)
        assert (got.uid, got.gid, bits.S_IMODE(got.mode)) == (7, 8, 0o600)
        assert modes.in_use
        modes.use(engine_of(OPEN))  # a reload, after which nobody asks for it
        assert not modes.in_use
        assert (await shown(made, modes, "/a.jpg", CAMERA)).uid == 7


@on_trio
async def test_where_nobody_writes_no_bit_says_so(files: Path) -> None:
    with parts(files, engine_of(RULES, apps=APPS)) as made:
        modes = shows(made, read_only=True)
        found = [(await shown(made, modes, path, CAMERA)).mode & 0o777 for path in ("/a.jpg", "/run", "/d")]
    assert found == [0o440, 0o550, 0o550]


@on_trio
async def test_a_mount_for_any_uid_gives_all_classes_the_bits(files: Path) -> None:
    with parts(files, engine_of(RULES, apps=APPS), app="camera") as made:
        modes = shows(made, any_uid=True)
        assert modes.apps == {"camera"}, "no other app comes through this mount"
        assert (await shown(made, modes, "/a.jpg", 4242)).mode & 0o777 == 0o666
        assert (await shown(made, modes, "/a.jpg", 4242)).uid == 4242


@on_trio
async def test_a_mount_may_choose_it_for_strangers_too(files: Path) -> None:
    with parts(files, engine_of(RULES, apps=APPS)) as made:
        assert None not in shows(made).apps
        assert {None, "maps", "camera"} <= shows(made, by_mount=True).apps
