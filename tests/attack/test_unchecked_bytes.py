"""Bytes that wait for their check, or that it refuses: only apps that may write the file read them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: look, allow: [see, read, create], who: {{app: any}}, paths: "/**"}}
"""
OWN: Final = HEAD + '  - {id: own, allow: [all], who: {app: any}, paths: "/**", when: {owner: self}}\n'
ONE: Final = HEAD + '  - {id: one, allow: [all], who: {app: camera}, paths: "/**"}\n'
NO: Final = '  - {id: no, require: {no: location}, paths: "/**"}\n'
KEPT: Final = '  - {id: kept, require: {content: image/jpeg}, on_refused: quarantine, paths: "/**"}\n'
PLACED: Final = jpegs.photo_with(jpegs.exif())
CLEAN: Final = jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, bytes(len(jpegs.exif()))))
WORDS: Final = (b"no photo, but words " * 1000)[: len(PLACED)]
CASES: Final = {
    "owners write": (OWN + NO, PLACED),
    "one app writes": (ONE + NO, PLACED),
    "kinds": (OWN + KEPT, WORDS),
}


def _write(channel: Any, path: Path, refused: bytes) -> None:
    """Stores a clean photo; when told, writes refused bytes over it, and then tries to store them."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.pwrite(fd, CLEAN, 0)
    os.fsync(fd)
    channel.send("clean")
    channel.recv()
    beside = os.open(path, os.O_RDONLY)
    os.pwrite(fd, refused, 0)
    assert os.pread(beside, 1 << 20, 0).startswith(refused), "its own bytes it reads at once"
    channel.send("written")
    channel.recv()
    channel.send(code_of(os.fsync, fd))
    channel.recv()
    os.pwrite(fd, CLEAN, 0)
    os.ftruncate(fd, len(CLEAN))
    os.close(fd)


def _read(channel: Any, path: Path) -> None:
    """Opens and maps the file; tells what it reads, and again each time when told."""
    fd = os.open(path, os.O_RDONLY)
    memory = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ)
    channel.send([os.pread(fd, 1 << 20, 0), bytes(memory)])
    while channel.recv() == "read":
        new = os.open(path, os.O_RDONLY)
        channel.send([bytes(memory), os.pread(fd, 1 << 20, 0), os.pread(new, 1 << 20, 0)])
        os.close(new)


def shown(mount: Mount, refused: bytes) -> list[list[bytes]]:
    """What the other app reads: of what is stored, while other bytes wait, and after they were refused."""
    path = mount / "a.jpg"
    writer = start_as(CAMERA, _write, path, refused)
    assert writer.receive() == "clean"
    reader = start_as(GALLERY, _read, path)
    seen = [reader.receive()]
    for said in ("written", "EPERM"):
        writer.send("go on")
        assert writer.receive() == said
        reader.send("read")
        seen.append(reader.receive())
    reader.send("end")
    reader.result()
    writer.send("go on")
    writer.result()
    return seen


@pytest.mark.parametrize("case", CASES)
def test_who_may_not_write_a_file_reads_no_bytes_before_their_check(
    case: str, mounts_on, store_on: Callable[[str], Path]
) -> None:
    """Attack C2.4: Read another app's bytes before their check, or bytes that the check refuses, in a file
    that the app may not write: by read, and in a mapping
    Guard: policyfs/fs/access/views.py::Views.whose
    Also:
    tests/unit/test_fs_access_views.py::test_a_view_that_refuses_has_one_node_for_all_that_may_write_the_file
    Without: ::test_they_are_read_where_all_share_a_draft_that_have_one_view
    """
    store, (policy, refused) = store_on("ext4"), CASES[case]
    mount = mounts_on.start(policy, store)
    assert {data for each in shown(mount, refused) for data in each} == {CLEAN}
    assert (store / "a.jpg").read_bytes() == CLEAN
    assert call_as(GALLERY, Path.read_bytes, mount / "a.jpg") == CLEAN


@pytest.mark.parametrize("case", CASES)
def test_they_are_read_where_all_share_a_draft_that_have_one_view(case: str, without, store_on) -> None:
    policy, refused = CASES[case]
    stored, waiting, after = shown(without("one-draft-for-all", policy, store_on("ext4")), refused)
    assert set(stored) == {CLEAN}
    assert any(data[:64] == refused[:64] for data in waiting)
    assert any(data[:64] == refused[:64] for data in after)


def _append(channel: Any, path: Path, flags: int, data: bytes) -> None:
    """Opens the file, writes at its end each time when told, and closes it when told."""
    fd = os.open(path, flags | os.O_APPEND)
    channel.send("open")
    while channel.recv() == "write":
        os.write(fd, data)
        channel.send("written")
    os.close(fd)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_two_apps_that_may_write_a_file_lose_nothing_of_each_other(flags: int, mounts_on, store_on) -> None:
    """They share one draft: of two drafts the second would be refused."""
    store = store_on("ext4")
    everyone = HEAD + '  - {id: all, allow: [all], who: {app: any}, paths: "/**"}\n'
    mount = mounts_on.start(everyone + KEPT.replace("image/jpeg", "text/*"), store)
    path = mount / "log"
    call_as(CAMERA, Path.write_bytes, path, b"begun\n")
    call_as(CAMERA, os.chmod, path, 0o666)
    lines = {CAMERA: b"camera\n", GALLERY: b"gallery\n"}
    apps = [start_as(uid, _append, path, flags, line) for uid, line in lines.items()]
    for app in apps:
        assert app.receive() == "open"
    for _ in range(2):
        for app in apps:
            app.send("write")
            assert app.receive() == "written"
    for app in apps:
        app.send("close")
        app.result()
    assert (store / "log").read_bytes() == b"begun\n" + b"camera\ngallery\n" * 2
