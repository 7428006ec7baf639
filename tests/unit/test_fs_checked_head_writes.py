"""Writes judged by the resulting first bytes, where somebody else comes between two steps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    append,
    beside,
    between,
    errno_of,
)
from tests.support.samples import jpegs


@on_trio
async def test_a_file_opened_only_to_empty_it_does_not_keep_a_refused_one_alive(store: Path) -> None:
    """open(O_RDONLY|O_TRUNC) is no writer: the last writer's release settles what is held."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        reader = await made.open("/new", os.O_RDONLY | os.O_TRUNC, MAPS)
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        await made.release(handle)
        assert not (store / "new").exists()
        await made.release(reader)


def overlaid(*offsets: int) -> bytes:
    """The photo with words written into it."""
    photo = PHOTO
    for offset in offsets:
        photo = photo[:offset] + b"words of mine" + photo[offset + 13 :]
    return photo


@on_trio
async def test_a_write_judged_on_the_old_bytes_does_not_follow_their_end(store: Path) -> None:
    """O_TRUNC comes while a write at byte 1 is judged: the file must not become one zero and the rest."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first = await made.open("/a.jpg", os.O_RDWR, MAPS)
        opened = []

        async def empty() -> None:
            opened.append(await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, MAPS))

        await between(made, made.write(first, 3, b"words of mine"), empty)
        assert await errno_of(made.write(first, 5, b"words of mine")) == 0  # into a draft
        assert await errno_of(made.sync.flush(first)) == errno.EPERM
        for handle in (first, *opened):
            await made.release(handle)
    assert (store / "a.jpg").read_bytes() in (PHOTO, overlaid(3))


@on_trio
async def test_a_write_judged_in_one_view_does_not_follow_the_end_of_the_bytes_in_another(store) -> None:
    """Two apps together: one's write is judged while the other, in a view of its own, empties the file."""
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        first = await made.open("/a.jpg", os.O_RDWR, MAPS)
        opened = []

        async def empty() -> None:
            opened.append(await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY))

        await between(made, made.write(first, 3, b"words of mine"), empty)
        assert opened[0].node is not first.node
        await errno_of(made.write(first, 5, b"words of mine"))
        for handle in (first, *opened):
            await made.release(handle)
    assert (store / "a.jpg").read_bytes() in (b"", PHOTO, overlaid(3), overlaid(3, 5))


@on_trio
async def test_two_writes_judged_by_two_names_are_not_laid_over_each_other(store: Path) -> None:
    """Each would be fine by itself: the second is judged on what the first has made of the file."""
    photo = jpegs.plain(1, 64)
    (store / "d").mkdir()
    os.link(store / "empty", store / "d/too")
    elsewhere = '- {id: elsewhere, deny: [attr], who: {app: gallery}, paths: "/d/**"}\n'
    with parts(store, engine_of(OPEN + TYPES + elsewhere)) as made:
        first = await made.open("/empty", os.O_RDWR, MAPS)
        second = await made.open("/d/too", os.O_RDWR, MAPS)
        assert first.node is not second.node
        said: list[int] = []

        async def other() -> None:  # no photo without the first two bytes of the other
            said.append(await errno_of(made.write(second, 2, b"words")))

        assert await between(made, made.write(first, 0, photo), other) == 0
        assert said == [errno.EPERM]
        for handle in (first, second):
            await errno_of(made.release(handle))
    assert (store / "empty").read_bytes() == photo


@on_trio
async def test_a_requirement_that_a_reload_brings_holds_for_open_handles(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(CAMERA))
        raw = await made.open("/empty", os.O_RDWR, MAPS)
        made.reload(engine_of(REDACTED + TYPES))
        for one in (handle, raw):
            assert await errno_of(made.write(one, 0, b"words")) in (0, errno.EPERM)
            await errno_of(made.sync.flush(one))
            await made.release(one)
    assert (store / "empty").read_bytes() == b""
    assert (store / "new").read_bytes() == b""


