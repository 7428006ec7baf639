"""Frozen copies between several views, and when there is no room for more of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.inodes.node import BytePath
from policyfs.fs.namespace.setattr import Change
from policyfs.fs.redacted import copies as copies_module
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.redact.plan import Outcome, Plan
from policyfs.store.copies import CopyCache
from policyfs.store.frozen import Frozen
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, keeps_pages, on_trio, parts
from tests.support.mount.steps import mapped
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
TWO_VIEWS = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: [camera, gallery]}, paths: "/**"}
- {id: more, require: {redact: location}, who: {app: camera}, paths: "/**", raw_types: [text/x-c]}
"""

PLACELESS = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif(place=False)))
OWNERS = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: time, require: {redact: time}, who: {app: gallery}, paths: "/**"}
- {id: places, require: {redact: location}, who: {app: gallery}, paths: "/**", unless: {owner: self}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(PHOTO)
    return tmp_path


@on_trio
async def test_two_views_that_made_a_copy_at_once_each_go_on_with_their_own(store: Path) -> None:
    """The copy made last replaces the other in the cache; who has that one open opens it again."""
    with parts(store, engine_of(TWO_VIEWS)) as made:
        handles = []
        made.sniffed.gate = trio.Event()

        async def first(uid: int) -> None:
            handles.append(await made.open("/a.jpg", os.O_RDONLY, uid))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first, CAMERA)
            nursery.start_soon(first, GALLERY)
            await made.sniffed.wanted()
            made.sniffed.gate.set()
        assert len({handle.node for handle in handles}) == 2
        for uid in (CAMERA, GALLERY, CAMERA):
            again = await made.open("/a.jpg", os.O_RDONLY, uid)
            got = await made.reader.read(again, 0, 1 << 20)
            assert len(got) == len(PHOTO)
            assert not jpegs.leaks(got)


@on_trio
async def test_without_room_for_copies_a_file_goes_as_a_large_one_whoever_looks_in_between(
    store: Path,
) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        made.redactor._copies = CopyCache(1 << 26, max_copies=1)
        node = await made.walk("/b.jpg", GALLERY)
        await made.open("/a.jpg", os.O_RDONLY, GALLERY)  # takes the room that there was
        with pytest.raises(OSError) as full:
            await made.opener.open(node, os.O_RDONLY, made.caller(GALLERY))
        assert full.value.errno == errno.ESTALE
        await made.walk("/c.jpg", CAMERA)  # another's look-up must not use up what was learnt
        again = await made.walk("/b.jpg", GALLERY)
        assert again.byte_path is BytePath.LEASED
        with pytest.raises(pyfuse3.FUSEError) as refused:  # there are no leases in this test
            await made.opener.open(again, os.O_RDONLY, made.caller(GALLERY))
        assert refused.value.errno == errno.EACCES


@on_trio
async def test_of_a_changed_photo_no_copy_is_kept_but_for_who_has_it_open(store: Path) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        copies = made.redactor._copies
        old = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        (store / "a.jpg").write_bytes(PHOTO + b"more")
        new = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert copies.stats().pinned == copies.stats().copies == 2
        assert len(await made.reader.read(old, 0, 1 << 20)) == len(PHOTO)
        made.opener.close(old)
        assert copies.stats().copies == 1
        made.opener.close(new)
        assert copies.stats().copies == 1, "the current one stays for the next reader"
        made.opener.close(await made.open("/b.jpg", os.O_RDONLY, GALLERY))
        assert copies.stats().copies == 2


