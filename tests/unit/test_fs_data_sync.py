"""Flush, fsync and release, where two of them settle one file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from policyfs.domain import Decision
from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.store import ranges
from policyfs.store.locking.latches import HeldFiles
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, TYPES, beside, errno_of, racing
from tests.support.samples import jpegs

NO_PLACE = '- {id: no, require: {no: [location]}, paths: "/**"}\n'
PLAIN = jpegs.plain(1, 64)


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


READS_ONLY = """\
- {id: all, allow: [all], who: {app: camera}, paths: "/**"}
- {id: look, allow: [see, read, create], who: {app: gallery}, paths: "/**"}
"""


@pytest.mark.parametrize("rules", [TYPES, NO_PLACE], ids=["head", "draft"])
@pytest.mark.parametrize(
    ("apps", "answer"), [(READS_ONLY, 0), (OPEN, errno.EBUSY)], ids=["may only read", "may write"]
)
def test_a_readers_fsync_has_no_bytes_of_another_app_judged(
    store: Path, apps: str, answer: int, rules: str
) -> None:
    """Each judgement takes time, in which the writer waits, and a refusal would be on record as the writer's.
    A reader that may not write has a node of its own, which shows the store's file: fsync confirms that.

    Attack C2.2: As a reader, call fsync while another app writes a checked file, so that its unfinished
    bytes are refused on its record, or it waits for one check after the other
    Guard: policyfs/fs/data/sync.py::FileSync._spares_others
    Also: ::test_an_empty_file_stays_though_another_app_called_fsync_before,
    tests/mount/test_emptied_drafts.py::test_a_readers_fsync_puts_no_other_apps_emptied_file_over_the_old_bytes
    Without: ::test_an_empty_file_stays_though_another_app_called_fsync_before
    """

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(apps + rules)) as made:
            writer, _ = await made.creator.create(made.root, b"new", 0o666, os.O_RDWR, made.caller(CAMERA))
            reader = await made.open("/new", os.O_RDONLY, GALLERY)
            assert (reader.node is writer.node) is (apps == OPEN)
            await made.write(writer, 0, PHOTO[:2])
            recorded, made.sniffed.asked = len(made.sink.events), trio.Event()
            assert made.sync.fsync_now(reader, datasync=False) is None
            assert await errno_of(made.sync.fsync(reader, datasync=False)) == answer
            assert not made.sniffed.asked.is_set()
            assert len(made.sink.events) == recorded
            assert (store / "new").read_bytes() == b""
            await made.write(writer, 0, PLAIN)
            await made.sync.fsync(writer, datasync=False)
            assert (store / "new").read_bytes() == PLAIN
            assert await errno_of(made.sync.fsync(reader, datasync=False)) == 0
            for handle in (writer, reader):
                await made.release(handle)

    run()


@on_trio
async def test_a_readers_fsync_notes_nothing_of_another_apps_unfinished_file(store: Path) -> None:
    """A rule in monitor mode: what the file is in the end meets it."""
    rules = TYPES.replace("}\n", ", mode: monitor}\n")
    with parts(store, engine_of(OPEN + rules)) as made:
        writer, _ = await made.creator.create(made.root, b"new", 0o666, os.O_RDWR, made.caller(CAMERA))
        reader = await made.open("/new", os.O_RDONLY, GALLERY)
        await made.write(writer, 0, b"words")
        await made.sync.fsync(reader, datasync=False)
        await made.write(writer, 0, PHOTO)
        for handle in (writer, reader):
            await made.release(handle)
        assert not [event for event in made.sink.events if event.would_deny]


@on_trio
async def test_an_empty_file_stays_though_another_app_called_fsync_before(store: Path) -> None:
    """The writer has taken its first bytes back. Nothing of what it left in the file was ever refused."""
    with parts(store, engine_of(READS_ONLY + TYPES)) as made:
        writer, _ = await made.creator.create(made.root, b"new", 0o666, os.O_RDWR, made.caller(CAMERA))
        reader = await made.open("/new", os.O_RDONLY, GALLERY)
        await made.write(writer, 0, PHOTO[:2])
        await errno_of(made.sync.fsync(reader, datasync=False))
        await made.writer.truncate(writer, 0)
        for handle in (reader, writer):
            await made.release(handle)
        assert (store / "new").read_bytes() == b""


@on_trio
async def test_a_refused_file_stays_while_another_daemon_holds_bytes_of_it(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Else that daemon would store them in a file without a name."""
    engine, latches = engine_of(OPEN + TYPES), tmp_path_factory.mktemp("run") / "lock"
    with parts(store, engine, latches=latches) as here, parts(store, engine, latches=latches) as there:
        first, _ = await here.creator.create(here.root, b"new", 0o666, os.O_RDWR, here.caller(CAMERA))
        await here.write(first, 0, PHOTO[:2])
        second = await there.open("/new", os.O_WRONLY, CAMERA)
        await there.write(second, 0, PHOTO[:2])
        await here.release(first)
        assert (store / "new").read_bytes() == b""
        await there.write(second, 2, PHOTO[2:])
        await there.release(second)
        assert (store / "new").read_bytes() == PHOTO


