"""Writing under redaction and content requirements, where somebody else comes between two steps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked import drafts
from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.fs.checked.moved_file import Named
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux import libc
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.samples import jpegs

CAMERA, GALLERY, MAPS = 10010, 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
OPEN = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""
REDACTED = (
    OPEN
    + """\
- {id: hide, require: {redact: location}, who: {not: {grant: media.location}}, unless: {owner: self}}
"""
)
TYPES = """\
- {id: types, require: {content: [image/jpeg]}, paths: "/**"}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


async def errno_of(request) -> int:
    try:
        await request
    except pyfuse3.FUSEError as error:
        return error.errno
    except OSError as error:
        return error.errno or -1
    return 0


async def between(made: Parts, request, meanwhile) -> int:
    """Start a request that waits for a sniff, do something else, let the sniff end: its errno."""
    made.sniffed.gate, made.sniffed.asked = trio.Event(), trio.Event()
    found: list[int] = []

    async def run() -> None:
        found.append(await errno_of(request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await made.sniffed.asked.wait()
        gate, made.sniffed.gate = made.sniffed.gate, None
        nursery.start_soon(meanwhile)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    return found[0]


# ---------------------------------------------------------------- rule 5: only by emptying it


@on_trio
async def test_who_loses_a_file_while_it_is_open_loses_the_right_to_change_parts_of_it(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        own = await made.open("/new.jpg", os.O_RDWR, CAMERA)  # as its owner, without emptying it
        other = await made.open("/new.jpg", os.O_RDWR | os.O_TRUNC, MAPS)
        await made.write(other, 0, PHOTO)
        for mine in (handle, own):
            assert await errno_of(made.write(mine, 0, b"words")) == errno.EACCES
            assert await errno_of(made.writer.truncate(mine, 100)) == errno.EACCES
        await made.release(other)
        assert await errno_of(made.write(own, 0, b"words")) == errno.EACCES
        await made.writer.truncate(own, 0)  # this is allowed to whoever may write
        await made.write(own, 0, b"words")
    assert (store / "new.jpg").read_bytes() == b"words"


@on_trio
async def test_who_owns_a_file_changes_parts_of_it_also_where_it_is_redacted_for_its_owner(
    store: Path,
) -> None:
    with parts(store, engine_of(REDACTED.replace(", unless: {owner: self}", ""))) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        for flags in (os.O_RDWR, os.O_RDWR | os.O_TRUNC):
            own = await made.open("/new.jpg", flags, CAMERA)
            assert await made.write(own, 0, PHOTO) == len(PHOTO)
            assert await made.write(own, 100, b"words") == 5
            other = await made.open("/new.jpg", os.O_RDWR | os.O_TRUNC, MAPS)
            assert await errno_of(made.write(own, 0, b"words")) == errno.EACCES, "it is not its own any more"
            await made.release(other)
            await made.release(own)
            (store / "new.jpg").unlink()
            handle, _ = await made.creator.create(
                made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA)
            )
            await made.write(handle, 0, PHOTO)
            await made.release(handle)


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
            made.write_access.before_writing(node, handle, stat, "none")
        assert stale.value.errno == errno.ESTALE
        os.close(fd)
        os.close(handle.fd)


@on_trio
async def test_a_large_write_too_goes_by_who_owns_the_file_when_it_is_made(store: Path) -> None:
    """Nothing comes between the look at the owner and the write: no other task runs there."""
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        task, seen = trio.lowlevel.current_task(), []

        class Watching(trio.abc.Instrument):
            def after_task_step(self, stepped: trio.lowlevel.Task) -> None:
                if stepped is task:
                    seen.append((store / "new.jpg").stat().st_size)

        watching = Watching()
        trio.lowlevel.add_instrument(watching)
        try:
            assert await made.write(handle, 0, PHOTO + bytes(200_000)) == len(PHOTO) + 200_000
        finally:
            trio.lowlevel.remove_instrument(watching)
        assert seen == []
        await made.release(handle)


@on_trio
async def test_a_page_that_waits_to_be_written_back_goes_by_what_the_file_is_then(store: Path) -> None:
    """A write-back waits for the node's lock; what comes into the file meanwhile is not the app's own."""
    with parts(store, engine_of(REDACTED.replace(", unless: {owner: self}", ""))) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        assert handle.node.open is not None
        errors = []

        async def back() -> None:
            page = made.writer.write(handle, 0, b"p" * 100, append=False, kill_priv=False, back=True)
            errors.append(await errno_of(page))

        async with trio.open_nursery() as nursery, handle.node.open.lock:
            nursery.start_soon(back)
            await trio.testing.wait_all_tasks_blocked()
            (store / "new.jpg").write_bytes(PHOTO[::-1])
        assert errors == [errno.EACCES]
        assert (store / "new.jpg").read_bytes() == PHOTO[::-1]
        await made.release(handle)


@on_trio
async def test_held_bytes_do_not_go_over_what_another_app_wrote(store: Path) -> None:
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        mine = await made.open("/empty", os.O_RDWR, GALLERY)
        assert await made.write(mine, 0, b"\xff\xd8") == 2  # held: it may become a JPEG
        (store / "empty").write_bytes(PHOTO)
        assert await errno_of(made.sync.flush(mine)) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


@on_trio
async def test_what_is_written_while_a_write_is_judged_is_not_the_writers_own(store: Path) -> None:
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        mine = await made.open("/empty", os.O_RDWR, GALLERY)
        await made.write(mine, 0, jpegs.plain(1, 64))

        async def other() -> None:
            (store / "empty").write_bytes(PHOTO)

        assert await between(made, made.write(mine, 10, b"x"), other) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


@on_trio
async def test_while_another_view_is_written_nothing_in_the_file_counts_as_ones_own(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        other = await made.open("/a.jpg", os.O_RDWR, MAPS)
        assert await errno_of(made.write(mine, 0, b"words")) == errno.EACCES
        await made.release(other)
        assert await made.write(mine, 0, b"words") == 5
    assert (store / "a.jpg").read_bytes() == b"words"


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


async def racing(made: Parts, handle, *requests) -> list[int]:
    """Start requests one after the other, while none can have the node's lock: their errnos, in order."""
    found = dict.fromkeys(range(len(requests)), -1)

    async def run(at: int, request) -> None:
        found[at] = await errno_of(request)

    async with trio.open_nursery() as nursery, handle.node.open.lock:
        for at, request in enumerate(requests):
            nursery.start_soon(run, at, request)
            await trio.testing.wait_all_tasks_blocked()
    return list(found.values())


@on_trio
@pytest.mark.parametrize("first", ["release", "request"])
@pytest.mark.parametrize("syscall", ["rename", "fsync"])
async def test_a_writer_that_ends_while_another_request_settles_its_bytes(
    store: Path, first: str, syscall: str
) -> None:
    """A rename onto a file, and fsync by a reader, settle the handle of a writer, which may be released."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        refused, _ = await made.creator.create(made.root, b"b", 0o644, os.O_RDWR, made.caller(MAPS))
        assert await errno_of(made.write(refused, 1, b"words")) == 0
        assert await errno_of(made.sync.flush(refused)) == errno.EPERM
        assert len(made.withheld_names) == 1, "so that names are looked after"
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        reader = await made.open("/new", os.O_RDONLY, MAPS) if syscall == "fsync" else None
        assert await made.write(handle, 0, b"\xff\xd8") == 2  # held: it may become a JPEG
        if reader is None:
            request = made.renamer.rename(made.root, b"new", made.root, b"a.jpg", 0, made.caller(MAPS))
        else:
            request = made.sync.fsync(reader, datasync=False)
        requests = [request, made.release(handle)]
        if first == "request":
            assert await racing(made, handle, *requests) == [errno.EPERM, 0]
        else:
            answers = {"rename": {errno.ENOENT}, "fsync": {0, errno.ESTALE}}  # refused with its release
            released, found = await racing(made, handle, *requests[::-1])
            assert released == 0
            assert found in answers[syscall]
        if reader is not None:
            await made.release(reader)
        assert (store / "a.jpg").read_bytes() == PHOTO
        assert not (store / "new").exists()


@on_trio
@pytest.mark.parametrize("first", ["release", "fsync"])
async def test_an_fsync_stores_the_bytes_of_one_writer_though_another_is_released(
    store: Path, first: str
) -> None:
    photo = PHOTO + bytes(HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        other = await made.open("/new", os.O_RDWR, MAPS)
        reader = await made.open("/new", os.O_RDONLY, MAPS)
        assert await made.write(handle, 100, photo[100:]) == len(photo) - 100
        assert await made.write(other, 0, photo[:100]) == 100
        requests = [made.sync.fsync(reader, datasync=False), made.release(handle)]
        assert await racing(made, handle, *requests[:: 1 if first == "fsync" else -1]) == [0, 0]
        assert (store / "new").read_bytes() == photo, "it said that they are durable"
        for each in (other, reader):
            await made.release(each)


@on_trio
async def test_a_writer_is_not_released_while_another_request_stores_a_draft_with_it(store: Path) -> None:
    photo = PHOTO + bytes(HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        other = await made.open("/new", os.O_RDWR, MAPS)
        assert await made.write(handle, 100, photo[100:]) == len(photo) - 100
        assert await made.write(other, 0, photo[:100]) == 100
        moved = made.renamer.rename(made.root, b"new", made.root, b"a.jpg", 0, made.caller(MAPS))
        assert await between(made, moved, lambda: made.release(handle)) == 0
        assert (store / "a.jpg").read_bytes() == photo
        assert await errno_of(made.sync.flush(other)) == 0
        await made.release(other)
    assert (store / "a.jpg").read_bytes() == photo


# ---------------------------------------------------------------- content


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
    assert (store / "a.jpg").read_bytes() in (b"", PHOTO)


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
    assert (store / "a.jpg").read_bytes() in (b"", PHOTO)


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
async def test_redaction_that_a_reload_brings_holds_for_open_handles(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert await made.reader.read(handle, 0, 1 << 16) == PHOTO
        made.reload(engine_of(REDACTED))
        assert await errno_of(made.reader.read(handle, 0, 1 << 16)) == errno.EACCES
        again = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert not jpegs.leaks(await made.reader.read(again, 0, 1 << 16))


# ---------------------------------------------------------------- no record, no access


@on_trio
async def test_what_cannot_be_recorded_is_not_made(store: Path) -> None:
    text = OPEN.replace("}\n", ", audit: required}\n")
    with parts(store, engine_of(text)) as made:
        node = await made.walk("/a.jpg", MAPS)
        made.sink.broken = True
        caller, before = made.caller(MAPS), len(made.nodes)
        for request in (
            lambda: made.creator.mkdir(made.root, b"n", 0o755, caller),
            lambda: made.creator.symlink(made.root, b"n", b"a.jpg", caller),
            lambda: made.creator.mknod(made.root, b"n", 0o100644, 0, caller),
        ):
            assert await errno_of(request()) == errno.EIO
        assert await errno_of(made.linker.link(node, made.root, b"n", caller)) == errno.EIO
        assert await errno_of(made.creator.create(made.root, b"n", 0o644, os.O_RDWR, caller)) == errno.EIO
        assert (
            await errno_of(made.renamer.rename(made.root, b"a.jpg", made.root, b"n", 0, caller)) == errno.EIO
        )
        assert not (store / "n").exists()
        assert len(made.nodes) == before
        assert not len(made.handles)


@on_trio
async def test_a_release_that_meets_a_failing_disk_gives_everything_up(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)

        def fails(self, fd):
            raise OSError(errno.EIO, "the disk")

        with monkeypatch.context() as patched:
            patched.setattr(type(made.tree), "fstat", fails)
            assert await errno_of(made.release(handle)) == errno.EIO
        assert not len(made.handles)
        assert handle.fd == -1
        assert handle.node.open is None


# ---------------------------------------------------------------- pages that the kernel writes back


@on_trio
async def test_a_page_that_is_written_back_late_brings_nothing_back_that_was_cut_off(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        assert await made.write(handle, 0, b"x" * 5000) == 5000
        await made.writer.truncate(handle, 100)
        page = b"y" * 4096
        assert await made.writer.write(handle, 0, page, append=False, kill_priv=False, back=True) == 4096
        assert await made.writer.write(handle, 4096, page, append=False, kill_priv=False, back=True) == 4096
        assert (store / "empty").read_bytes() == b"y" * 100


@on_trio
async def test_what_comes_far_behind_a_held_head_is_written_where_it_belongs(store: Path) -> None:
    """A head of zeros as long as a head can be (truncate made it), then a write behind it."""
    anything = OPEN + "- {id: types, require: {content: [application/octet-stream]}, paths: '/**'}\n"
    with parts(store, engine_of(anything)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        await made.writer.truncate(handle, HEAD_BYTES)
        assert await made.write(handle, 100_000, b"behind") == 6
        await made.release(handle)
    assert (store / "empty").read_bytes() == bytes(100_000) + b"behind"


@on_trio
async def test_blocks_in_any_order_by_several_writers_come_to_be_one_file(store: Path) -> None:
    """One writer begins a draft while another's first bytes are judged, and while a flush waits for them."""
    photo = PHOTO + bytes(3 * HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        second = await made.open("/new", os.O_RDWR, MAPS)
        assert await made.write(first, 0, photo[:1]) == 1  # held: it may become a JPEG
        said: list[int] = []

        async def others() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.write, second, HEAD_BYTES, photo[HEAD_BYTES:])
                await trio.testing.wait_all_tasks_blocked()
                said.append(await errno_of(made.sync.flush(first)))

        assert await between(made, made.write(first, 1, photo[1:2]), others) == 0
        assert said == [errno.EPERM], "not all of its beginning is there"
        assert (store / "new").read_bytes() == b""
        assert await made.write(second, 0, photo[:HEAD_BYTES]) == HEAD_BYTES
        assert await errno_of(made.sync.flush(first)) == 0
        assert (store / "new").read_bytes() == photo
        for handle in (first, second):
            await made.release(handle)
    assert (store / "new").read_bytes() == photo


@on_trio
async def test_an_o_trunc_that_waits_empties_the_draft_that_began_meanwhile(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        opened = []

        async def empty() -> None:
            opened.append(await made.open("/new", os.O_RDWR | os.O_TRUNC, MAPS))

        assert await racing(made, first, made.write(first, len(PHOTO), bytes(HEAD_BYTES)), empty()) == [0, 0]
        assert await made.write(opened[0], 0, PHOTO) == len(PHOTO)
        for handle in (first, *opened):
            assert await errno_of(made.sync.flush(handle)) == 0
            await made.release(handle)
    assert (store / "new").read_bytes() == PHOTO


@on_trio
async def test_a_draft_ends_once_the_beginning_is_in_the_store(store: Path) -> None:
    """A program that reserves a file's length and calls fsync often does not copy the file each time."""
    photo = PHOTO + bytes(2 * HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        await made.writer.allocate(handle, 0, 0, len(photo))
        assert await errno_of(made.sync.fsync(handle, datasync=False)) == errno.EPERM
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        await made.sync.fsync(handle, datasync=False)
        assert (store / "new").read_bytes() == photo
        assert await made.write(handle, HEAD_BYTES, b"a block") == 7
        assert (store / "new").read_bytes()[HEAD_BYTES : HEAD_BYTES + 7] == b"a block"
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM, "told at once"
        await made.release(handle)
    assert (store / "new").read_bytes().startswith(PHOTO)


@on_trio
async def test_a_refused_file_has_its_name_again_if_the_last_to_open_it_fails(
    store: Path, monkeypatch
) -> None:
    """The last writer is released while somebody opens the file, so it stays; then that open fails."""
    gate = trio.Event()

    async def refuses(*arguments, **options):
        await gate.wait()
        raise OSError(errno.EIO, "no room for records")

    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        assert await made.write(handle, 1, b"words") == 5
        monkeypatch.setattr(made.gate.recorder, "recorded", refuses)
        opened: list[int] = []

        async def opens() -> None:
            opened.append(await errno_of(made.opener.open(handle.node, os.O_RDWR, made.caller(MAPS))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(opens)
            await trio.testing.wait_all_tasks_blocked()
            assert await errno_of(made.sync.flush(handle)) == errno.EPERM
            assert len(made.withheld_names) == 1
            await made.release(handle)
            gate.set()
        assert opened == [errno.EIO]
        assert len(made.withheld_names) == 0
        assert (store / "new").read_bytes() == b""


@on_trio
async def test_a_new_file_that_was_refused_goes_though_a_draft_began_for_nothing(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        assert await errno_of(made.writer.truncate(handle, 2**63 - 1)) == errno.EFBIG
        await made.sync.flush(handle)
        await made.release(handle)
    assert not (store / "new").exists()


@on_trio
async def test_what_a_session_has_made_is_not_the_next_ones_to_remove(store: Path) -> None:
    """A file that got a draft, and was accepted: who empties it and writes other content leaves its name."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        reader = await made.open("/new", os.O_RDONLY, MAPS)  # keeps the state of the node
        assert await made.write(handle, 100, PHOTO[100:]) == len(PHOTO) - 100
        assert await made.write(handle, 0, PHOTO[:100]) == 100
        await made.release(handle)
        assert (store / "new").read_bytes() == PHOTO
        handle = await made.open("/new", os.O_RDWR | os.O_TRUNC, MAPS)
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        await made.release(handle)
        assert (store / "new").read_bytes() == b""
        await made.release(reader)


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


DRAFTS = REDACTED + '- {id: share, require: {no: [people]}, who: {app: camera}, paths: "/**"}\n'


@on_trio
async def test_a_draft_is_not_begun_with_what_another_app_writes_meanwhile(store: Path, monkeypatch) -> None:
    """While the file is copied into the draft its owner changes: nothing of it is read back."""
    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        mine = await made.open("/new.jpg", os.O_RDWR, CAMERA)
        copy_all = drafts._copy_all

        def copied(source: int, target: int, size: int) -> None:
            trio.from_thread.run(made.open, "/new.jpg", os.O_WRONLY, MAPS)
            copy_all(source, target, size)

        monkeypatch.setattr(drafts, "_copy_all", copied)
        assert await errno_of(made.write(mine, 100, b"x")) == errno.EACCES
        assert mine.node.open.draft is None


@on_trio
async def test_mknod_makes_nobody_the_owner_of_a_file_that_is_moved_there(store: Path, monkeypatch) -> None:
    """Another file comes to the name in the moment in which it is made."""
    (store / "other.jpg").write_bytes(PHOTO)
    with parts(store, engine_of(REDACTED)) as made:
        create_file = type(made.tree).create_file

        def created(tree, dirfd, name, *more, **options) -> int:
            fd = create_file(tree, dirfd, name, *more, **options)
            os.rename(store / "other.jpg", store / "new.jpg")
            return fd

        monkeypatch.setattr(type(made.tree), "create_file", created)
        await made.creator.mknod(made.root, b"new.jpg", 0o100644, 0, made.caller(CAMERA))
        fd = os.open(store / "new.jpg", os.O_RDONLY)
        assert os.pread(fd, 1 << 20, 0) == PHOTO
        assert made.owners.get(fd, made.tree.fstat(fd)) == "none"
        os.close(fd)


class _Settled(Named):
    """A file without writers, and a source of it: it is a photo."""

    kind, free_of = "image/jpeg", frozenset[str]()

    def __init__(self, path: Path) -> None:
        super().__init__(os.open(path, os.O_PATH))
        self.path = path

    async def settled(self, *_: object) -> _Settled:
        return _Settled(self.path)


@on_trio
async def test_what_is_not_to_be_replaced_is_not_replaced_where_content_is_looked_at(store: Path) -> None:
    """RENAME_NOREPLACE comes to us only where the kernel saw no such name: somebody has made it since."""
    (store / "in").mkdir()
    (store / "in/new.jpg").write_bytes(b"somebody's")
    checked = OPEN + '- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}\n'
    with parts(store, engine_of(checked)) as made:
        settling = _Settled(store / "a.jpg")
        made.renamer._moved_files = settling  # type: ignore[assignment]
        to, caller = await made.walk("/in", CAMERA), made.caller(CAMERA)
        moved = made.renamer.rename(made.root, b"a.jpg", to, b"new.jpg", libc.RENAME_NOREPLACE, caller)
        assert await errno_of(moved) == errno.ESTALE  # the kernel looks again, and says EEXIST
        assert (store / "in/new.jpg").read_bytes() == b"somebody's"
        await made.renamer.rename(made.root, b"a.jpg", to, b"new.jpg", 0, caller)
        assert (store / "in/new.jpg").read_bytes() == PHOTO
        assert not (store / "a.jpg").exists()
        settling.close()
