"""Snapshots of directories, without a kernel in front: when they are taken, and what undecided names do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from policyfs.fs.namespace.snapshots import Snapshots
from policyfs.fs.sharing.kernel_locks import LateError
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import PHOTO

GALLERY = 10011
BY_KIND = '- {id: photos, allow: [see], who: {app: any}, when: {type: image/*}, paths: "/**"}\n'
BY_PATH = '- {id: photos, allow: [see], who: {app: any}, paths: "/d/*.jpg"}\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "d" / name).write_bytes(PHOTO)
    return tmp_path


async def opened(made: Parts) -> int:
    directory = await made.walk("/d", GALLERY)
    return await made.listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF


@pytest.mark.parametrize(("policy", "at_open"), [(BY_KIND, 1), (BY_PATH, 0)])
def test_a_snapshot_is_taken_at_the_open_if_facts_decide(
    store: Path, monkeypatch: pytest.MonkeyPatch, policy: str, at_open: int
) -> None:
    taken: list[int] = []
    take = Snapshots.take

    async def counted(self: Snapshots, listing: Any) -> Any:
        taken.append(1)
        return await take(self, listing)

    @on_trio
    async def run() -> None:
        monkeypatch.setattr(Snapshots, "take", counted)
        with parts(store, engine_of(policy)) as made:
            index = await opened(made)
            assert len(taken) == at_open
            names = await made.listings.names(index, 0, 4096)
            assert b"a.jpg" in names
            assert b"b.jpg" in names
            assert len(taken) == 1, "the first READDIR uses it"
            await made.listings.names(index, 0, 4096)
            assert len(taken) == 2, "a second beginning does not"
            await made.listings.releasedir(index)
            assert made.listings.open.shares.used == 0

    run()


def test_a_listing_without_an_undecided_name_ends_with_an_error(store: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(BY_KIND)) as made:
            kind_of_fd = made.sniffed.kind_of_fd
            left = [LateError(errno.EIO)]

            async def once_late(fd: int, **named: Any) -> Any:
                if left:
                    raise left.pop()
                return await kind_of_fd(fd, **named)

            made.sniffed.kind_of_fd = once_late
            index = await opened(made)
            names = await made.listings.names(index, 0, 4096)
            assert (b"a.jpg" in names) + (b"b.jpg" in names) == 1
            with pytest.raises(OSError, match="could not be decided") as ends:
                await made.listings.names(index, 2**62, 4096)
            assert ends.value.errno == errno.EIO
            await made.listings.releasedir(index)

    run()
