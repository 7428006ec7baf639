"""Changes that nobody can try again, while another daemon changes the file: pages, and the last release."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio

from policyfs.fs.checked import change_lock
from policyfs.fs.namespace.setattr import Change
from policyfs.store.locking.latches import Latches
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, PHOTO, TYPES, errno_of

EMPTIED = Change(mode=None, uid=None, gid=None, size=0, atime_ns=None, mtime_ns=None, kill_priv=False)
NO_PEOPLE = OPEN + '- {id: no, require: {no: [people]}, paths: "/**"}\n'


@pytest.fixture
def latches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of latches that two daemons share. A change waits only a moment."""
    monkeypatch.setattr(change_lock, "_WAIT_S", 0.05)
    return tmp_path / "latches"


async def beside_another_daemon(latches: Path, fd: int, request: Awaitable[object]) -> int:
    """Make a request while another daemon changes the file, for longer than most changes wait: its errno."""
    there, found = Latches(str(latches)), list[int]()
    at = there.take(fd)
    assert at is not None

    async def make() -> None:
        found.append(await errno_of(request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        await trio.sleep(0.3)
        early = list(found)
        there.give(at)
    there.close()
    return early[0] if early else found[0]


@pytest.mark.parametrize("rules", [OPEN, OPEN + TYPES, NO_PEOPLE], ids=["unchecked", "head", "draft"])
def test_a_page_waits_for_another_daemon(store: Path, latches: Path, rules: str) -> None:
    (store / "a.jpg").write_bytes(PHOTO + bytes(8192))

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules), latches=latches) as made:
            handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
            page = made.writer.write(handle, len(PHOTO), b"new", append=False, kill_priv=False, back=True)
            assert await beside_another_daemon(latches, handle.fd, page) == 0
            assert bytes(await made.reader.read(handle, len(PHOTO), 3)) == b"new"

    run()


def test_a_release_that_empties_the_file_waits_for_another_daemon(store: Path, latches: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(NO_PEOPLE), latches=latches) as made:
            handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
            assert await errno_of(made.sync.flush(handle)) == 0
            assert await beside_another_daemon(latches, handle.fd, made.release(handle)) == 0
            assert (store / "a.jpg").read_bytes() == b""

    run()


def test_a_truncation_by_path_does_not_wait_for_another_daemon(store: Path, latches: Path) -> None:
    """Its app gets the answer, and can try again."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(NO_PEOPLE), latches=latches) as made:
            node, fd = await made.walk("/a.jpg", CAMERA), os.open(store / "a.jpg", os.O_RDONLY)
            try:
                cut = made.attribute_setter.setattr(node, EMPTIED, None, made.caller(CAMERA))
                assert await beside_another_daemon(latches, fd, cut) == errno.EBUSY
            finally:
                os.close(fd)
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()
