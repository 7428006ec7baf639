"""A page that the kernel writes back, and a truncation that comes while it is written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from policyfs.fs.data import write_paths
from policyfs.fs.inodes.handles import Handle
from policyfs.store import freeing
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN

SECRET = b"secret!!" * 500


async def _opened(made: Parts) -> Handle:
    return await made.open("/words", os.O_RDWR, CAMERA)


async def _write_back(made: Parts, handle: Handle) -> None:
    await made.writer.write(handle, 0, SECRET, append=False, kill_priv=False, back=True)


@pytest.mark.parametrize("daemons", [1, 2])
@pytest.mark.parametrize("much", [False, True], ids=["on-the-loop", "on-a-thread"])
def test_no_truncation_comes_between_a_pages_look_at_the_size_and_its_write(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemons: int, much: bool
) -> None:
    """In a store that may hang, a thread writes the page. Else the cut bytes would come back."""
    monkeypatch.setattr(freeing, "is_much", lambda stat, size: much)
    (store / "words").write_bytes(SECRET)
    go, put_all = threading.Event(), write_paths.put_all
    looked = trio.Event()

    def late(fd: int, data: bytes, offset: int) -> None:
        trio.from_thread.run_sync(looked.set)
        assert go.wait(10)
        put_all(fd, data, offset)

    monkeypatch.setattr(write_paths, "put_all", late)

    @on_trio
    async def run() -> None:
        engine, latches = engine_of(OPEN), tmp_path / "latches"
        with parts(store, engine, latches=latches) as here, parts(store, engine, latches=latches) as there:
            here.writer._direct._remote = True
            other = (here, there)[daemons - 1]
            handle, cutting = await _opened(here), await _opened(other)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write_back, here, handle)
                await looked.wait()
                nursery.start_soon(other.writer.truncate, cutting, 5)
                await trio.sleep(0.1)
                assert (store / "words").stat().st_size == len(SECRET)
                go.set()
            assert (store / "words").read_bytes() == SECRET[:5]

    run()


def test_a_page_waits_for_a_truncation_on_a_thread(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has the file's lock. The page is written by the size that the truncation leaves."""
    monkeypatch.setattr(freeing, "is_much", lambda stat, size: True)
    (store / "words").write_bytes(SECRET)
    begun, put_all, cut = threading.Event(), write_paths.put_all, threading.Event()
    started = trio.Event()

    def late(fd: int, data: bytes, offset: int) -> None:
        begun.set()
        cut.wait(0.5)
        put_all(fd, data, offset)

    monkeypatch.setattr(write_paths, "put_all", late)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            truncate = type(made.tree).truncate_fd

            def slow(self: object, fd: int, size: int) -> None:
                trio.from_thread.run_sync(started.set)
                begun.wait(0.5)
                truncate(self, fd, size)
                cut.set()

            monkeypatch.setattr(type(made.tree), "truncate_fd", slow)
            handle, cutting = await _opened(made), await _opened(made)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.writer.truncate, cutting, 5)
                await started.wait()
                nursery.start_soon(_write_back, made, handle)
            assert (store / "words").read_bytes() == SECRET[:5]

    run()