@on_trio
async def test_a_refused_new_file_that_another_view_has_opened_meanwhile_stays(store: Path) -> None:
    """Its maker's last close is still being judged when another app, unchecked, empties and writes it."""
    types = TYPES.replace("require", "who: {app: maps}, require")
    with parts(store, engine_of(REDACTED + types)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        await made.write(handle, 0, PHOTO[:2])
        said: list[int] = []

        async def other() -> None:
            second = await made.open("/new", os.O_RDWR | os.O_TRUNC, GALLERY)
            said.append(await errno_of(made.write(second, 0, b"words")))
            await made.release(second)

        assert await between(made, made.release(handle), other) == 0
        assert said == [0]
    assert (store / "new").read_bytes() == b"words"


@on_trio
async def test_a_change_of_the_rest_of_a_file_before_a_write_of_it_calls_for_a_new_check(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 5, right after its check: the judged first bytes are still the same, and the file is not."""
    photo = PHOTO.ljust(HEAD_BYTES + 1, b"\0")
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        assert await made.write(handle, 0, photo) == len(photo)
        came = [b"words"]
        beside(monkeypatch, lambda: came and append(store / "a.jpg", came.pop()))
        assert await errno_of(made.write(handle, len(photo), b"mine")) == errno.EACCES
        assert not came
        await made.release(handle)
    assert (store / "a.jpg").read_bytes() == photo + b"words"


@on_trio
async def test_a_write_behind_the_first_bytes_does_not_follow_a_cut_into_them(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not judged, since it was far behind them. By now it would make new first bytes."""
    (store / "a.jpg").write_bytes(PHOTO.ljust(HEAD_BYTES + 1, b"\0"))
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)
        came = [b"words"]
        beside(monkeypatch, lambda: came and (store / "a.jpg").write_bytes(came.pop()), fenced=False)
        assert await errno_of(made.write(handle, HEAD_BYTES, b"mine")) == errno.EPERM
        assert not came
        await made.release(handle)
    assert (store / "a.jpg").read_bytes() == b"words"


CHANGES = {
    "write": lambda made, handle: made.write(handle, 3, b"mine"),
    "truncate": lambda made, handle: made.writer.truncate(handle, 64),
    "punch": lambda made, handle: made.writer.allocate(handle, KEEP_SIZE | PUNCH_HOLE, 3, 4),
}


@pytest.mark.parametrize("change", CHANGES)
@on_trio
async def test_a_change_judged_on_a_photo_is_not_made_to_words(store: Path, change: str) -> None:
    """Another program writes words over the photo while the change is judged."""
    words = b"words".ljust(len(PHOTO), b".")
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)

        async def other() -> None:
            (store / "a.jpg").write_bytes(words)

        assert await between(made, CHANGES[change](made, handle), other) == errno.EPERM
        await made.release(handle)
    assert (store / "a.jpg").read_bytes() == words


@pytest.mark.parametrize("change", CHANGES)
@on_trio
async def test_a_change_of_a_file_that_never_rests_ends(
    store: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)
        beside(monkeypatch, lambda: append(store / "a.jpg", b"."))
        assert await errno_of(CHANGES[change](made, handle)) == errno.EBUSY
        await made.release(handle)
    assert (store / "a.jpg").read_bytes().rstrip(b".") == PHOTO.rstrip(b".")


@on_trio
async def test_a_file_gets_a_draft_where_heads_hold_too_many_bytes(store: Path, monkeypatch) -> None:
    """It is judged as a head would be: at its close."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        held_bytes = made.handles.held_bytes
        monkeypatch.setattr(held_bytes, "limit", 2 * len(PHOTO))
        made_files = []
        for name in (b"one", b"two"):
            handle, _ = await made.creator.create(made.root, name, 0o644, os.O_RDWR, made.caller(MAPS))
            assert await made.write(handle, 0, PHOTO[:1]) == 1
            made_files.append(handle)
        one, two = made_files
        assert (one.node.open.draft, two.node.open.draft) == (None, None)
        monkeypatch.setattr(held_bytes, "limit", 0)
        assert await made.write(two, 1, PHOTO[1:2]) == 1
        assert two.node.open.draft is not None
        assert await made.write(two, 2, PHOTO[2:]) == len(PHOTO) - 2
        await made.sync.flush(two)
        assert (store / "two").read_bytes() == PHOTO
        assert await errno_of(made.sync.flush(one)) == errno.EPERM
        for handle in made_files:
            await made.release(handle)
        assert held_bytes.used == 0
    assert not (store / "one").exists()
