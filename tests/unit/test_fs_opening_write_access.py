"""The look at a file right before an open for writing is answered."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from policyfs.domain import OWNER_NONE, Decision
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.inodes.node import Node
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    beside,
    errno_of,
    racing,
    truncations,
)
from tests.support.samples import jpegs


@on_trio
async def test_an_open_that_lost_the_race_to_another_writer_did_not_empty_the_file(store: Path) -> None:
    """The file was empty when the open was decided; a photo was written before it was answered."""
    with parts(store, engine_of(REDACTED)) as made:
        node = await made.walk("/empty", GALLERY)
        fd, stat = made.backing_files.open_named(node)
        handle = made.lifecycle.new_handle(node, made.caller(GALLERY), os.O_RDWR, stat)
        handle.emptied, handle.fd = True, made.tree.reopen(fd, os.O_RDWR)
        (store / "empty").write_bytes(PHOTO)
        with pytest.raises(OSError) as stale:
            await made.write_access.before_writing(node, handle, stat)
        assert stale.value.errno == errno.ESTALE
        os.close(fd)
        os.close(handle.fd)


def without_unnamed_files(monkeypatch: pytest.MonkeyPatch, made: Parts) -> None:
    """Let no draft keep the old bytes of a checked file."""

    def refused(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no unnamed files")

    monkeypatch.setattr(type(made.tree), "create_unnamed", refused)


@pytest.mark.parametrize("rules", [OPEN, REDACTED, OPEN + TYPES], ids=["raw", "redacted", "checked"])
def test_a_file_is_emptied_on_a_thread(store: Path, monkeypatch: pytest.MonkeyPatch, rules: str) -> None:
    """The call may wait for a writer that waits for the event loop (tests/attack/test_own_pages.py)."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            cuts = truncations(monkeypatch, made)
            without_unnamed_files(monkeypatch, made)
            handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
            assert cuts == [False]
            assert (store / "a.jpg").stat().st_size == 0
            assert await made.write(handle, 0, PHOTO) == len(PHOTO)
            await made.release(handle)
        assert (store / "a.jpg").read_bytes() == PHOTO

    run()


