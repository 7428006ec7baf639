"""Removed names: decided, recorded first, and open files stay usable."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.namespace import unlink
from policyfs.store import freeing
from policyfs.store.tree import Tree
from tests.support.machine.processes import wait_for
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    before_names_are_locked,
    between,
    errno_of,
    replace,
)

RULES = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: look, allow: [see, read], who: {app: maps}, paths: "/**"}
- {id: hide, deny: [see], who: {app: maps}, paths: "/secret", errno: ENOENT}
"""


@on_trio
async def test_a_name_is_removed_and_a_directory_only_by_rmdir(store: Path) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        assert (
            await errno_of(made.remover.remove(made.root, b"a.jpg", caller, directory=True)) == errno.ENOTDIR
        )
        assert await errno_of(made.remover.remove(made.root, b"d", caller, directory=False)) == errno.EISDIR
        await made.remover.remove(made.root, b"a.jpg", caller, directory=False)
        await made.remover.remove(made.root, b"d", caller, directory=True)
        assert sorted(os.listdir(store)) == ["empty"]
        assert await errno_of(made.remover.remove(made.root, b"d", caller, directory=True)) == errno.ENOENT
        assert [e.operation for e in made.sink.events][-2:] == ["unlink", "rmdir"]


@pytest.mark.parametrize(("name", "code"), [(b"a.jpg", errno.EACCES), (b"secret", errno.ENOENT)])
def test_what_may_not_be_removed_stays(store: Path, name: bytes, code: int) -> None:
    (store / "secret").write_bytes(b"words")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(RULES)) as made:
            request = made.remover.remove(made.root, name, made.caller(MAPS), directory=False)
            assert await errno_of(request) == code
            assert (store / name.decode()).exists()
            stranger = made.remover.remove(made.root, name, made.caller(GALLERY), directory=False)
            assert await errno_of(stranger) != 0
            assert (store / name.decode()).exists()

    run()


KINDS = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: photos, allow: [all], who: {app: maps}, paths: "/free/**", when: {type: [image/jpeg]}}
- {id: walk, allow: [see], who: {app: maps}, paths: ["/free", "/locked/**"]}
"""


@on_trio
async def test_a_directory_that_moves_while_a_file_is_sniffed_takes_its_decision_along(store: Path) -> None:
    """The decision by the rules of the old path removed the file at the new one."""
    (store / "free").mkdir()
    (store / "free/x").write_bytes(PHOTO)
    (store / "locked").mkdir()
    with parts(store, engine_of(KINDS)) as made:
        free = await made.walk("/free", CAMERA)
        await made.walk("/locked", CAMERA)

        async def moves() -> None:
            (store / "free").rename(store / "locked/free")
            assert await made.walk("/locked/free", CAMERA) is free

        request = made.remover.remove(free, b"x", made.caller(MAPS), directory=False)
        assert await between(made, request, moves) == errno.ESTALE
        assert (store / "locked/free/x").exists()
        assert [event for event in made.sink.events if event.operation == "unlink"] == []
        again = made.remover.remove(free, b"x", made.caller(MAPS), directory=False)
        assert await errno_of(again) == errno.EACCES


@on_trio
async def test_an_open_file_stays_usable_without_its_name(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        assert handle.node.parent is None
        assert made.tree.fstat(handle.fd).nlink == 0
        assert os.pread(handle.fd, len(PHOTO), 0) == PHOTO
        nodes = len(made.nodes)
        await made.release(handle)
        assert len(made.nodes) <= nodes


@on_trio
async def test_what_cannot_be_recorded_is_not_removed(store: Path) -> None:
    with parts(store, engine_of(OPEN.replace("}\n", ", audit: required}\n"))) as made:
        made.sink.broken = True
        request = made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        assert await errno_of(request) == errno.EIO
        assert (store / "a.jpg").exists()


@on_trio
async def test_one_of_two_names_leaves_the_other(store: Path) -> None:
    os.link(store / "a.jpg", store / "b.jpg")
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        assert await made.walk("/b.jpg", CAMERA) is node
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        assert [name for _, name in node.all_names()] == [b"b.jpg"]
        assert (await made.lookup.lookup(made.root, b"b.jpg", made.caller(CAMERA))).st_ino == node.nodeid


def _open_here(store: Path) -> list[str]:
    """Removed files of a store that this process still has open."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    found = (os.readlink(link) for link in links if os.path.lexists(link))
    return [path for path in found if path.startswith(str(store)) and path.endswith("(deleted)")]