@on_trio
async def test_who_waited_for_a_copy_reads_it_though_the_file_has_changed_again(store: Path) -> None:
    """The kernel looks a name up twice for one open, and no more: who is sent back too often sees ESTALE."""
    with parts(store, engine_of(TWO_VIEWS)) as made:
        made.sniffed.gate = trio.Event()
        node = await made.walk("/a.jpg", GALLERY)
        handles = []

        async def once() -> None:
            handles.append(await made.opener.open(node, os.O_RDONLY, made.caller(GALLERY)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(once)
            nursery.start_soon(once)
            await made.sniffed.wanted()
            (store / "a.jpg").write_bytes(PHOTO + b"more")
            made.sniffed.gate.set()
        assert [handle.node for handle in handles] == [node, node]
        assert made.copies.stats().copies == 1
        new = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert new.node is not node
        assert [len(await made.reader.read(handle, 0, 1 << 20)) for handle in (*handles, new)] == [
            len(PHOTO), len(PHOTO), len(PHOTO) + 4,
        ]  # fmt: skip


@on_trio
async def test_while_a_copy_is_made_another_version_is_looked_up_at_a_node_of_its_own(store: Path) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        made.sniffed.gate = trio.Event()
        old = await made.walk("/a.jpg", GALLERY)
        late = []

        async def first() -> None:
            late.append(await made.opener.open(old, os.O_RDONLY, made.caller(GALLERY)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await made.sniffed.wanted()
            (store / "a.jpg").write_bytes(PHOTO + b"more")
            with pytest.raises(OSError) as stale:  # it came by a look-up before the change
                await made.opener.open(old, os.O_RDONLY, made.caller(GALLERY))
            assert stale.value.errno == errno.ESTALE, "at once, not when the other copy is made"
            assert await made.walk("/a.jpg", GALLERY) is not old
            made.sniffed.gate.set()
        assert len(await made.reader.read(late[0], 0, 1 << 20)) == len(PHOTO)


@on_trio
async def test_a_look_that_failed_leaves_no_version_behind(store: Path) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        (store / "a.jpg").write_bytes(b"\xff\xd8\xff nothing of the sort")
        node = await made.walk("/a.jpg", GALLERY)
        made.sniffed.gate = trio.Event()
        refused = []

        async def once() -> None:
            with pytest.raises(pyfuse3.FUSEError) as error:
                await made.opener.open(node, os.O_RDONLY, made.caller(GALLERY))
            refused.append(error.value.errno)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(once)
            nursery.start_soon(once)
            await made.sniffed.wanted()
            made.sniffed.gate.set()
        assert refused == [errno.EACCES] * 2
        assert node.open is None


JPEGS_ARE_SHOWN = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, unless: {type: image/jpeg}, paths: "/**"}
"""
JPEGS_ARE_REDACTED = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""


@on_trio
async def test_a_copy_in_which_nothing_was_hidden_is_not_read_on_when_a_reload_hides_something(
    store: Path,
) -> None:
    with parts(store, engine_of(JPEGS_ARE_SHOWN)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert handle.node.byte_path is BytePath.COPY
        assert await made.reader.read(handle, 0, 1 << 20) == PHOTO
        made.reload(engine_of(JPEGS_ARE_REDACTED))
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await made.reader.read(handle, 0, 1 << 20)
        assert refused.value.errno == errno.EACCES
        again = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert not jpegs.leaks(await made.reader.read(again, 0, 1 << 20))


@on_trio
async def test_a_file_emptied_by_its_path_has_its_new_size_also_while_a_copy_is_open(store: Path) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        old = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        emptied = Change(
            mode=None, uid=None, gid=None, size=0, atime_ns=None, mtime_ns=None, kill_priv=False
        )  # fmt: skip
        entry = await made.attribute_setter.setattr(old.node, emptied, None, made.caller(GALLERY))
        assert entry.st_size == 0
        assert (await made.lookup.getattr(old.node, made.caller(GALLERY))).st_size == 0
        assert len(await made.reader.read(old, 0, 1 << 20)) == len(PHOTO), "who has it open reads on"
        new = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert await made.reader.read(new, 0, 1 << 20) == b""
    assert (store / "a.jpg").read_bytes() == b""


@on_trio
async def test_what_is_known_of_copies_that_are_gone_is_forgotten(store: Path) -> None:
    with parts(store, engine_of(TWO_VIEWS)) as made:
        redactor = made.redactor
        redactor._copies = CopyCache(1 << 26, max_copies=4)
        for turn in range(40):
            os.utime(store / "a.jpg", ns=(0, turn * 10**9))  # a version of its own each time
            await made.release(await made.open("/a.jpg", os.O_RDONLY, GALLERY))
        assert redactor._copies.stats().copies == 1
        assert len(redactor._made) <= 2 * 4 + 1
        assert len(redactor._latest) == 1


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR], ids=["copy", "live"])
@on_trio
async def test_the_owner_of_before_a_copy_counts_for_no_bytes_that_came_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    """Another app opens the file for writing, and writes, before the thread makes the copy."""
    (store / "a.jpg").write_bytes(PLACELESS)
    with parts(store, engine_of(OWNERS)) as made:
        with (store / "a.jpg").open("rb") as file:
            made.owners.set(file.fileno(), made.tree.fstat(file.fileno()), "gallery")
        copied, written = made.redactor._copied, list[int]()

        async def late(fd: int, stat: Stat, *, clones: bool, unwritten: bool) -> Frozen:
            if not written:
                writer = await made.open("/a.jpg", os.O_RDWR, CAMERA)
                written.append(await made.write(writer, 0, PHOTO))
            return await copied(fd, stat, clones=clones, unwritten=unwritten)

        monkeypatch.setattr(made.redactor, "_copied", late)
        handle = await made.open("/a.jpg", flags, GALLERY)
        assert not jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))
        assert written == [len(PHOTO)]


@on_trio
async def test_the_owner_sees_its_own_place(store: Path) -> None:
    with parts(store, engine_of(OWNERS)) as made:
        with (store / "a.jpg").open("rb") as file:
            made.owners.set(file.fileno(), made.tree.fstat(file.fileno()), "gallery")
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert jpegs.leaks(bytes(await made.reader.read(handle, 0, len(PHOTO))))


@on_trio
async def test_pages_that_show_more_than_a_later_open_may_see_are_not_kept(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owners in a database: a change of the owner does not change the file's version."""
    with parts(store, engine_of(OWNERS)) as made:
        owner = "gallery"
        monkeypatch.setattr(type(made.owners), "get", lambda *_: owner)
        assert not await _opened_keeping(made, GALLERY), "the first open"
        assert await _opened_keeping(made, GALLERY), "the same bytes"
        owner = "camera"
        assert not await _opened_keeping(made, GALLERY)
        assert await _opened_keeping(made, GALLERY)


async def _opened_keeping(made: Parts, uid: int) -> bool:
    """Open and release the file; return True if the kernel was told to keep its pages."""
    handle = await made.open("/a.jpg", os.O_RDONLY, uid)
    assert handle.node.byte_path is BytePath.COPY
    await made.release(handle)
    return keeps_pages(handle)


@on_trio
async def test_pages_of_another_copy_of_the_same_version_are_not_kept(
    store: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker has lied. Its copy leaves the cache before another worker says so."""

    async def lies(*_: object, **__: object) -> tuple[str, Plan]:
        return "image/jpeg", Plan(Outcome.CLEAN)

    with parts(store, engine_of(TWO_VIEWS), keeper=keeper) as made:
        with monkeypatch.context() as lying:
            lying.setattr(made.sniffed, "index", lies)
            first = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
            assert jpegs.leaks(bytes(await made.reader.read(first, 0, 1 << 20)))
        assert first.copy is not None
        key = first.copy.key
        await made.release(first)
        made.copies.drop(key)
        second = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert second.node is first.node
        assert not jpegs.leaks(bytes(await made.reader.read(second, 0, 1 << 20)))
        assert not keeps_pages(second)


@on_trio
async def test_a_copy_made_beside_a_mapped_writer_is_soon_made_again(
    store: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes into a page that waits for the disk changes no times."""
    at = len(PHOTO) - 8
    with parts(store, engine_of(TWO_VIEWS), keeper=keeper) as made, mapped(store / "a.jpg") as writer:
        writer[at : at + 4] = b"one1"
        first = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert bytes(await made.reader.read(first, at, 4)) == b"one1"
        await made.release(first)
        writer[at : at + 4] = b"two2"
        monkeypatch.setattr(copies_module, "_UNSETTLED_S", 0.0)
        second = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert bytes(await made.reader.read(second, at, 4)) == b"two2"
        assert not keeps_pages(second)
