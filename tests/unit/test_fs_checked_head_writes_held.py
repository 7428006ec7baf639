"""Held first bytes: stored, refused or dropped at FLUSH, fsync and the last RELEASE."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.inodes.handles import Handle
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
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

START = PHOTO[:2]
"""Held as long as only photos are allowed: it may become one."""
UNNAMED = TYPES.replace("image/jpeg", "application/octet-stream")
"""A later policy that allows START, and forbids photos."""
NO_WRITE = '- {id: closed, deny: [write], who: {app: any}, paths: "/**"}\n'
REST = bytes(len(START)) + PHOTO[len(START) :]
"""Allowed under UNNAMED, as START is; with START laid over it, it is a photo."""


async def holding(made: Parts, uid: int = MAPS) -> Handle:
    """Create a file and write START into it."""
    handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(uid))
    assert await made.write(handle, 0, START) == len(START)
    assert (made.store / "new").read_bytes() == b"", "held"
    return handle


def held(handle: Handle) -> bytes | None:
    """Return the held bytes of an open file."""
    assert handle.node.open is not None
    assert handle.node.open.head is not None
    return handle.node.open.head.held


@pytest.mark.parametrize("call", ["flush", "fsync", "fsync of a reader"])
@on_trio
async def test_held_bytes_that_came_to_be_allowed_are_stored_at_flush_and_fsync(store, call: str) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        reader = await made.open("/new", os.O_RDONLY, MAPS)

        def settle():
            if call == "flush":
                return made.sync.flush(handle)
            return made.sync.fsync(handle if call == "fsync" else reader, datasync=False)

        assert await errno_of(settle()) == errno.EPERM
        assert (held(handle), (store / "new").read_bytes()) == (START, b"")
        made.reload(engine_of(OPEN + UNNAMED))
        assert await errno_of(settle()) == 0
        assert (held(handle), (store / "new").read_bytes()) == (None, START)
        for one in (handle, reader):
            await made.release(one)
    assert (store / "new").read_bytes() == START


@on_trio
async def test_held_bytes_of_who_may_write_no_longer_are_not_stored_at_flush(store: Path) -> None:
    """They stay held: a later policy may allow the write again."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + NO_WRITE))
        assert await errno_of(made.sync.flush(handle)) == errno.EACCES
        assert (held(handle), (store / "new").read_bytes()) == (START, b"")
        made.reload(engine_of(OPEN))
        assert await errno_of(made.sync.flush(handle)) == 0
        assert (store / "new").read_bytes() == START
        await made.release(handle)


@pytest.mark.parametrize("before", [b"", b"words of another"], ids=["empty", "written"])
@on_trio
async def test_bytes_that_come_while_a_flush_judges_are_judged_with_the_held_ones(store, before) -> None:
    """Held and stored bytes, each allowed by itself, would together be a photo, which is not allowed."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))
        append(store / "new", before)

        async def other() -> None:
            (store / "new").write_bytes(REST)

        assert await between(made, made.sync.flush(handle), other) == errno.EPERM
        assert (held(handle), (store / "new").read_bytes()) == (START, REST)
        await made.release(handle)
    assert (store / "new").read_bytes() == REST


@on_trio
async def test_held_bytes_are_stored_over_those_that_came_while_a_flush_judged(store: Path) -> None:
    """They are allowed together."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))

        async def other() -> None:
            (store / "new").write_bytes(b"words")

        assert await between(made, made.sync.flush(handle), other) == 0
        assert (held(handle), (store / "new").read_bytes()) == (None, START + b"rds")
        await made.release(handle)
    assert (store / "new").read_bytes() == START + b"rds"


@on_trio
async def test_held_bytes_that_came_to_be_allowed_are_stored_at_the_last_release(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))
        await made.release(handle)
    assert (store / "new").read_bytes() == START


