"""A file that is an app's own, and yet not all of it is shown to it: it reads no more and loses nothing.

The policy hides places from everybody, owners too; or from all but owners, and then another app comes.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, code_of, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

CAMERA, GALLERY = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
"""
HIDDEN: Final = HEAD + '  - {id: no-place, require: {redact: location}, paths: "/**"}\n'
APART: Final = HIDDEN + '  - {id: share, require: {no: [people]}, paths: "/Share/**"}\n'
CLEAN_ONLY: Final = HEAD + '  - {id: share, require: {no: [location]}, paths: "/Share/**"}\n'
PLACED: Final = jpegs.photo_with(jpegs.exif())
CLEAN: Final = jpegs.plain(3, 64)


@pytest.fixture
def share(empty_store: Path) -> Path:
    directory = empty_store / "Share"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def save(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def read_and_change(path: Path) -> list[bytes]:
    """What is read before the first change, after it, and once more when it is settled."""
    fd = os.open(path, os.O_RDWR)
    shown = [os.pread(fd, 1 << 20, 0)]
    os.ftruncate(fd, len(shown[0]) + 1)
    shown.append(os.pread(fd, 1 << 20, 0))
    os.fsync(fd)
    shown.append(os.pread(fd, 1 << 20, 0))
    os.close(fd)
    return shown


@pytest.mark.parametrize("policy", [HIDDEN, APART], ids=["as it is", "in a draft"])
def test_an_owner_reads_no_more_of_it_for_changing_it(mounts, empty_store, share: Path, policy: str) -> None:
    mount: Mount = mounts.start(policy, empty_store)
    path = mount / "Share/a.jpg"
    call_as(CAMERA, save, path, PLACED)
    assert leaks((share / "a.jpg").read_bytes())
    shown = call_as(CAMERA, read_and_change, path)
    assert [leaks(data) for data in shown] == [[], [], []]
    assert [len(data) for data in shown] == [len(PLACED), len(PLACED) + 1, len(PLACED) + 1]
    assert (share / "a.jpg").read_bytes() == PLACED + b"\0", "and the place is there still"


@pytest.mark.parametrize("policy", [HIDDEN, APART], ids=["as it is", "in a draft"])
def test_a_byte_changed_through_a_mapping_takes_no_place_away(mounts, empty_store, share, policy) -> None:
    """The whole page comes back, with what was shown in it: it is refused, and the file stays."""
    mount: Mount = mounts.start(policy, empty_store)
    path = mount / "Share/a.jpg"
    call_as(CAMERA, save, path, PLACED)

    def change() -> str:
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, 0) as memory:
            memory[len(memory) - 40] ^= 1
            said = code_of(memory.flush)
        os.close(fd)
        return said

    assert call_as(CAMERA, change) in {"EACCES", "EIO"}
    assert (share / "a.jpg").read_bytes() == PLACED


def test_emptied_by_who_only_reads_it(mounts, empty_store: Path, share: Path) -> None:
    """open(O_RDONLY|O_TRUNC) in a folder where content is looked at."""
    mount: Mount = mounts.start(CLEAN_ONLY, empty_store)
    path = mount / "Share/a.jpg"
    call_as(CAMERA, save, path, CLEAN)

    def empty() -> int:
        fd = os.open(path, os.O_RDONLY | os.O_TRUNC)
        size = os.fstat(fd).st_size
        os.close(fd)
        return size

    assert call_as(CAMERA, empty) == 0
    assert (share / "a.jpg").read_bytes() == b""


def test_nothing_is_said_to_be_replaced_where_two_names_are_one_file(mounts, empty_store, share) -> None:
    policy = HEAD + '  - {id: no-place, require: {redact: location}, paths: "/Share/other"}\n'
    mount: Mount = mounts.start(policy, empty_store)  # else the kernel itself would do nothing
    for name in ("a", "b"):
        call_as(CAMERA, save, mount / "Share" / name, CLEAN)
    os.link(share / "a", share / "other")
    for name in ("other", "b"):
        call_as(CAMERA, os.rename, mount / "Share" / "a", mount / "Share" / name)
    renames = wait_for(lambda: (found := mount.events(operation="rename"))[1:] and found, "both on record")
    assert [event.get("size_before") for event in renames] == [None, len(CLEAN)]
