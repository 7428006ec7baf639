"""Writes of mediated handles: decided each time, counted, and pages dropped if refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from policyfs.fs.access.audit import Call
from policyfs.fs.inodes.handles import Handle
from policyfs.store import freeing
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, PHOTO, TYPES, beside, errno_of, racing

READ_ONLY = '- {id: look, allow: [see, read], who: {app: any}, paths: "/**"}\n'


async def opened(made: Parts, path: str = "/a.jpg", flags: int = os.O_RDWR) -> Handle:
    return await made.open(path, flags, CAMERA)


@on_trio
async def test_bytes_are_written_and_counted(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made)
        assert await made.write(handle, 3, b"abc") == 3
        assert await made.write(handle, len(PHOTO) + 5, b"xy") == 2
        assert handle.bytes_written == 5
        data = (store / "a.jpg").read_bytes()
        assert data == PHOTO[:3] + b"abc" + PHOTO[6:] + bytes(5) + b"xy"
        assert made.notes.pages == []


@on_trio
async def test_an_append_goes_to_the_present_end(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made, "/empty")
        (store / "empty").write_bytes(b"another's")
        written = await made.writer.write(handle, 0, b" and ours", append=True, kill_priv=False)
        assert written == 9
        assert (store / "empty").read_bytes() == b"another's and ours"


@on_trio
async def test_a_policy_that_came_meanwhile_counts_and_the_page_is_dropped(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made)
        made.reload(engine_of(READ_ONLY))
        assert await errno_of(made.write(handle, 0, b"abc")) == errno.EACCES
        assert made.notes.pages == [handle.node.nodeid]
        assert await errno_of(made.writer.truncate(handle, 0)) == errno.EACCES
        assert await errno_of(made.writer.allocate(handle, 0, 0, 1 << 16)) == errno.EACCES
        assert (store / "a.jpg").read_bytes() == PHOTO
        assert handle.bytes_written == 0
        syscalls = [event.syscall for event in made.sink.events if event.decision == "deny"]
        assert syscalls == ["write", "write", "fallocate"]


@on_trio
async def test_a_write_back_never_makes_a_file_longer(store: Path) -> None:
    """Bytes behind its end were cut off since."""
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made)
        os.truncate(store / "a.jpg", 10)
        back = {"append": False, "kill_priv": False, "back": True}
        assert await made.writer.write(handle, 8, b"abcdef", **back) == 6
        assert (store / "a.jpg").read_bytes() == PHOTO[:8] + b"ab"
        assert await made.writer.write(handle, 4096, b"abcdef", **back) == 6
        assert (store / "a.jpg").stat().st_size == 10
        assert handle.bytes_written == 2


@pytest.mark.parametrize("how", ["write", "allocate"])
def test_set_id_bits_go_with_a_write(store: Path, how: str) -> None:
    os.chmod(store / "a.jpg", 0o6755)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            handle = await opened(made)
            if how == "write":
                await made.writer.write(handle, 0, b"x", append=False, kill_priv=True)
            else:
                await made.writer.allocate(handle, 0, 0, 1)
            assert stat.S_IMODE(os.stat(store / "a.jpg").st_mode) & 0o6000 == 0

    run()


@on_trio
async def test_a_file_is_cut_and_its_size_set(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made)
        await made.writer.truncate(handle, 5)
        assert (store / "a.jpg").read_bytes() == PHOTO[:5]
        await made.writer.set_size(handle, 7, Call("truncate", "truncate"))
        assert (store / "a.jpg").read_bytes() == PHOTO[:5] + bytes(2)


@on_trio
async def test_a_range_is_copied_within_the_store_but_not_where_bytes_are_checked(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made, "/empty")
        source = os.open(store / "a.jpg", os.O_RDONLY)
        assert await made.writer.copy_into(handle, source, 2, 0, 10) == 10
        assert (store / "empty").read_bytes() == PHOTO[2:12]
        assert handle.bytes_written == 10
        made.reload(engine_of(OPEN + TYPES))
        assert await errno_of(made.writer.copy_into(handle, source, 0, 0, 10)) == errno.EOPNOTSUPP
        made.reload(engine_of(READ_ONLY))
        assert await errno_of(made.writer.copy_into(handle, source, 0, 0, 10)) == errno.EACCES
        os.close(source)
        assert (store / "empty").read_bytes() == PHOTO[2:12]


@on_trio
async def test_a_requirement_that_came_after_the_open_is_checked(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await opened(made, "/empty")
        made.reload(engine_of(OPEN + TYPES))
        assert await errno_of(made.write(handle, 0, b"words, no photo" * 100)) == errno.EPERM
        assert (store / "empty").read_bytes() == b""
        assert handle.node.nodeid in made.notes.pages
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        assert (store / "empty").read_bytes() == PHOTO


async def _reloading(made: Parts, rules: str) -> None:
    made.reload(engine_of(rules))


CHANGES: dict[str, Callable[[Parts, Handle], Awaitable[object]]] = {
    "write": lambda made, handle: made.write(handle, 0, PHOTO[:4]),
    "append": lambda made, handle: made.writer.write(handle, 0, b"x", append=True, kill_priv=False),
    "page": lambda made, handle: made.writer.write(
        handle, 0, PHOTO[:4], append=False, kill_priv=False, back=True
    ),
    "empty": lambda made, handle: made.writer.truncate(handle, 0),
    "cut": lambda made, handle: made.writer.truncate(handle, len(PHOTO) - 2),
    "allocate": lambda made, handle: made.writer.allocate(handle, 0, 0, 1 << 16),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_policy_that_came_while_a_change_waited_for_another_one_decides(store: Path, change: str) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + TYPES)) as made:
            handle = await opened(made)
            waiting = CHANGES[change](made, handle)
            assert await racing(made, handle, waiting, _reloading(made, READ_ONLY)) == [errno.EACCES, 0]
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_waited_is_made_once_if_the_new_policy_allows_it(store: Path, change: str) -> None:
    @on_trio
    async def run() -> None:
        (store / "twin").write_bytes(PHOTO)
        with parts(store, engine_of(OPEN + TYPES)) as made:
            handle, twin = await opened(made), await opened(made, "/twin")
            waiting = CHANGES[change](made, handle)
            assert await racing(made, handle, waiting, _reloading(made, OPEN + TYPES)) == [0, 0]
            await CHANGES[change](made, twin)
            assert (store / "a.jpg").read_bytes() == (store / "twin").read_bytes()
            assert handle.bytes_written == twin.bytes_written

    run()


@pytest.mark.parametrize("rules", [OPEN, OPEN + TYPES], ids=["direct", "checked"])
@pytest.mark.parametrize("change", ["large", "cut", "allocate", "copy", "set_size"])
def test_a_policy_that_came_before_any_thread_of_a_change_decides(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str, change: str
) -> None:
    """A thread may wait for its turn."""
    monkeypatch.setattr(freeing, "is_much", lambda stat, size: True)
    run_sync = trio.to_thread.run_sync

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            handle, source = await opened(made), await opened(made, "/empty")

            async def late(function, *arguments, **named):
                def first():
                    trio.from_thread.run_sync(made.reload, engine_of(READ_ONLY))
                    return function(*arguments)

                monkeypatch.undo()
                monkeypatch.setattr(freeing, "is_much", lambda stat, size: True)
                return await run_sync(first, **named)

            waiting = {
                "large": lambda: made.write(handle, 0, PHOTO + bytes(1 << 17)),
                "cut": lambda: made.writer.truncate(handle, len(PHOTO) - 2),
                "allocate": lambda: made.writer.allocate(handle, 0, 0, 1 << 16),
                "copy": lambda: made.writer.copy_into(handle, source.fd, 0, 0, 10),
                "set_size": lambda: made.writer.set_size(handle, 0, Call("truncate", "truncate")),
            }[change]()
            monkeypatch.setattr(trio.to_thread, "run_sync", late)
            refused = errno.EOPNOTSUPP if change == "copy" and rules != OPEN else errno.EACCES
            assert await errno_of(waiting) == refused
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()


@pytest.mark.parametrize("rules", [OPEN, OPEN + TYPES], ids=["direct", "checked"])
def test_a_policy_that_came_before_the_thread_of_a_truncation_decides(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    """Threads are limited in number: a thread may begin long after the event loop has decided."""
    monkeypatch.setattr(freeing, "is_much", lambda stat, size: True)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            handle = await opened(made)
            beside(monkeypatch, lambda: trio.from_thread.run_sync(made.reload, engine_of(READ_ONLY)))
            cut = made.writer.truncate(handle, 0, by_path=rules != OPEN)  # else it begins a draft
            assert await errno_of(cut) == errno.EACCES
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()