@on_trio
async def test_an_open_is_decided_again_if_the_policy_changes_while_it_empties_a_file(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "file.jpg").write_bytes(bytes(64 * 1024))
    with parts(store, engine_of(OPEN)) as made:
        cut = type(made.tree).truncate_fd

        def cut_and_reload(self: object, fd: int, size: int) -> None:
            cut(self, fd, size)
            trio.from_thread.run_sync(made.reload, engine_of(REDACTED))

        monkeypatch.setattr(type(made.tree), "truncate_fd", cut_and_reload)
        handles = len(made.handles)
        with pytest.raises(PolicyChangedError):
            await made.open("/file.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        assert len(made.handles) == handles
        monkeypatch.setattr(type(made.tree), "truncate_fd", cut)
        handle = await made.open("/file.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        assert handle.node.view.redact


@pytest.mark.parametrize("rules", [OPEN, REDACTED, OPEN + TYPES], ids=["raw", "redacted", "checked"])
def test_a_policy_that_came_before_the_truncation_keeps_the_file(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    """The thread may begin long after the open was decided: threads are limited in number."""
    denied = rules + '- {id: closed, deny: [write], who: {app: any}, paths: "/**"}\n'

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            without_unnamed_files(monkeypatch, made)
            beside(monkeypatch, lambda: trio.from_thread.run_sync(made.reload, engine_of(denied)))
            with pytest.raises(PolicyChangedError):
                await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()


BY_KIND = """\
- {id: all, allow: [all], who: {app: camera}, paths: "/**"}
- {id: photos, allow: [see, read, write], who: {app: maps}, paths: "/**", when: {type: image/*}}
- {id: own, require: {no: [location]}, paths: "/**", when: {owner: camera}}
"""
"""The camera writes its own files into drafts. Maps may write photos, but no empty file."""
PLAIN = jpegs.plain(1, 64)


@pytest.mark.parametrize("how", ["open", "ftruncate"])
def test_a_file_is_not_emptied_for_who_could_not_write_it_then_once_its_draft_has_ended(
    store: Path, how: str
) -> None:
    """The other writer's draft, which would have kept the bytes, ends while the request waits for it."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(BY_KIND)) as made:
            caller = made.caller(CAMERA)
            first, _ = await made.creator.create(made.root, b"new.jpg", 0o666, os.O_RDWR, caller)
            await made.write(first, 0, PLAIN)
            await made.sync.flush(first)
            await made.write(first, 0, PLAIN[:2])
            state = first.node.open
            assert state is not None
            assert state.draft is not None
            second = await made.open("/new.jpg", os.O_WRONLY, MAPS)
            assert second.node is first.node
            assert made.owners.get(first.fd, made.tree.fstat(first.fd)) == "none"
            if how == "open":
                request = made.open("/new.jpg", os.O_WRONLY | os.O_TRUNC, MAPS)
            else:
                request = made.writer.truncate(second, 0)
            assert await racing(made, first, made.sync.flush(first), request) == [0, errno.EACCES]
            assert state.draft is None
            assert (store / "new.jpg").read_bytes() == PLAIN

    run()


@on_trio
async def test_a_file_that_gets_an_owner_before_it_is_open_for_writing_loses_this_owner(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`policyfs owner set` runs after the open was decided."""
    with parts(store, engine_of(OPEN)) as made:
        opens = made.write_access.writer

        async def late(node: Node, fd: int, **options: bool) -> int:
            made.owners.set(fd, made.tree.fstat(fd), "gallery")
            return await opens(node, fd, **options)

        monkeypatch.setattr(made.write_access, "writer", late)
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert made.owners.get(handle.fd, made.tree.fstat(handle.fd)) == OWNER_NONE


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC], ids=["plain", "truncated"])
def test_no_writer_gets_a_refused_file_that_was_removed_while_the_open_was_decided(
    store: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    """The first writer does not see the second one yet, and so removes the file at its release."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + TYPES)) as made:
            first, _ = await made.creator.create(made.root, b"new", 0o666, os.O_RDWR, made.caller(MAPS))
            await made.write(first, 0, b"\xff")
            node = await made.walk("/new", CAMERA)
            decide = made.gate.require

            async def late(*args: Any, **options: Any) -> Decision:
                monkeypatch.setattr(made.gate, "require", decide)
                assert await errno_of(made.sync.flush(first)) == errno.EPERM
                await made.release(first)
                assert not (store / "new").exists()
                return await decide(*args, **options)

            monkeypatch.setattr(made.gate, "require", late)
            handles = len(made.handles)
            with pytest.raises(OSError) as stale:
                await made.opener.open(node, flags, made.caller(CAMERA))
            assert stale.value.errno == errno.ESTALE
            assert len(made.handles) == handles - 1

    run()


@on_trio
async def test_a_file_without_a_name_can_still_be_opened_for_writing(store: Path) -> None:
    """An app opens /proc/self/fd/N of a file that was unlinked while open."""
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        again = await made.opener.open(handle.node, os.O_RDWR, made.caller(CAMERA))
        assert os.pread(again.fd, len(PHOTO), 0) == PHOTO


@on_trio
async def test_a_replaced_file_can_still_be_opened_for_writing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename replaces the file while its open is decided. The kernel's second try could meet another."""
    (store / "other").write_bytes(b"other")
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        caller = made.caller(CAMERA)
        decide = made.gate.require

        async def late(*args: Any, **options: Any) -> Decision:
            monkeypatch.setattr(made.gate, "require", decide)
            await made.renamer.rename(made.root, b"other", made.root, b"a.jpg", 0, caller)
            return await decide(*args, **options)

        monkeypatch.setattr(made.gate, "require", late)
        handle = await made.opener.open(node, os.O_RDWR, caller)
        assert os.pread(handle.fd, len(PHOTO), 0) == PHOTO
    assert (store / "a.jpg").read_bytes() == b"other"
