"""A policy that changes while requests are under way: one policy decides each, never parts of two."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from policyfs.domain import Facts, Op
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.samples import jpegs

CAMERA, GALLERY, MAPS = 10010, 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
BY_KIND = """\
- {id: photos, allow: [all], who: {app: any}, paths: "/**", when: {type: image/jpeg}}
- {id: dirs, allow: [see], who: {app: any}, paths: "/**", when: {type: inode/directory}}
"""
ANYTHING = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""
NOTHING = """\
- {id: filler, allow: [see], who: {app: camera}, paths: "/a"}
- {id: camera-only, allow: [all], who: {app: camera}, paths: "/**"}
- {id: photos, deny: [all], who: {app: [gallery, maps]}, paths: "/**"}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/a.jpg").write_bytes(PHOTO)
    (tmp_path / "DCIM/b.jpg").write_bytes(PHOTO)
    return tmp_path


async def errno_of(request) -> int:
    """0, or what a request fails with. Anything but a FUSE or system error is a bug."""
    try:
        await request()
    except pyfuse3.FUSEError as error:
        return error.errno
    except OSError as error:
        return error.errno or -1
    return 0


async def while_sniffing(made: Parts, request, text: str) -> int:
    """Start a request that waits for a sniff, take another policy, let the sniff end: its errno."""
    made.sniffed.gate, made.sniffed.asked = trio.Event(), trio.Event()
    found: list[int] = []
    for path in made.store.rglob("*.jpg"):
        os.utime(path)  # whatever kind was found before is not known any more

    async def run() -> None:
        found.append(await errno_of(request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await made.sniffed.asked.wait()
        made.reload(engine_of(text))
        # Other callers are met first under the new policy: keys of the old one mean others now.
        made.gate.principal(CAMERA)
        made.gate.principal(MAPS)
        made.sniffed.gate.set()
    made.sniffed.gate = None
    return found[0]


REQUESTS = {
    "open": lambda made, node: made.opener.open(node, os.O_RDONLY, made.caller(GALLERY)),
    "getattr": lambda made, node: made.lookup.getattr(node, made.caller(GALLERY)),
    "access": lambda made, node: made.lookup.access(node, os.R_OK, made.caller(GALLERY)),
    "lookup": lambda made, node: made.lookup.lookup(node.parent, b"b.jpg", made.caller(GALLERY)),
    "unlink": lambda made, node: made.remover.remove(
        node.parent, b"b.jpg", made.caller(GALLERY), directory=False
    ),
    "link": lambda made, node: made.linker.link(node, node.parent, b"c.jpg", made.caller(GALLERY)),
    "rename": lambda made, node: made.renamer.rename(
        node.parent, b"b.jpg", node.parent, b"c.jpg", 0, made.caller(GALLERY)
    ),
    "xattr": lambda made, node: made.xattrs.setxattr(node, b"user.a", b"", made.caller(GALLERY)),
    "truncate": lambda made, node: made.opener.open_to_truncate(node, 0, made.caller(GALLERY)),
}


@pytest.mark.parametrize("name", REQUESTS)
@on_trio
async def test_a_request_under_way_is_decided_by_one_policy(store: Path, name: str) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        node = await made.walk("/DCIM/a.jpg", GALLERY)
        before = made.caller(GALLERY).principal
        assert made.gate.engine.decide(
            before, Op.SEE | Op.READ, node.state, node.ftype, Facts("image/jpeg", "none")
        ).allowed
        code = await while_sniffing(made, lambda: REQUESTS[name](made, node), NOTHING)
        assert code in (errno.ENOENT, errno.ESTALE, errno.EEXIST), errno.errorcode.get(code, code)
        assert not len(made.handles)
    assert (store / "DCIM/a.jpg").read_bytes() == (store / "DCIM/b.jpg").read_bytes() == PHOTO
    assert not (store / "DCIM/c.jpg").exists()


@on_trio
async def test_an_open_handle_is_asked_by_the_new_policy_only(store: Path) -> None:
    with parts(store, engine_of(ANYTHING)) as made:
        handle = await made.open("/DCIM/a.jpg", os.O_RDWR, GALLERY)
        for request in (lambda: made.reader.read(handle, 0, 10), lambda: made.write(handle, 0, b"x")):
            made.reload(engine_of(BY_KIND))
            assert await while_sniffing(made, request, NOTHING) in (errno.ENOENT, errno.EACCES)
    assert (store / "DCIM/a.jpg").read_bytes() == PHOTO


@on_trio
async def test_what_has_no_name_is_restated_too(store: Path) -> None:
    """An open file that was unlinked, and a directory that was removed, keep the class of their last path."""
    with parts(store, engine_of(BY_KIND)) as made:
        (store / "DCIM/sub").mkdir()
        handle = await made.open("/DCIM/a.jpg", os.O_RDONLY, GALLERY)
        directory = await made.walk("/DCIM/sub", GALLERY)
        parent = await made.walk("/DCIM", GALLERY)
        await made.remover.remove(parent, b"a.jpg", made.caller(CAMERA), directory=False)
        (store / "DCIM/sub").rmdir()
        made.nodes.drop_name(directory, parent, b"sub")
        engine = engine_of(NOTHING)
        made.reload(engine)
        assert handle.node.state is engine.state_of(b"/DCIM/a.jpg")
        assert directory.state is engine.state_of(b"/DCIM/sub")
        assert await errno_of(lambda: made.reader.read(handle, 0, 10)) == errno.ENOENT


@on_trio
async def test_an_open_listing_shows_nothing_that_the_new_policy_hides(store: Path, monkeypatch) -> None:
    """A snapshot of names is old, but no entry of it may go into the kernel's cache for a day."""
    with parts(store, engine_of(ANYTHING), app="gallery") as made:
        made.timeouts.watched = True
        directory = await made.walk("/DCIM", GALLERY)
        index = await made.listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        shown: list[tuple[bytes, int]] = []

        def reply(token, name, entry, position) -> bool:
            shown.append((name, entry.st_ino))
            return True

        monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
        await made.listings.readdir(index, 0, None)
        assert {name for name, nodeid in shown if nodeid} == {b"a.jpg", b"b.jpg"}
        shown.clear()
        made.reload(engine_of(NOTHING))
        made.gate.principal(CAMERA)
        await made.listings.readdir(index, 2, None)
        assert shown == []
        await made.listings.releasedir(index)
