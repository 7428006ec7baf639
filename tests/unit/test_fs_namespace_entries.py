"""Entries of requests that change names: found for who may see them, kept usable, and refused on record."""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import Decision, Op, RuleMatch
from policyfs.fs.access.audit import Call
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.checked.moved_file import Named
from policyfs.fs.inodes.node import Node
from policyfs.fs.namespace.entries import Entries, HiddenError, gone_version
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, errno_of

CALL = Call("rename", "rename")
HIDDEN = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: some, allow: [all], who: {app: maps}, paths: "/**"}
- {id: others, deny: [see], who: {app: maps}, paths: "/mine", when: {owner: none}, errno: ENOENT}
"""


def entries_of(made: Parts) -> Entries:
    return made.remover._entries


async def found(made: Parts, parent: Node, name: bytes, uid: int) -> int:
    with KindEvidence() as evidence:
        try:
            end, stat, key = await entries_of(made).end(parent, name, made.caller(uid), evidence)
        except HiddenError as hidden:
            return -(hidden.errno or 0)
        except OSError as error:
            return error.errno or 0
    assert (end.ftype, key) == (stat.ftype, made.nodes.key_of(stat))
    return 0


@on_trio
async def test_an_end_is_found_with_its_inode(store: Path) -> None:
    with parts(store, engine_of(HIDDEN)) as made:
        assert await found(made, made.root, b"a.jpg", MAPS) == 0
        assert await found(made, made.root, b"absent", MAPS) == errno.ENOENT
        assert await found(made, made.root, b"n" * 256, MAPS) == errno.ENAMETOOLONG


@on_trio
async def test_what_is_below_a_directory_that_its_owner_hides_is_hidden(store: Path) -> None:
    (store / "mine").mkdir()
    (store / "mine/x").write_bytes(b"words")
    with parts(store, engine_of(HIDDEN)) as made:
        mine = await made.walk("/mine", CAMERA)
        assert await found(made, mine, b"x", CAMERA) == 0
        assert await found(made, mine, b"x", MAPS) == -errno.ENOENT


@on_trio
async def test_a_target_that_is_absent_is_none_and_a_hidden_one_cannot_be_replaced(store: Path) -> None:
    (store / "mine").mkdir()
    (store / "mine/x").write_bytes(b"words")
    with parts(store, engine_of(HIDDEN)) as made, KindEvidence() as evidence:
        entries, caller = entries_of(made), made.caller(MAPS)
        rest = (caller, evidence)
        assert await entries.target(made.root, b"absent", *rest, None) is None
        assert await entries.target(made.root, b"empty", *rest, None) is not None
        with pytest.raises(FileNotFoundError):
            await entries.target(made.root, b"absent", *rest, made.root.state)
        mine = await made.walk("/mine", CAMERA)
        with pytest.raises(HiddenError):
            await entries.target(mine, b"x", *rest, None)


@on_trio
async def test_who_takes_a_hidden_name_is_refused_on_record(store: Path) -> None:
    """A directory that a process may use is not answered as absent: the kernel would drop it for all."""
    for name in ("mine/x", "mine/used", "pub/idle", "pub/used"):
        (store / name).mkdir(parents=True)
    (store / "mine/f").write_bytes(b"words")
    with parts(store, engine_of(HIDDEN)) as made:
        caller = made.caller(MAPS)
        mine, pub = await made.walk("/mine", CAMERA), await made.walk("/pub", CAMERA)
        for path in ("/mine/used", "/pub/used"):
            (await made.walk(path, CAMERA)).lookups = 1

        def rename(old_parent: Node, old: bytes, new_parent: Node, new: bytes) -> Coroutine[Any, Any, None]:
            return made.renamer.rename(old_parent, old, new_parent, new, 0, caller)

        for request, code, path, new_path in (
            (made.remover.remove(mine, b"f", caller, directory=False), errno.ENOENT, b"/mine/f", None),
            (made.remover.remove(mine, b"x", caller, directory=True), errno.ENOENT, b"/mine/x", None),
            (made.remover.remove(mine, b"used", caller, directory=True), errno.EACCES, b"/mine/used", None),
            (rename(mine, b"x", pub, b"y"), errno.ENOENT, b"/mine/x", b"/pub/y"),
            (rename(mine, b"used", pub, b"y"), errno.EACCES, b"/mine/used", b"/pub/y"),
            (rename(mine, b"x", pub, b"used"), errno.EACCES, b"/mine/x", b"/pub/used"),
            (rename(pub, b"idle", mine, b"x"), errno.ENOENT, b"/pub/idle", b"/mine/x"),
            (rename(pub, b"used", mine, b"x"), errno.EACCES, b"/pub/used", b"/mine/x"),
        ):
            assert await errno_of(request) == code
            event = made.sink.events.pop()
            assert (event.decision, event.errno, event.path, event.new_path) == ("deny", code, path, new_path)


@on_trio
async def test_a_directory_that_a_process_may_use_is_not_answered_as_absent(store: Path) -> None:
    """After ENOENT the kernel would drop it for all."""
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        directory, file = await made.walk("/d", CAMERA), await made.walk("/a.jpg", CAMERA)
        directory.lookups = file.lookups = 1
        hidden = Decision(allowed=False, errno=errno.ENOENT)
        assert Entries.errno(hidden, [directory]) == errno.EACCES
        assert Entries.errno(hidden, [file]) == errno.ENOENT
        assert Entries.errno(hidden, []) == errno.ENOENT
        assert Entries.errno(Decision(allowed=False, errno=errno.EROFS), [directory]) == errno.EROFS
        directory.lookups = 0
        assert Entries.errno(hidden, [directory]) == errno.ENOENT


@pytest.mark.parametrize(
    ("decision", "error", "code", "note"),
    [
        (None, 0, errno.EACCES, ""),
        (Decision(allowed=False, errno=errno.EROFS), 0, errno.EROFS, ""),
        (
            Decision(allowed=False, errno=errno.EXDEV),
            0,
            errno.EXDEV,
            "policyfs cannot move this file or directory; copy it instead (mv does so by itself)",
        ),
        (
            Decision(False, errno.EACCES, (RuleMatch("places", "redact", Op.READ),)),
            0,
            errno.EACCES,
            "lack the data that places hides from the app. Exempt the app from places",
        ),
        (Decision(allowed=False, errno=errno.EPERM), 0, errno.EPERM, "tells a place"),
        (Decision(allowed=False, errno=errno.ENOENT), errno.EACCES, errno.EACCES, ""),
    ],
)
def test_a_refused_move_is_on_record_with_its_reason(
    store: Path, decision: Decision | None, error: int, code: int, note: str
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            named = Named(os.open(store / "a.jpg", os.O_PATH))
            named.why = "tells a place"
            with pytest.raises(pyfuse3.FUSEError) as caught:
                entries_of(made).refuse_move(
                    made.caller(CAMERA), CALL, b"/a", b"/b", decision, error, (None, named)
                )
            named.close()
            assert caught.value.errno == code
            event = made.sink.events[-1]
            assert (event.decision, event.errno, event.path, event.new_path) == ("deny", code, b"/a", b"/b")
            assert note in event.note
            assert bool(event.note) == bool(note)

    run()


@pytest.mark.parametrize(("code", "note"), [(errno.EXDEV, "cannot move this file"), (errno.ENOENT, "")])
def test_a_refused_link_is_on_record_without_a_loss(store: Path, code: int, note: str) -> None:
    """The redact rule belongs to the read that a link needs, and nothing deletes the original."""
    decision = Decision(False, code, (RuleMatch("places", "redact", Op.READ),))

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            with pytest.raises(pyfuse3.FUSEError):
                entries_of(made).refuse_move(
                    made.caller(CAMERA), Call("link", "link"), b"/a", b"/b", decision
                )
            told = made.sink.events[-1].note
            assert "places hides" not in told
            assert note in told
            assert bool(told) == bool(note)

    run()


@on_trio
async def test_what_is_open_or_used_stays_usable_without_its_name(store: Path) -> None:
    (store / "d").mkdir()
    os.link(store / "empty", store / "again")
    with parts(store, engine_of(OPEN)) as made:
        entries = entries_of(made)
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        two = await made.open("/empty", os.O_RDONLY, CAMERA)
        await made.walk("/again", CAMERA)
        directory = await made.walk("/d", CAMERA)
        for node, name in ((handle.node, b"a.jpg"), (two.node, b"empty"), (directory, b"d")):
            entries.keep_open(node.ino, made.root, name, replaced=False)
            entries.keep_open(node.ino, made.root, name, replaced=False)
        assert handle.node.open is not None
        assert made.tree.fstat(handle.node.open.fd).ino == os.stat(store / "a.jpg").st_ino
        assert two.node.open is not None
        assert two.node.open.fd < 0, "it has another name"
        (store / "d").rmdir()
        entries.drop(directory.ino, made.root, b"d")
        assert directory.parent is None
        assert handle.node.parent is made.root


def test_the_version_of_a_removed_file_is_on_record_and_of_nothing_else(store: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            stat = made.tree.stat(made.tree.root_fd, b"a.jpg")
            version = gone_version(stat)
            assert version is not None
            assert version.size == stat.size
            assert gone_version(made.tree.fstat(made.tree.root_fd)) is None

    run()
