"""The file system as a whole: what its parts are joined by, and what a new policy and the end do to all."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.fs import filesystem
from policyfs.fs.inodes import replaced_files, resolver
from policyfs.kernel.protocol import Opcode
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, errno_of

MODES = """\
apps:
  camera: {uid: 10010, modes: policy}
  maps: {uid: 10012}
rules:
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


def warned(made: Parts) -> list[tuple[str, bytes]]:
    """What the log is told from now on."""
    said: list[tuple[str, bytes]] = []
    made.whole._base = replace(made.whole._base, warn=lambda what, path: said.append((what, path)))
    return said


@on_trio
async def test_each_request_has_one_handler(store: Path) -> None:
    """None is pyfuse3's and ours, and what is tried first has a handler behind it, if it may decline."""
    with parts(store, engine_of(OPEN)) as made:
        slow, quick = made.whole.requests(), made.whole.quick_requests()
        assert {Opcode.FALLOCATE, Opcode.STATX, Opcode.SETLK, Opcode.GETLK, Opcode.SETLKW} <= set(slow)
        assert {Opcode.FSYNC, Opcode.GETXATTR, Opcode.FSYNCDIR} <= set(quick)
        # Both are always answered: of WRITEs only those come whose data were dropped (_operations.c).
        assert set(quick) - set(slow) == {Opcode.FSYNCDIR, Opcode.WRITE}


@on_trio
async def test_a_new_policy_is_every_parts(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node, generation = await made.walk("/a.jpg", CAMERA), made.gate.generation
        state, engine = node.state, engine_of(MODES)
        made.notes.sizes.clear()
        made.whole.use(engine)
        assert made.gate.generation == generation + 1
        assert node.state is not state
        assert (made.whole.modes.apps, made.timeouts.told_apart) == ({"camera"}, True)
        assert made.lookup.told(made.lookup.stat(node), node, node.state, made.caller(CAMERA)).uid == CAMERA
        assert made.notes.sizes, "the kernel forgets attributes"
        made.whole.use(engine_of(OPEN))
        assert not made.timeouts.told_apart


@on_trio
async def test_a_new_policy_decides_what_the_kernel_may_keep(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        assert (await made.lookup.lookup(made.root, b"a.jpg", made.caller(CAMERA))).entry_timeout == 0
        made.reload(engine_of('- {id: all, allow: [all], paths: "/**"}\n'))
        assert (await made.lookup.lookup(made.root, b"a.jpg", made.caller(CAMERA))).entry_timeout > 0


@on_trio
async def test_a_directory_that_ignores_case_is_told_once(store: Path, monkeypatch) -> None:
    monkeypatch.setattr(resolver, "directory_folds_by_flag", lambda _: True)
    monkeypatch.setattr(filesystem, "_FOLDING_SAID", 2)
    for name in ("d", "e", "f"):
        (store / name).mkdir()
    with parts(store, engine_of(OPEN)) as made:
        said = warned(made)
        for name in (b"d", b"d", b"e", b"f", b"d"):
            node = await made.walk(name.decode(), CAMERA)
            assert await errno_of(made.lookup.lookup(node, b"x", made.caller(CAMERA))) != 0
        assert [path for _, path in said] == [b"/d", b"/e"], "as many as the log has room for"
        assert "ignores the case" in said[0][0]


@on_trio
async def test_what_is_kept_for_a_moment_is_given_back(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        fd = os.open(store / "a.jpg", os.O_PATH)
        made.whole._replaced_files.keep(node, fd)
        made.whole.expire()
        os.fstat(fd)
        monkeypatch.setattr(replaced_files.time, "monotonic", lambda: 1e12)
        made.whole.kernel_cache.notifier = None
        made.whole.expire()
        monkeypatch.undo()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


@on_trio
async def test_a_refused_draft_at_the_end_of_a_mount_is_quarantined(store: Path) -> None:
    """Its writer still has it open, and gets no other answer. What was never judged is dropped."""
    rules = OPEN + '- {id: kinds, require: {no: [location]}, paths: "/**", on_refused: quarantine}\n'
    made = Parts(store, engine_of(rules))
    for name, flushes in ((b"refused.jpg", True), (b"unjudged.jpg", False)):
        writer, _ = await made.creator.create(made.root, name, 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(writer, 0, PHOTO)
        assert writer.node.open.draft is not None
        if flushes:
            assert await errno_of(made.sync.flush(writer)) == errno.EPERM
    await made.open("/empty", os.O_RDONLY, MAPS)
    quarantine = made.whole._base.quarantine
    assert quarantine.entries() == []
    made.whole.close()
    (entry,) = quarantine.entries()
    kept = quarantine.open(entry)
    assert os.pread(kept, len(PHOTO) + 1, 0) == PHOTO
    os.close(kept)
    made.tree.close()
    made._beside.close()
