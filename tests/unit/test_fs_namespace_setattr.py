"""SETATTR: attributes by `attr`, sizes by `write`, and no more than a native chown would do."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from policyfs.fs.namespace.setattr import Change
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, errno_of
from tests.support.samples import jpegs

PLAIN = jpegs.plain(1, 64)

RULES = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: change, allow: [see, attr], who: {app: gallery}, paths: "/**"}
- {id: write, allow: [see, read, write], who: {app: maps}, paths: "/**"}
- {id: root, allow: [all], who: {app: stranger, uid: 0}, paths: "/**"}
"""
NONE = Change(None, None, None, None, None, None, kill_priv=False)


def change(**fields: int) -> Change:
    return Change(**{**{name: getattr(NONE, name) for name in NONE.__slots__}, **fields})  # type: ignore[arg-type]


async def asked(made: Parts, what: Change, uid: int, path: str = "/a.jpg") -> int:
    node = await made.walk(path, uid)
    return await errno_of(made.attribute_setter.setattr(node, what, None, made.caller(uid)))


@pytest.mark.parametrize(
    ("what", "camera", "gallery", "maps"),
    [
        (change(mode=0o100600), 0, 0, errno.EACCES),
        (change(atime_ns=5, mtime_ns=6), 0, 0, errno.EACCES),
        (change(size=3), 0, errno.EACCES, 0),
        (change(size=3, mode=0o100600), 0, errno.EACCES, errno.EACCES),
        (change(uid=1), errno.EPERM, errno.EPERM, errno.EACCES),
        (NONE, 0, 0, 0),
    ],
)
def test_each_change_needs_its_right(store: Path, what: Change, camera: int, gallery: int, maps: int) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(RULES)) as made:
            for uid, code in ((CAMERA, camera), (GALLERY, gallery), (MAPS, maps)):
                before = os.stat(store / "a.jpg")
                assert await asked(made, what, uid) == code, uid
                if code and what.size is None:
                    after = os.stat(store / "a.jpg")
                    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
                        before.st_mode, before.st_uid, before.st_mtime_ns
                    )  # fmt: skip

    run()


@on_trio
async def test_changes_are_made_and_shown(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        what = change(mode=0o100640, atime_ns=5, mtime_ns=6_000_000_007, size=4)
        entry = await made.attribute_setter.setattr(node, what, None, caller)
        found = os.stat(store / "a.jpg")
        assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o640, 4)
        assert (found.st_atime_ns, found.st_mtime_ns) == (5, 6_000_000_007)
        assert (entry.st_size, entry.st_mtime_ns) == (4, 6_000_000_007)
        assert (store / "a.jpg").read_bytes() == PHOTO[:4]
        assert len(made.handles) == 0, "what was opened to cut the file is closed"


@on_trio
async def test_one_time_leaves_the_other_alone(store: Path) -> None:
    os.utime(store / "a.jpg", ns=(1, 2))
    with parts(store, engine_of(RULES)) as made:
        assert await asked(made, change(atime_ns=9), CAMERA) == 0
        assert os.stat(store / "a.jpg").st_mtime_ns == 2
        assert await asked(made, change(mtime_ns=8), CAMERA) == 0
        assert os.stat(store / "a.jpg").st_atime_ns == 9


@on_trio
async def test_only_root_gives_files_away_and_groups_are_the_callers(store: Path) -> None:
    os.chown(store / "a.jpg", CAMERA, CAMERA)
    with parts(store, engine_of(RULES)) as made:
        assert await asked(made, change(uid=CAMERA, gid=CAMERA), CAMERA) == 0
        assert await asked(made, change(uid=MAPS), CAMERA) == errno.EPERM
        assert await asked(made, change(gid=4_000_000), CAMERA) == errno.EPERM
        assert await asked(made, change(gid=GALLERY), GALLERY) == errno.EPERM, "of another's file"
        found = os.stat(store / "a.jpg")
        assert (found.st_uid, found.st_gid) == (CAMERA, CAMERA)
        assert await asked(made, change(uid=MAPS, gid=5), 0) == 0
        found = os.stat(store / "a.jpg")
        assert (found.st_uid, found.st_gid) == (MAPS, 5)