@on_trio
async def test_a_large_file_is_freed_on_a_thread_and_before_the_answer(store: Path, monkeypatch) -> None:
    """The kernel frees a removed file with its last descriptor: on the loop, all other requests wait."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))
    (store / "two names").write_bytes(bytes(64 * 1024))
    os.link(store / "two names", store / "other name")
    closed: list[tuple[bool, str]] = []
    close = os.close

    def noted(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.endswith("(deleted)"):
            closed.append((threading.current_thread() is threading.main_thread(), Path(path).name))
        close(fd)

    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        monkeypatch.setattr(os, "close", noted)
        await made.remover.remove(made.root, b"large", caller, directory=False)
        assert _open_here(store) == []
        assert closed == [(False, "large (deleted)")]
        await made.remover.remove(made.root, b"two names", caller, directory=False)
        assert (store / "other name").exists()
        assert len(closed) == 1


@on_trio
async def test_the_last_close_of_a_large_removed_file_frees_it_on_a_thread(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))
    last: list[bool] = []
    close = os.close

    def noted(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        close(fd)
        if path.endswith("large (deleted)") and not _open_here(store):
            last.append(threading.current_thread() is threading.main_thread())

    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/large", os.O_RDWR, CAMERA)
        await made.remover.remove(made.root, b"large", made.caller(CAMERA), directory=False)
        assert handle.fd >= 0
        monkeypatch.setattr(os, "close", noted)
        await made.release(handle)
        wait_for(lambda: last, "the last descriptor is closed")
        assert True not in last


@on_trio
async def test_a_large_file_that_cannot_be_removed_leaves_no_descriptor(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))
    with parts(store, engine_of(OPEN)) as made:
        before = len(os.listdir("/proc/self/fd"))
        request = made.remover.remove(made.root, b"large", made.caller(CAMERA), directory=True)
        assert await errno_of(request) == errno.ENOTDIR
        assert len(os.listdir("/proc/self/fd")) == before


@on_trio
async def test_a_large_file_is_removed_without_a_free_descriptor_too(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))

    def without(*_: object) -> int:
        raise OSError(errno.EMFILE, "no descriptor")

    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        await made.walk("/large", CAMERA)
        monkeypatch.setattr(type(made.remover._tree), "open_path", without)
        await made.remover.remove(made.root, b"large", caller, directory=False)
    assert not (store / "large").exists()


@on_trio
async def test_a_large_file_is_freed_without_a_free_thread_too(store: Path, monkeypatch) -> None:
    """Otherwise its room would not be free before the daemon ends."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))

    async def without(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with parts(store, engine_of(OPEN)) as made:
        monkeypatch.setattr(trio.to_thread, "run_sync", without)
        await made.remover.remove(made.root, b"large", made.caller(CAMERA), directory=False)
        assert _open_here(store) == []
    assert not (store / "large").exists()


@on_trio
async def test_no_descriptor_keeps_a_large_file_of_a_network_store(store: Path, monkeypatch) -> None:
    """NFS would give a file in use another name, in place of removing it, and show it by that name."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    (store / "large").write_bytes(bytes(64 * 1024))

    def opened(*_: object) -> int:
        raise AssertionError("the file is in use when it is removed")

    with parts(store, engine_of(OPEN)) as made:
        fs = dataclasses.replace(made.fs, facts=dataclasses.replace(made.fs.facts, remote=True))
        remover = unlink.Remover(fs, entries=made.remover._entries, open_files=made.open_files)
        caller = made.caller(CAMERA)
        await made.walk("/large", CAMERA)
        monkeypatch.setattr(type(made.tree), "open_path", opened)
        await remover.remove(made.root, b"large", caller, directory=False)
    assert not (store / "large").exists()


@pytest.mark.parametrize("rules", ["owner", "type", "none", "redacted"])
def test_only_the_file_that_was_decided_on_is_removed(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    """Where the decision depends on nothing but the path, the kernel asks again, and the other file goes."""
    when = {"owner": ", when: {owner: self}", "type": ", when: {type: image/jpeg}"}.get(rules, "")
    text = f"""\
- {{id: look, allow: [see, read], who: {{app: any}}, paths: "/**"}}
- {{id: own, allow: [delete], who: {{app: camera}}, paths: "/**"{when}}}
"""

    if rules == "redacted":  # only what is read depends on the owner
        text += "- {id: hide, require: {redact: [location]}, unless: {owner: self}}\n"

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(text)) as made:
            caller = made.caller(CAMERA)
            fd = os.open(store / "a.jpg", os.O_RDWR)
            made.owners.set(fd, made.tree.fstat(fd), "camera")
            os.close(fd)
            before_names_are_locked(monkeypatch, lambda: replace(store / "a.jpg", b"another app's"))
            code = await errno_of(made.remover.remove(made.root, b"a.jpg", caller, directory=False))
            assert code == errno.ESTALE
            assert (store / "a.jpg").read_bytes() == b"another app's"
            assert sorted(os.listdir(store)) == ["a.jpg", "empty"]
            code = await errno_of(made.remover.remove(made.root, b"a.jpg", caller, directory=False))
            assert code == (0 if rules in {"none", "redacted"} else errno.EACCES)

    run()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_removal_that_waited_for_another_daemon_is_decided_anew(
    store: Path, tmp_path_factory: pytest.TempPathFactory, *, replaced: bool
) -> None:
    rules = """\
- {id: look, allow: [see, read], who: {app: any}, paths: "/**"}
- {id: own, allow: [delete], who: {app: camera}, paths: "/**", when: {owner: self}}
"""
    codes, latches = list[int](), tmp_path_factory.mktemp("run") / "lock"

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules), latches=latches) as there, parts(
            store, engine_of(rules), latches=latches
        ) as here, Tree.open(str(store)) as tree:  # fmt: skip
            fd = os.open(store / "a.jpg", os.O_RDWR)
            here.owners.set(fd, tree.fstat(fd), "camera")
            os.close(fd)

            async def remove() -> None:
                request = here.remover.remove(here.root, b"a.jpg", here.caller(CAMERA), directory=False)
                codes.append(await errno_of(request))

            name = (tree.root_fd, b"a.jpg")
            async with trio.open_nursery() as nursery, there.fs.name_lock.on("other", name):
                nursery.start_soon(remove)
                await trio.testing.wait_all_tasks_blocked()
                assert (codes, (store / "a.jpg").exists()) == ([], True)
                if replaced:
                    replace(store / "a.jpg", b"another app's")

    run()
    assert codes == [errno.EACCES if replaced else 0]
    assert (store / "a.jpg").exists() is replaced


def test_a_file_that_takes_the_name_of_a_symlink_stays_if_only_symlinks_may_go(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The type of a symlink needs no look at its content. But it says nothing about another file."""
    (store / "link").symlink_to("a.jpg")
    rules = """\
- {id: all, allow: [see, read, write, create, attr], who: {app: any}, paths: "/**"}
- {id: links, allow: [delete], who: {app: any}, paths: "/**", when: {type: inode/symlink}}
"""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            before_names_are_locked(monkeypatch, lambda: replace(store / "link", PHOTO))
            caller = made.caller(CAMERA)
            removed = made.remover.remove(made.root, b"link", caller, directory=False)
            assert await errno_of(removed) == errno.ESTALE
            assert (store / "link").read_bytes() == PHOTO
            removed = made.remover.remove(made.root, b"link", caller, directory=False)
            assert await errno_of(removed) == errno.EACCES

    run()
