"""Two uids of one app, which rules tell apart: what one of them writes, the other does not read too early.

Both have the same obligations, so the same view of each file. One of them may not read photos at all.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs, pngs

WRITER, READER = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  family: {{uid: [{WRITER}, {READER}]}}
rules:
  - {{id: all, allow: [all], who: {{app: family}}, paths: "/**"}}
  - {{id: drawings, deny: [read], who: {{uid: {READER}}}, paths: "/**", unless: {{type: image/png}}}}
"""
REDACTED: Final = HEAD + '  - {id: place, require: {redact: location}, paths: "/**", unless: {owner: self}}\n'
POLICIES: Final = {
    "redacted": REDACTED,
    "redacted, in a draft": REDACTED + '  - {id: no, require: {no: people}, paths: "/**"}\n',
    "cleaned": HEAD + '  - {id: clean, require: {clean: people}, paths: "/**"}\n',
}
MOUNTS: Final = {"shared": (), "app": ("--app", "family", "--any-uid")}
PHOTO: Final = jpegs.photo_with(jpegs.exif())
DRAWING: Final = pngs.plain()
assert len(DRAWING) < len(PHOTO)


def _write(channel: Any, path: Path) -> None:
    """Has a drawing open for reading and writing; makes it a photo when told, and closes it when told."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.pwrite(fd, DRAWING, 0)
    os.fsync(fd)
    channel.send("drawing")
    channel.recv()
    os.pwrite(fd, PHOTO, 0)
    channel.send("photo")
    channel.recv()
    os.close(fd)


def _read(channel: Any, path: Path) -> None:
    """Opens and maps a file; tells what it reads, and again when told: in the mapping and by read."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    channel.send([os.pread(fd, 1 << 20, 0), memory[:size]])
    channel.recv()
    copy, into = os.pipe()
    channel.send([_told(lambda: _copied(memory, into, copy)), _told(lambda: os.pread(fd, 1 << 20, 0))])


def _copied(memory: mmap.mmap, into: int, copy: int) -> bytes:
    """Copies a page by the kernel: an error instead of a signal where it is not there any more."""
    return os.read(copy, os.write(into, memory))


def _told(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError as error:
        return f"errno {error.errno}".encode()


def raced(mount: Mount) -> tuple[list[Any], list[Any]]:
    """What the reader gets of a file that it opens while it is the writer's drawing, and later its photo."""
    path = mount / "a"
    writer = start_as(WRITER, _write, path)
    assert writer.receive() == "drawing"
    reader = start_as(READER, _read, path)
    before = reader.receive()
    writer.send("go on")
    assert writer.receive() == "photo"
    reader.send("read")
    after = reader.receive()
    reader.result()
    writer.send("close")
    writer.result()
    return before, after


def shows_photo(seen: list[Any]) -> bool:
    return any(data.startswith(PHOTO[:3]) for data in seen)


@pytest.mark.parametrize("sort", first(1, zip(MOUNTS)))
@pytest.mark.parametrize("policy", POLICIES)
def test_who_may_read_drawings_alone_reads_no_photo_that_another_uid_writes(
    policy: str, sort: str, mounts_on, store_on: Callable[[str], Path]
) -> None:
    """Where nothing is redacted, a reader whom only the kind lets in reads apart from all writers anyway.

    Attack A1.2: Read, as one uid of an app, a file of a denied kind that another uid of it writes: from
    the kernel's pages, a mapping or a draft
    Guard: policyfs/fs/access/views.py::Views.whose, policyfs/policy/rules/scope.py::Scope.uids_matter
    Also: tests/unit/test_fs_access_views.py::test_so_has_each_uid_of_an_app_if_rules_tell_its_uids_apart
    Without: ::test_it_reads_one_where_an_app_has_one_node_for_all_its_uids
    """
    mount: Mount = mounts_on.start(POLICIES[policy], store_on("ext4"), *MOUNTS[sort])
    before, after = raced(mount)
    assert before == [DRAWING, DRAWING], "it may read drawings"
    assert after, "and goes on reading that"
    assert not shows_photo(after)
    assert call_as(READER, code_of, Path.read_bytes, mount / "a") == "EACCES"


@pytest.mark.parametrize("sort", first(1, zip(MOUNTS)))
@pytest.mark.parametrize("policy", ["redacted", "redacted, in a draft"])
def test_it_reads_one_where_an_app_has_one_node_for_all_its_uids(
    policy: str, sort: str, without, store_on
) -> None:
    mount = without("uids-share-lanes", POLICIES[policy], store_on("ext4"), *MOUNTS[sort])
    before, after = raced(mount)
    assert before == [DRAWING, DRAWING]
    assert shows_photo(after), after


# -- both write it -----------------------------------------------------------------------------------------

NO: Final = HEAD + '  - {id: no, require: {no: location}, paths: "/**"}\n'


def _write_photo(channel: Any, path: Path) -> None:
    """Writes a photo with a place over a drawing, and closes the file when told: the photo is refused."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, PHOTO, 0)
    channel.send("photo")
    channel.recv()
    channel.send(code_of(os.close, fd))


def _read_beside(channel: Any, path: Path) -> None:
    """Has a drawing open for reading and writing; tells what it reads each time it is told to read."""
    fd = os.open(path, os.O_RDWR)
    for _ in range(3):
        channel.send(_told(lambda: os.pread(fd, 1 << 20, 0)))
        channel.recv()


def both_wrote(mount: Mount) -> list[bytes]:
    """What the reader gets of the drawing: alone, while the other has written, and after its refusal."""
    path = mount / "a"
    reader = start_as(READER, _read_beside, path)
    seen = [reader.receive()]
    writer = start_as(WRITER, _write_photo, path)
    assert writer.receive() == "photo"
    reader.send("read")
    seen.append(reader.receive())
    writer.send("close")
    assert writer.receive() == "EPERM", "the place is refused"
    writer.result()
    reader.send("read")
    seen.append(reader.receive())
    reader.send("end")
    reader.result()
    return seen


def _with_drawing(store: Path) -> Path:
    (store / "a").write_bytes(DRAWING)
    os.chmod(store / "a", 0o666)
    return store


@pytest.mark.parametrize("sort", first(1, zip(MOUNTS)))
def test_nor_does_one_that_writes_the_same_file(sort: str, mounts_on, store_on) -> None:
    """Writers share a draft. It stays until the last of them has closed the file, also if it was refused.

    Attack C2.5: Read such bytes as an app that may write the file, and read it only by its kind: by a
    descriptor from before the write, or a reload
    Guard: policyfs/fs/opening/byte_paths.py::LivePath.read
    Also:
    tests/unit/test_fs_opening_byte_paths.py::test_nor_by_a_reload_that_tells_them_apart_while_both_have_a_live_file_open
    Without: ::test_it_does_where_a_draft_of_any_kind_is_read
    """
    mount: Mount = mounts_on.start(NO, _with_drawing(store_on("ext4")), *MOUNTS[sort])
    assert both_wrote(mount) == [DRAWING] * 3


@pytest.mark.parametrize("sort", first(1, zip(MOUNTS)))
def test_it_does_where_a_draft_of_any_kind_is_read(sort: str, without, store_on) -> None:
    mount = without("drafts-of-any-kind", NO, _with_drawing(store_on("ext4")), *MOUNTS[sort])
    first, *later = both_wrote(mount)
    assert first == DRAWING
    assert all(shows_photo([data]) for data in later)
