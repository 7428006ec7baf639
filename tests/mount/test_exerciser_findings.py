"""What the exerciser and the model have found, one small test each."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.stores import Mounts
from tests.support.samples.jpegs import plain

WRITER, READER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
  reader: {{uid: {READER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}}}
"""
CHECKED = POLICY + "  - {id: kinds, require: {content: [image/jpeg]}}\n"


def map_and_look(channel: Any, path: Path) -> None:
    """Map the file and answer each message with what the mapping shows."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
        channel.send(bytes(area))
        while channel.recv():
            channel.send(bytes(area))


def spoil(channel: Any, path: Path) -> str:
    fd = os.open(path, os.O_RDWR)
    channel.send("open")
    channel.recv()
    try:
        os.pwrite(fd, b"no picture " * 50, 0)
    except PermissionError:
        return "refused"
    finally:
        os.close(fd)
    return "written"


def test_refused_bytes_do_not_stay_in_a_mapping(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "a.jpg").write_bytes(plain())
    mount = mounts.start(CHECKED, empty_store)
    writer = start_as(WRITER, spoil, mount / "a.jpg")
    assert writer.receive() == "open"
    looker = start_as(READER, map_and_look, mount / "a.jpg")
    assert looker.receive() == plain()
    writer.send("write")
    assert writer.result() == "refused"

    def shown() -> bool:
        looker.send(True)
        return looker.receive() == plain()

    wait_for(shown, "the mapping shows the file as it is", 5.0)
    looker.send(False)
    looker.result()


def store_and_seek(_channel: Any, path: Path) -> int:
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 1 << 20) as area:
        area[500_000:500_005] = b"bytes"
        return os.lseek(fd, 400_000, os.SEEK_DATA)


def test_what_waits_in_a_mapping_is_in_no_hole(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "sparse").touch()
    os.truncate(empty_store / "sparse", 1 << 20)
    mount = mounts.start(POLICY, empty_store, "--no-passthrough")
    assert start_as(WRITER, store_and_seek, mount / "sparse").result() <= 500_000


def stat_then_read(channel: Any, path: Path) -> bytes:
    assert os.stat(path).st_size == 10
    channel.send("seen")
    channel.recv()
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 100_000)
    finally:
        os.close(fd)


def test_a_mediated_read_goes_as_far_as_the_file_did_when_it_was_opened(
    mounts: Mounts, empty_store: Path
) -> None:
    """Grown in the store by a program that still has it open: no watch reports that."""
    (empty_store / "log").write_bytes(b"0123456789")
    os.utime(empty_store / "log", (1, 1))
    mount = mounts.start(POLICY, empty_store, "--app", "reader", "--no-passthrough")
    reader = start_as(READER, stat_then_read, mount / "log")
    assert reader.receive() == "seen"
    with (empty_store / "log").open("ab") as log:
        log.write(b"x" * 50_000)
        log.flush()
        reader.send("go on")
        assert reader.result() == b"0123456789" + b"x" * 50_000


def refused_then_read(_channel: Any, path: Path) -> list[int]:
    said = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY):
        try:
            os.close(os.open(path, flags))
            said.append(0)
        except OSError as error:
            said.append(error.errno or -1)
    return said


def test_a_refused_writer_leaves_readers_on_their_road(mounts: Mounts, empty_store: Path) -> None:
    """A kind that cannot be cleaned is refused when it is opened, whoever tried to write it before."""
    (empty_store / "words").write_text("words\n" * 100)
    mount = mounts.start(POLICY + "  - {id: places, require: {redact: location}}\n", empty_store)
    assert start_as(READER, refused_then_read, mount / "words").result() == [errno.EACCES] * 3


def create_then_stat(channel: Any, path: Path) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    channel.send("open")
    channel.recv()
    return os.fstat(fd).st_size


def test_a_file_that_was_renamed_elsewhere_can_be_asked_for_by_its_descriptor(
    mounts: Mounts, empty_store: Path
) -> None:
    """What the answer hangs on is found by the descriptor where no known name leads to the file."""
    own = POLICY.replace("all, allow: [all], who: {app: any}", "own, allow: [all], when: {owner: self}")
    empty_store.chmod(0o700)
    mount = mounts.start(own, empty_store)
    writer = start_as(WRITER, create_then_stat, mount / "a")
    assert writer.receive() == "open"
    os.rename(empty_store / "a", empty_store / "b")
    os.truncate(empty_store / "b", 10)
    writer.send("stat")
    assert writer.result() == 10


def make_a_link(_channel: Any, path: Path) -> None:
    os.symlink("nowhere", path)


def rename_error(_channel: Any, old: Path, new: Path) -> str:
    try:
        os.rename(old, new)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "renamed"


def test_what_an_owner_hides_is_not_renamed_over(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "mine").touch()
    shy = "  - {id: shy, deny: [all], who: {app: reader}, when: {owner: writer}, errno: ENOENT}\n"
    mount = mounts.start(POLICY + shy, empty_store)
    start_as(WRITER, make_a_link, mount / "theirs").result()
    assert start_as(READER, rename_error, mount / "mine", mount / "theirs").result() == "ENOENT"
    assert os.readlink(empty_store / "theirs") == "nowhere"


def _cut_later(channel: Any, path: Path) -> list[object]:
    """Open a file, and cut it twice after a word: what ftruncate said, and the sizes."""
    fd = os.open(path, os.O_RDWR)
    channel.send("open")
    channel.recv()
    said = [code_of(os.ftruncate, fd, 50), os.fstat(fd).st_size]
    said += [code_of(os.ftruncate, fd, 40), os.fstat(fd).st_size]
    os.close(fd)
    return said


@pytest.mark.parametrize("policy", [POLICY, CHECKED], ids=["raw", "checked"])
@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_whose_name_was_taken_elsewhere_is_cut_by_its_descriptor(
    mounts: Mounts, empty_store: Path, policy: str, replaced: bool
) -> None:
    """A program in the store replaces the file, or removes it: who has it open goes on with it."""
    (empty_store / "a.jpg").write_bytes(plain())
    (empty_store / "a.jpg").chmod(0o666)
    mount = mounts.start(policy, empty_store)
    writer = start_as(WRITER, _cut_later, mount / "a.jpg")
    writer.receive()
    (empty_store / "next").write_bytes(b"another")
    if replaced:
        (empty_store / "next").rename(empty_store / "a.jpg")
    else:
        (empty_store / "a.jpg").unlink()
    writer.send("go on")
    assert writer.result() == ["", 50, "", 40]
    assert not replaced or (empty_store / "a.jpg").read_bytes() == b"another"