@on_trio
async def test_a_release_that_is_not_the_last_leaves_held_bytes_to_the_other_writer(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first = await holding(made)
        second = await made.open("/new", os.O_RDWR, MAPS)
        made.reload(engine_of(OPEN + UNNAMED))
        await made.release(first)
        assert (held(second), (store / "new").read_bytes()) == (START, b"")
        await made.release(second)
    assert (store / "new").read_bytes() == START


@pytest.mark.parametrize("sniffs", [True, False], ids=["refused", "allowed"])
@on_trio
async def test_held_bytes_go_to_a_writer_that_opens_while_the_last_release_judges(
    store: Path, sniffs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are neither dropped nor stored: that writer goes on with them, here with the rest of the photo."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, length = await holding(made), len(START)
        if not sniffs:  # a whole photo is held, since nobody can tell its kind
            with monkeypatch.context() as failing:
                failing.setattr(made.sniffed, "_kind", lambda _: None)
                length += await made.write(first, length, PHOTO[length:-2])
        opened: list[Handle] = []

        async def other() -> None:
            opened.append(await made.open("/new", os.O_RDWR, MAPS))

        assert await between(made, made.release(first), other) == 0
        (second,) = opened
        assert (held(second), (store / "new").read_bytes()) == (PHOTO[:length], b"")
        assert await made.write(second, length, PHOTO[length:]) == len(PHOTO) - length
        await made.release(second)
    assert (store / "new").read_bytes() == PHOTO


@pytest.mark.parametrize(
    ("came", "left"), [(REST, REST), (b"words", START + b"rds")], ids=["refused", "allowed"]
)
@on_trio
async def test_bytes_that_come_while_the_last_release_judges_are_judged_with_the_held_ones(
    store: Path, came: bytes, left: bytes
) -> None:
    """The release has judged by the empty file. A file with bytes of others is not removed."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))

        async def other() -> None:
            (store / "new").write_bytes(came)

        assert await between(made, made.release(handle), other) == 0
    assert (store / "new").read_bytes() == left


@on_trio
async def test_held_bytes_of_who_may_write_no_longer_are_dropped_at_the_last_release(store: Path) -> None:
    """The new file goes with them: its writer never wanted it empty."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + NO_WRITE))
        await made.release(handle)
    assert not (store / "new").exists()


@on_trio
async def test_a_last_release_stores_nothing_over_bytes_that_the_app_may_not_change(store: Path) -> None:
    """Rule 5: the app emptied the file, and another has written it since. Nobody waits for the refusal."""
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        assert await made.write(handle, 0, START) == len(START)
        made.reload(engine_of(REDACTED + UNNAMED))

        async def other() -> None:
            (store / "a.jpg").write_bytes(b"words")

        assert await between(made, made.release(handle), other) == 0
        told = [(event.operation, event.errno) for event in made.sink.events]
        assert told[-2:] == [("write", errno.EACCES), ("release", 0)]
    assert (store / "a.jpg").read_bytes() == b"words"


@on_trio
async def test_a_cut_waits_until_the_held_bytes_are_over_those_that_came(store: Path) -> None:
    """Others have written the file; while it is judged with the held bytes, they write it again."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))
        append(store / "new", b"words")

        async def other() -> None:
            (store / "new").write_bytes(b"other words")

        assert await between(made, made.writer.truncate(handle, 4), other) == 0
        assert (held(handle), (store / "new").read_bytes()) == (None, START + b"he")
        await made.release(handle)
    assert (store / "new").read_bytes() == START + b"he"


@pytest.mark.parametrize("grows", [True, False], ids=["grows", "is touched"])
@on_trio
async def test_held_bytes_for_a_file_that_never_rests_stay_held_at_flush(
    store: Path, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last release drops them: there is nobody left to try again."""
    path, tries = store / "new", list[int]()

    def change() -> None:
        tries.append(len(tries))
        if grows:
            append(path, b".")
        else:
            os.utime(path, ns=(tries[-1], tries[-1]))

    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await holding(made)
        made.reload(engine_of(OPEN + UNNAMED))
        beside(monkeypatch, change)
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        assert held(handle) == START
        assert len(tries) < 200
        assert path.read_bytes() == b"." * (len(tries) if grows else 0)
        await made.release(handle)
    assert path.exists() == grows, "its writer never wanted it empty"
    assert not grows or path.read_bytes() == b"." * len(tries)


@on_trio
async def test_a_file_that_another_program_has_emptied_may_grow_by_a_truncation(store: Path) -> None:
    """As by a write or fallocate: its writer may still put a photo there."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)
        os.truncate(store / "a.jpg", 0)
        assert await errno_of(made.writer.truncate(handle, len(PHOTO))) == 0
        await made.write(handle, 0, PHOTO)
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.release(handle)
    assert (store / "a.jpg").read_bytes() == PHOTO


@on_trio
async def test_late_writes_are_stored_in_their_order_and_appends_at_the_end(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)
        expected = bytearray(PHOTO)
        for offset, data in ((100, b"one"), (103, b"two"), (90, b"other words"), (100, b"three")):
            assert await made.write(handle, offset, data) == len(data)
            expected[offset : offset + len(data)] = data
        assert await made.writer.write(handle, 0, b"the end", append=True, kill_priv=False) == 7
        assert held(handle) == bytes(expected) + b"the end"
        assert bytes(await made.reader.read(handle, 0, 1 << 20)) == bytes(expected) + b"the end"
        assert (store / "a.jpg").read_bytes() == PHOTO, "held"
        append(store / "a.jpg", b"of another program, ")
        await made.sync.settle_late(handle.node)
        assert held(handle) is None
        assert (store / "a.jpg").read_bytes() == bytes(expected) + b"of another program, the end"


@on_trio
async def test_late_writes_that_are_refused_stay_held_until_the_release(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)
        await made.write(handle, 100, b"words")
        made.gate.use(engine_of(OPEN + UNNAMED))
        await made.sync.settle_late(handle.node)
        assert held(handle) is not None
        assert await errno_of(made.sync.flush(handle)) == errno.EPERM
        await made.release(handle)
        assert (store / "a.jpg").read_bytes() == PHOTO