@pytest.mark.parametrize(
    ("rules", "fails"), [(TYPES, "store"), (TYPES, "decision"), (NO_PLACE, "decision")],
    ids=["head, store", "head, decision", "draft, decision"],
)  # fmt: skip
def test_a_last_writer_whose_release_fails_leaves_nothing_held(
    store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, rules: str,
    fails: str,
) -> None:  # fmt: skip
    """Else readers would read bytes that nobody stores, the next writer would store them as its own, and no
    other daemon could rename the file while it is read."""
    other = HeldFiles(str(tmp_path_factory.mktemp("run") / "lock.held"))

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + rules), latches=Path(other._path).with_suffix("")) as made:
            writer, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
            reader = await made.open("/new", os.O_RDONLY, MAPS)
            assert reader.node is writer.node
            await made.write(writer, 0, PLAIN[:2])
            assert other.is_held_elsewhere(made.tree.fstat(writer.fd))

            async def undecided(*_: object) -> Decision:
                raise OSError(errno.EIO, "no facts")

            async def jpeg(*_: object, **__: object) -> str:
                return "image/jpeg"

            def full(*_: object) -> int:
                raise OSError(errno.ENOSPC, "no room")

            with monkeypatch.context() as broken:
                broken.setattr(made.sniffed, "kind_of_head", jpeg)
                if fails == "store":
                    broken.setattr(ranges, "write", full)
                else:
                    broken.setattr(type(made.gate), "handle", undecided)
                said = await errno_of(made.release(writer))
            lost = [event for event in made.sink.events if "dropped" in event.note]
            assert [(event.path, event.errno) for event in lost] == [(b"/new", said)], "no app gets the error"
            assert writer.node.nodeid in made.notes.pages
            assert not other.is_held_elsewhere(made.tree.stat(made.tree.root_fd, b"new"))
            assert await made.reader.read(reader, 0, 100) == b""
            late = await made.open("/new", os.O_RDWR, MAPS)
            assert await made.writer.write(late, 0, PLAIN, append=True, kill_priv=False) == len(PLAIN)
            for handle in (late, reader):
                await made.release(handle)
            assert (store / "new").read_bytes() == PLAIN

    run()
    other.close()


READ_ONLY = '- {id: look, allow: [see, read], who: {app: any}, paths: "/**"}\n'


@pytest.mark.parametrize("by", ["flush", "fsync", "release"])
@pytest.mark.parametrize("then", [OPEN, READ_ONLY], ids=["alike", "read only"])
@pytest.mark.parametrize(("rules", "data"), [(NO_PLACE, PLAIN), (TYPES, PLAIN[:2])], ids=["draft", "head"])
def test_a_policy_that_came_while_held_bytes_were_judged_decides(
    store: Path, monkeypatch: pytest.MonkeyPatch, by: str, then: str, rules: str, data: bytes
) -> None:  # fmt: skip
    """then: of the second policy. The thread that is to store the bytes has waited for its turn, besides."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + rules)) as made:
            handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
            assert await made.write(handle, 0, data) == len(data)
            monkeypatch.setattr(made.sniffed, "kind_of_head", _jpeg)
            reloads = iter(range(10))

            def reload() -> None:
                if next(reloads) < 2:
                    trio.from_thread.run_sync(made.reload, engine_of(then + rules))

            beside(monkeypatch, reload)
            requests = {
                "flush": made.sync.flush,
                "fsync": lambda of: made.sync.fsync(of, datasync=False),
                "release": made.release,
            }
            told = 0 if by == "release" or then != READ_ONLY else errno.EACCES
            assert await errno_of(requests[by](handle)) == told
            stored = (store / "new").read_bytes() if (store / "new").exists() else b""
            assert stored == (b"" if then == READ_ONLY else data)
            if by != "release":
                await made.release(handle)

    run()


async def _jpeg(*_: object, **__: object) -> str:
    return "image/jpeg"


BY_KIND = OPEN + '- {id: words, deny: [see], paths: "/**", when: {type: text/plain}}\n'


@pytest.mark.parametrize(("rules", "told"), [(OPEN, False), (BY_KIND, True)])
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_TRUNC])
def test_after_a_write_the_kernel_looks_for_the_name_again_if_the_kind_decides_who_sees_it(
    store: Path, rules: str, told: bool, flags: int
) -> None:
    """The watch reports no changes that the daemon makes."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            entries: list[tuple[int, bytes]] = []
            made.notes.inval_entry = lambda parent, name, _gentle: entries.append((parent, name))
            await made.release(await made.open("/a.jpg", flags & ~os.O_TRUNC, MAPS))
            assert (entries, made.root.changes) == ([], 0), "nothing was written"
            handle = await made.open("/a.jpg", flags, MAPS)
            if not flags & os.O_TRUNC:
                await made.write(handle, 0, b"words")
            await made.release(handle)
            assert bool(entries) == bool(made.root.changes) == told
            assert set(entries) <= {(made.root.nodeid, b"a.jpg")}

    run()
