"""Copies of a dead daemon: what shows them reads on, and a descriptor under a known number gives nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.redacted import restored_copies
from policyfs.fs.redacted.restored_copies import RestoredFilm
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store import frozen
from policyfs.store.frozen import Frozen
from tests.support.machine.inchild import in_child
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks
from tests.unit.test_fs_saved_saved_copies import COPY

GALLERY = 10011
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
HIDE = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(PHOTO if name == "a.jpg" else PHOTO + b"more")
    return tmp_path / "a.jpg"


def taken_over(photo: Path, between: Callable[[Handle, Handle], None] = lambda _a, _b: None,
               policy: str = HIDE) -> list[Any]:  # fmt: skip
    """In a process of its own, so that no descriptor counts afterwards: what a reader of a.jpg gets after the
    take-over (bytes as hex, or an errno); how many handles went on; and what a new reader gets."""

    def process() -> list[Any]:
        state, found = SavedState(100), []

        async def before() -> None:
            old = Parts(photo.parent, engine_of(HIDE))
            old.whole.restoration.save_to(state)
            first, second = [await old.open(f"/{name}.jpg", os.O_RDONLY, GALLERY) for name in "ab"]
            assert first.node.byte_path is BytePath.COPY
            between(first, second)
            found.append(first.fh)

        async def after() -> None:
            new = Parts(photo.parent, engine_of(policy))
            restored = new.whole.restoration.restore(state)
            for handle in (lambda: new.handles.get(found[0]), None):
                try:
                    reader = await new.open("/a.jpg", os.O_RDONLY, GALLERY) if handle is None else handle()
                    found.append(bytes(await new.data.reader.read(reader, 0, 1 << 20)).hex())
                    if handle is None:
                        await new.release(reader)
                except OSError as error:
                    found.append(error.errno)
            for one in list(new.handles):
                new.opener.close(one)
            assert new.copies.stats().pinned == 0
            found[0] = restored

        trio.run(before)
        trio.run(after)
        return found

    return cast(list[Any], in_child(process))


def test_a_reader_goes_on_with_the_same_bytes(photo: Path) -> None:
    def change(_first: Handle, _second: Handle) -> None:
        photo.write_bytes(PHOTO + b"another")

    handles, read, again = taken_over(photo)
    assert handles == 2
    assert read == again
    assert len(bytes.fromhex(read)) == len(PHOTO)
    assert not leaks(bytes.fromhex(read))
    assert taken_over(photo, change)[:2] == [2, read]


def planted(first: Handle, _second: Handle) -> None:
    """Plant the photo itself under all numbers by which the daemon knows its copy."""
    raw = os.open(first.node.name, os.O_RDONLY, dir_fd=os.open(PLACE[0], os.O_PATH))
    assert first.copy is not None
    for fd in (first.fd, first.copy.frozen.fd):
        os.dup2(raw, fd)


PLACE: list[Path] = []


@pytest.mark.parametrize("guarded", [True, False])
def test_a_descriptor_planted_under_a_known_number_gives_nothing(
    photo: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLACE[:] = [photo.parent]
    if not guarded:  # as if the record alone gave a right
        def adopted(fd: int, how: Any, version: Any, memory: int) -> Frozen:
            made = Frozen(fd, how, version.size, version, memory=memory)
            made.sealed = True
            return made

        def believed(self: Any, node: Any, _fd: int, _backing_id: int) -> Any:
            return next((one for one in self._by_inode.values() if one.copy.key.ino_key == node.ino), None)

        saved = restored_copies.RestoredCopies._restored
        monkeypatch.setattr(frozen, "adopt", adopted)
        monkeypatch.setattr(restored_copies.RestoredCopies, "of", believed)
        monkeypatch.setattr(
            restored_copies.RestoredCopies, "_restored",
            lambda self, one: saved(self, one._replace(inode=restored_copies.inode_of(one.fd))),
        )  # fmt: skip
    handles, read, again = taken_over(photo, planted)
    if guarded:
        assert (handles, read) == (1, errno.EIO)
        assert not leaks(bytes.fromhex(again))
    else:
        assert leaks(bytes.fromhex(read))


class Plans:
    """A finder of plans with the answers of a list, one for each film that is located."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = list(kinds)

    async def locate(self, _fd: int, what: frozenset[str], **_named: Any) -> tuple[str, Plan]:
        assert what == COPY.hidden
        return self.kinds.pop(0), Plan(Outcome.PATCH)

    def film(self, _kind: str, _plan: Plan, _what: frozenset[str]) -> Any:
        return self

    async def read(self, _fd: int, offset: int, size: int, _lane: object) -> tuple[memoryview, str]:
        return memoryview(b"film")[offset : offset + size], ""


@on_trio
async def test_a_film_is_located_once_more_and_must_be_of_the_same_kind() -> None:
    plans: Any = Plans("text/plain", COPY.kind or "")
    film = RestoredFilm(plans, COPY._replace(is_film=True))
    data, why = await film.read(3, 0, 2, "app")
    assert (bytes(data), bool(why)) == (b"", True)
    for _ in range(2):
        assert await film.read(3, 1, 2, "app") == (b"il", "")
    assert plans.kinds == []


def test_another_photo_s_copy_is_of_no_use(photo: Path) -> None:
    def swapped(first: Handle, second: Handle) -> None:
        os.dup2(second.fd, first.fd)

    handles, read, _ = taken_over(photo, swapped)
    assert (handles, read) == (1, errno.EIO)


def test_a_view_that_the_policy_does_not_give_ends_its_handles(photo: Path) -> None:
    handles, read, again = taken_over(photo, policy=HIDE.replace("location", "time"))
    assert (handles, read) == (0, errno.EIO)
    assert bytes.fromhex(again)