@on_trio
async def test_a_chown_takes_set_id_bits_and_no_app_sets_them(store: Path) -> None:
    os.chmod(store / "a.jpg", 0o6755)
    with parts(store, engine_of(RULES)) as made:
        assert await asked(made, change(uid=CAMERA), 0) == 0
        assert not os.stat(store / "a.jpg").st_mode & (stat.S_ISUID | stat.S_ISGID)
        assert await asked(made, change(mode=0o106755), CAMERA) == 0
        assert not os.stat(store / "a.jpg").st_mode & stat.S_ISUID


@on_trio
async def test_only_files_have_a_size_to_cut(store: Path) -> None:
    (store / "d").mkdir()
    os.symlink("a.jpg", store / "s")
    with parts(store, engine_of(OPEN)) as made:
        for path in ("/d", "/s"):
            assert await asked(made, change(size=0), CAMERA, path) == errno.EISDIR
        assert (store / "a.jpg").read_bytes() == PHOTO


@on_trio
async def test_an_open_handle_cuts_its_file_also_without_a_name(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        caller = made.caller(CAMERA)
        await made.remover.remove(made.root, b"a.jpg", caller, directory=False)
        entry = await made.attribute_setter.setattr(handle.node, change(size=7), handle, caller)
        assert entry.st_size == 7
        assert made.tree.fstat(handle.fd).size == 7
        await made.release(handle)


@on_trio
async def test_what_cannot_be_recorded_is_not_changed(store: Path) -> None:
    with parts(store, engine_of(OPEN.replace("}\n", ", audit: required}\n"))) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        before = os.stat(store / "a.jpg")
        made.sink.broken = True
        for what in (change(mode=0o100600), change(mtime_ns=5), change(size=0)):
            assert await errno_of(made.attribute_setter.setattr(node, what, None, caller)) == errno.EIO
        after = os.stat(store / "a.jpg")
        assert (after.st_mode, after.st_mtime_ns, after.st_size) == (
            before.st_mode, before.st_mtime_ns, before.st_size
        )  # fmt: skip


@on_trio
async def test_flags_of_inodes_are_shown_to_who_sees_the_file(store: Path) -> None:
    os.symlink("a.jpg", store / "s")
    with parts(store, engine_of(RULES)) as made:
        node, link = await made.walk("/a.jpg", CAMERA), await made.walk("/s", CAMERA)
        assert await errno_of(made.attribute_setter.inode_flags(link, made.caller(CAMERA))) == errno.ENOTTY
        assert await errno_of(made.attribute_setter.inode_flags(node, made.caller(CAMERA))) in {
            0,
            errno.ENOTTY,
        }
        assert await errno_of(made.attribute_setter.inode_flags(node, made.caller(4242))) == errno.ENOENT


@on_trio
async def test_flags_tell_nothing_of_hidden_names(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 sets FS_INDEX_FL once the names of a directory take more than a block, and also shows this."""
    (store / "d").mkdir()
    (store / "e").mkdir()
    rules = RULES + '- {id: hide, deny: [see], who: {app: gallery}, paths: "/d/*.hidden"}\n'
    found = 0x1008_1010
    monkeypatch.setattr("policyfs.fs.namespace.setattr.inode_flags", lambda fd: found)
    with parts(store, engine_of(rules)) as made:
        flags, gallery = made.attribute_setter.inode_flags, made.caller(GALLERY)
        assert await flags(await made.walk("/d", GALLERY), gallery) == 0x8_0010
        for path in ("/e", "/a.jpg"):
            assert await flags(await made.walk(path, GALLERY), gallery) == found


@on_trio
async def test_a_change_of_nothing_needs_sight_since_its_reply_shows_attributes(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        assert await asked(made, NONE, GALLERY) == 0
        node, caller = await made.walk("/a.jpg", GALLERY), made.caller(GALLERY)
        made.reload(engine_of(RULES + '- {id: hide, deny: [see], who: {app: gallery}, paths: "/a.jpg"}\n'))
        for what in (NONE, NONE.__class__(None, None, None, None, None, None, kill_priv=True)):
            assert await errno_of(made.attribute_setter.setattr(node, what, None, caller)) == errno.ENOENT
        refused = [(event.syscall, event.decision) for event in made.sink.events]
        assert ("chown", "deny") in refused


DRAFTED = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: dates, allow: [see, create, attr], who: {app: gallery}, paths: "/**"}
- {id: no, require: {no: [location]}, paths: "/**"}
"""


@on_trio
async def test_who_may_only_set_times_keeps_no_draft_of_others_out_of_the_store(store: Path) -> None:
    """Its node is not the writer's, and yet it is this daemon that sets them."""
    (store / "a.jpg").write_bytes(PLAIN)
    with parts(store, engine_of(DRAFTED)) as made:
        writer = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(writer, len(PLAIN), b"more")
        assert await made.walk("/a.jpg", GALLERY) is not writer.node
        assert await asked(made, change(atime_ns=5, mtime_ns=6), GALLERY) == 0
        assert await errno_of(made.sync.flush(writer)) == 0
        assert (store / "a.jpg").read_bytes() == PLAIN + b"more"
        assert os.stat(store / "a.jpg").st_mtime_ns == 6, "as natively: they were set after the last write"
        await made.release(writer)


class _Waiting:
    """The part that waits for writers before a mode with suid. *meanwhile*: another request runs."""

    def __init__(self, meanwhile) -> None:
        self.meanwhile = meanwhile

    async def may_set_ids(self, *_: object) -> bool:
        await self.meanwhile()
        return True


@pytest.mark.parametrize("moves", [False, True])
def test_a_file_that_moves_while_its_writers_are_waited_for_gets_no_suid(
    store: Path, moves: bool
) -> None:
    """At its new path the app may not do everything (--posix)."""
    for name in ("free", "in"):
        (store / name).mkdir()
    (store / "free/x").write_bytes(PLAIN)
    rules = OPEN + '- {id: hide, require: {redact: location}, who: {app: camera}, paths: "/in/**"}\n'

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            free, there = await made.walk("/free", CAMERA), await made.walk("/in", CAMERA)
            caller = made.caller(CAMERA)

            async def move() -> None:
                if moves:
                    await made.renamer.rename(free, b"x", there, b"x", 0, caller)

            made.gate._posix = True
            made.attribute_setter._set_id_bits = _Waiting(move)  # type: ignore[assignment]
            code = await asked(made, change(mode=0o104755), CAMERA, "/free/x")
            assert code == (errno.ESTALE if moves else 0)  # the kernel looks again
            mode = (store / ("in/x" if moves else "free/x")).stat().st_mode
            assert bool(mode & stat.S_ISUID) is not moves

    run()


@pytest.mark.parametrize("written", [b"", b"more"], ids=["unwritten", "written"])
@on_trio
async def test_a_refused_truncation_by_path_leaves_another_writers_bytes(store: Path, written: bytes) -> None:
    """The file that is cut to 2 bytes would be no photo, and its writer goes on with the whole photo."""
    (store / "a.jpg").write_bytes(PLAIN)
    with parts(store, engine_of(DRAFTED.replace("gallery", "maps").replace("[see,", "[all, see,"))) as made:
        writer = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        if written:
            await made.write(writer, len(PLAIN), written)
        held = made.handles.descriptors.used
        assert await asked(made, change(size=2), MAPS) == errno.EPERM
        assert (await made.walk("/a.jpg", MAPS)) is writer.node
        assert bytes(await made.reader.read(writer, 0, 1 << 20)) == PLAIN + written
        assert made.handles.descriptors.used <= held + 1, "a draft may have begun"
        await made.write(writer, len(PLAIN) + len(written), b" and more")
        assert await errno_of(made.sync.flush(writer)) == 0
        assert (store / "a.jpg").read_bytes() == PLAIN + written + b" and more"
        assert await asked(made, change(size=len(PLAIN) + 1), MAPS) == 0
        assert (store / "a.jpg").read_bytes() == (PLAIN + written + b" and more")[: len(PLAIN) + 1]
        await made.write(writer, len(PLAIN) + 1, b"!")
        await made.release(writer)
        assert made.handles.descriptors.used == 0
    assert (store / "a.jpg").read_bytes() == (PLAIN + written + b" and more")[: len(PLAIN) + 1] + b"!"
