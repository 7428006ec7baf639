"""Names that are withheld while somebody looks, and refused files on their way into the quarantine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked.quarantine_queue import QuarantineQueue, Refusal
from policyfs.fs.inodes.vectors import AccessVectors
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.quarantine import Limits, Quarantine
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import MAPS, TYPES, errno_of

CAMERA, GALLERY = 10010, 10011
BY_KIND = """\
- {id: all, allow: [all], who: {app: camera}, paths: "/**"}
- {id: text, allow: [see, read], who: {app: gallery}, paths: "/**", when: {type: "text/*"}}
"""
OPEN = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    directory.mkdir()
    (directory / "a").write_bytes(b"words\n")
    return directory


@on_trio
async def test_who_looks_while_it_is_withheld_does_not_see_it(store: Path) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        node = await made.walk("/a", CAMERA)
        made.sniffed.gate, made.sniffed.asked = trio.Event(), trio.Event()
        found: list[int] = []

        async def look() -> None:
            try:
                await made.lookup.lookup(made.root, b"a", made.caller(GALLERY))
            except pyfuse3.FUSEError as error:
                found.append(error.errno)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await made.sniffed.asked.wait()
            await made.withheld_names.hide(node)
            made.sniffed.gate.set()
        assert found == [errno.ENOENT]


@on_trio
async def test_who_lists_the_directory_at_once_when_it_is_shown_again_sees_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel hears of it a moment later. So it must not go on with the listing that it has."""
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a", CAMERA)
        await made.withheld_names.hide(node)
        made.root.listed = made.gate.generation, None  # listed without the name
        dropped: list[object] = []
        monkeypatch.setattr(AccessVectors, "drop", lambda self, node: dropped.append(node) or 0)
        made.withheld_names.show(node)
        assert made.root.listed is None
        assert made.root in dropped, "nor does the bridge let the kernel use its listing"


def refused(quarantine: bool = True) -> Refusal:
    return Refusal("text/plain", "not a photo", (), quarantine, 1)


@on_trio
async def test_no_app_has_more_than_a_few_files_on_their_way(store: Path, tmp_path: Path) -> None:
    kept = Quarantine(tmp_path / "state" / "quarantine")
    with parts(store, engine_of(OPEN)) as made:
        queue = QuarantineQueue(
            tree=made.tree, recorder=made.gate.recorder, quarantine=kept, limits=Limits(1 << 20, 100),
            mount="/mnt", store=str(store), warn=lambda what, path: None,
        )  # fmt: skip
        before = len(os.listdir("/proc/self/fd"))
        for uid, times in ((CAMERA, 18), (GALLERY, 1)):
            handle = await made.open("/a", os.O_RDWR, uid)
            for number in range(times):
                fd = os.memfd_create("refused")
                os.write(fd, b"%d" % number)
                queue.take(handle, fd, refused())
        assert queue.stats().waiting == 17
        assert queue.stats().dropped == 2
        queue.close()
        assert (queue.stats().kept, queue.stats().waiting) == (17, 0)
        for handle in list(made.handles):
            await made.release(handle)
        assert len(os.listdir("/proc/self/fd")) <= before
    assert [entry.app for entry in kept.entries()].count("camera") == 16
    notes = [event.note for event in made.sink.events if event.operation == "quarantine"]
    assert sum("are already waiting to be copied" in note for note in notes) == 2
    assert sum(note.startswith("kept as ") for note in notes) == 17


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
