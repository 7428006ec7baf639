"""One file behind several nodes: programs must not notice."""

from __future__ import annotations

import functools
import mmap
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.machine.processes import TOOL_ENVIRONMENT, Child, call_as, start_as, tool_as, wait_for
from tests.support.models.trees import differences, inventory
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

RAW, CHECKED, HIDING = 10051, 10052, 10053
STRANGER = 10054
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  raw: {{uid: {RAW}}}
  checked: {{uid: {CHECKED}}}
  hiding: {{uid: {HIDING}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: texts, require: {{content: ["text/*", application/json]}}, who: {{app: checked}}, paths: "/**"}}
  - {{id: places, require: {{redact: location}}, who: {{app: hiding}}, paths: "/**", raw_types: [text/plain]}}
"""
LINES = 100


@pytest.fixture
def work(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    (empty_store / "log.txt").write_text("begin\n")
    (empty_store / "log.txt").chmod(0o666)
    return empty_store


@pytest.fixture
def mount(mounts: Mounts, work: Path) -> Mount:
    return mounts.start(POLICY, work)


def _emptied_then_read(channel, path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    channel.send("empty")
    while channel.recv():
        try:
            channel.send(os.pread(fd, 1 << 20, 0))
        except OSError as error:
            channel.send(error.strerror)


def _shown_whole(reader: Child, size: int) -> bytes:
    """What it reads, nothing if not of that size: for a moment it is as long as before. Never the place."""
    reader.send(True)
    shown = reader.receive()
    assert not jpegs.leaks(shown)
    return shown if len(shown) == size else b""


def test_who_can_write_reads_what_somebody_else_wrote_since_as_its_kind_is_shown(
    mount: Mount, work: Path, media: dict[str, Path]
) -> None:
    """Its kind is to be found by a descriptor that can write, which no worker gets."""
    path = str(mount / "log.txt")
    reader = start_as(HIDING, _emptied_then_read, path)
    assert reader.receive() == "empty"
    for data in (b"some words\n", media["photo_with_place.jpg"].read_bytes()):
        (work / "log.txt").write_bytes(data)
        shown = wait_for(functools.partial(_shown_whole, reader, len(data)), "its new length to be seen")
        if data.isascii():
            assert shown == data
        else:
            assert jpegs.pixels(shown) == jpegs.pixels(data)
    reader.send(False)
    reader.result()


def _marks(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_nlink, status.st_mode & 0o777


def test_what_changes_by_one_name_is_seen_by_another_with_other_rules(mounts: Mounts, work: Path) -> None:
    """Two nodes: the kernel knows what it changed of one only. Old files' attributes it may keep for long."""
    for name in ("one", "two"):
        (work / name).mkdir(mode=0o777)
        (work / name).chmod(0o777)
    old = work / "one/f"
    old.write_bytes(b"words\n")
    old.chmod(0o666)
    os.chown(old, RAW, RAW)
    os.utime(old, ns=(0, 0))
    rules = '  - {id: all, allow: [all], paths: "/***"}\n  - {id: kept, deny: [delete], paths: "/two/**"}\n'
    mount = mounts.start(POLICY.partition("rules:\n")[0] + "rules:\n" + rules, work, "--no-passthrough")
    one, two = mount / "one/f", mount / "two/f"

    def told(wanted: tuple[int, int, int]) -> None:
        for path in (one, two):
            wait_for(lambda path=path: call_as(RAW, _marks, path) == wanted, f"{path} is told", 0.5)

    call_as(RAW, os.link, one, two)
    told((6, 2, 0o666))
    call_as(RAW, os.chmod, two, 0o640)
    told((6, 2, 0o640))
    call_as(RAW, append_lines, str(two), "a")
    told((old.stat().st_size, 2, 0o640))
    call_as(RAW, os.link, one, mount / "one/third")
    told((old.stat().st_size, 3, 0o640))
    call_as(RAW, os.unlink, mount / "one/third")
    told((old.stat().st_size, 2, 0o640))


def _truncating(channel, path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)  # its attributes are asked for again
    channel.send("open")
    while channel.recv():
        channel.send(error(os.ftruncate, fd, 10))


def _wait_until(name: Path, shown: bool) -> None:
    wait_for(lambda: os.path.lexists(name) is shown, f"{name} is{'' if shown else ' not'} there")


@pytest.mark.parametrize("lookers", [(RAW,), (CHECKED, RAW), (RAW, STRANGER), (STRANGER,)])
def test_what_was_moved_out_of_sight_and_back_can_be_changed_by_who_has_it_open(
    mounts: Mounts, work: Path, lookers: tuple[int, ...]
) -> None:
    """Others see it move, and its nodes are told: what they were told last must not be believed for ever."""
    (work / "one").mkdir()
    here, there = work / "log.txt", work / "one/b"
    rules = """\
  - {id: all, allow: [all], paths: ["/***"]}
  - {id: hidden, deny: [see], who: {app: stranger}, paths: ["/*/b"]}
"""
    mount = mounts.start(POLICY.partition("rules:\n")[0] + "rules:\n" + rules, work)
    writer = start_as(STRANGER, _truncating, str(mount / "log.txt"))
    assert writer.receive() == "open"

    def moved(old: Path, new: Path) -> None:
        old.rename(new)
        for uid in lookers:
            for path in (old, new):
                shown = path is new and (uid != STRANGER or new == here)
                name = mount / path.relative_to(work)
                call_as(uid, _wait_until, name, shown)

    moved(here, there)
    moved(there, here)
    writer.send(True)
    said = writer.receive()
    writer.send(False)
    writer.result()
    assert said == "None"
    assert here.stat().st_size == 10


def append_lines(path: str, mark: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for number in range(LINES):
        line = f"{mark} {number:05d} {mark * 20}\n".encode()
        assert os.write(fd, line) == len(line)
    os.close(fd)


def test_appends_from_two_views_and_the_store_all_arrive_whole(mount: Mount, work: Path) -> None:
    writers = [
        start_as(uid, _appender, str(mount / "log.txt"), mark)
        for uid, mark in ((RAW, "r"), (RAW, "s"), (CHECKED, "c"), (CHECKED, "d"))
    ]
    writers.append(start_as(0, _appender, str(work / "log.txt"), "z"))
    for writer in writers:
        writer.result()
    lines = (work / "log.txt").read_text().splitlines()
    assert len(lines) == 1 + LINES * len(writers)
    for mark in "rscdz":
        mine = [line for line in lines if line.startswith(mark)]
        assert mine == [f"{mark} {number:05d} {mark * 20}" for number in range(LINES)]


def _appender(channel, path: str, mark: str) -> None:
    append_lines(path, mark)


def _written_at_the_end(channel, path: Path) -> int:
    """Look at a file, and when told write at its end, which lseek finds."""
    size = path.stat().st_size
    channel.send("seen")
    channel.recv()
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"third\n")
    return size


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_who_writes_at_the_end_keeps_what_was_appended_in_the_store(
    mounts: Mounts, work: Path, options: tuple[str, ...]
) -> None:
    """The other program has not closed the file yet, so the watch reports nothing."""
    mount = mounts.start(POLICY, work, "--app", "raw", *options)
    mount.expected_mediated = bool(options)
    time.sleep(2.0)  # the older a file is, the longer the kernel keeps its size
    writer = start_as(RAW, _written_at_the_end, mount / "log.txt")
    assert writer.receive() == "seen"
    with (work / "log.txt").open("ab", buffering=0) as file:
        file.write(b"second\n")
        writer.send("go on")
        assert writer.result() == len("begin\n")
    assert (work / "log.txt").read_bytes() == b"begin\nsecond\nthird\n"


def test_a_mapping_and_writes_of_another_view_show_each_other(mount: Mount, work: Path) -> None:
    (work / "log.txt").write_bytes(b"a" * 8192)
    mapped = start_as(RAW, _mapper, str(mount / "log.txt"))
    assert mapped.receive() == b"aaaa"
    call_as(CHECKED, _write_at, str(mount / "log.txt"), 5000, b"bbbb")
    mapped.send((5000, b""))
    assert mapped.receive() == b"bbbb", "through the page cache of the one file"
    mapped.send((6000, b"cccc"))
    mapped.receive()
    assert call_as(CHECKED, _read_at, str(mount / "log.txt"), 6000) == b"cccc"
    assert (work / "log.txt").read_bytes()[6000:6004] == b"cccc"
    mapped.send(None)
    mapped.result()


def test_without_passthrough_a_flushed_mapping_is_seen_in_another_view(mounts: Mounts, work: Path) -> None:
    """As on kernels before 6.9. Before msync(2) the bytes are in the pages of the first view alone."""
    (work / "log.txt").write_bytes(b"a" * 8192)
    mount = mounts.start(POLICY, work, "--no-passthrough")
    mapped = start_as(RAW, _mapper, str(mount / "log.txt"))
    assert mapped.receive() == b"aaaa"
    mapped.send((6000, b"cccc"))
    mapped.receive()
    mapped.send((-1, b""))
    mapped.receive()
    assert call_as(CHECKED, _read_at, str(mount / "log.txt"), 6000) == b"cccc"
    mapped.send(None)
    mapped.result()


def _mapper(channel, path: str) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        channel.send(mapping[:4])
        while (asked := channel.recv()) is not None:
            offset, data = asked
            if offset < 0:
                mapping.flush()
            if data:
                mapping[offset : offset + len(data)] = data
            channel.send(mapping[offset : offset + 4])


def _write_at(path: str, offset: int, data: bytes) -> None:
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, data, offset)
    os.close(fd)


def _read_at(path: str, offset: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, 4, offset)
    finally:
        os.close(fd)


def test_inode_numbers_are_the_stores_in_every_view_and_every_tool(mount: Mount, work: Path) -> None:
    os.link(work / "log.txt", work / "again.txt")
    (work / "dir").mkdir()
    os.link(work / "log.txt", work / "dir/third.txt")
    number = (work / "log.txt").stat().st_ino
    for uid in (RAW, CHECKED, HIDING):
        assert call_as(uid, os.stat, mount / "log.txt").st_ino == number
        assert call_as(uid, _by_descriptor, str(mount / "log.txt")) == (number, number, number)
        found = tool_as(uid, "find", ".", "-inum", str(number), cwd=mount.mountpoint, check=True)
        assert sorted(found.stdout.split()) == [b"./again.txt", b"./dir/third.txt", b"./log.txt"]
        same = tool_as(uid, "find", ".", "-samefile", "log.txt", cwd=mount.mountpoint, check=True)
        assert len(same.stdout.split()) == 3
        packed = tool_as(uid, "tar", "cf", "-", ".", cwd=mount.mountpoint, check=True).stdout
        listing = ["tar", "tvf", "-"]
        listed = subprocess.run(
            listing, input=packed, capture_output=True, check=True, env=TOOL_ENVIRONMENT, timeout=20
        )
        assert listed.stdout.count(b" link to ") == 2
        assert call_as(uid, _used, str(mount.mountpoint)) == _used(str(work))


def _by_descriptor(path: str) -> tuple[int, int, int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        listed = {entry.name: entry.inode() for entry in os.scandir(os.path.dirname(path))}
        return os.fstat(fd).st_ino, os.stat(f"/proc/self/fd/{fd}").st_ino, listed[os.path.basename(path)]
    finally:
        os.close(fd)


def _used(path: str) -> str:
    command = ["du", "-s", "--apparent-size", "-B1", path]
    said = subprocess.run(command, capture_output=True, check=True, timeout=20)
    return said.stdout.split()[0].decode()


@pytest.mark.parametrize("uid", [RAW, CHECKED])
def test_rsync_and_cp_keep_everything_that_they_keep_natively(
    mount: Mount, work: Path, tmp_path: Path, uid: int
) -> None:
    tree = work / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.txt").write_text("a\n")
    os.link(tree / "a.txt", tree / "sub/b.txt")
    os.symlink("a.txt", tree / "link")
    os.setxattr(tree / "a.txt", "user.note", b"kept")
    if uid == RAW:  # holes are zeros, and such a file is no text
        with open(tree / "holes", "wb") as file:
            file.write(b"text\n")
            file.truncate(1 << 20)
    for path in (tree, *tree.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
        os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_987_654_321), follow_symlinks=False)
    for command, target in (
        (("rsync", "-aHAX", "--sparse", "tree/", "by-rsync"), "by-rsync"),
        (("cp", "-a", "tree", "by-cp"), "by-cp"),
    ):
        tool_as(uid, *command, cwd=mount.mountpoint, check=True)
        assert differences(inventory(tree), inventory(work / target)) == []
        assert (work / target / "a.txt").stat().st_ino == (work / target / "sub/b.txt").stat().st_ino
        assert os.getxattr(work / target / "a.txt", "user.note") == b"kept"
        shutil.rmtree(work / target)


def test_an_open_file_outlives_its_name_in_every_view_at_once(mount: Mount, work: Path) -> None:
    holders = [start_as(uid, _holder, str(mount / "log.txt")) for uid in (RAW, CHECKED, HIDING)]
    for holder in holders:
        assert holder.receive() == b"begin\n"
    call_as(RAW, os.rename, mount / "log.txt", mount / "moved.txt")
    for holder in holders:
        holder.send("look")
        assert holder.receive() == (b"begin\n", 1)
    call_as(CHECKED, os.unlink, mount / "moved.txt")
    for holder in holders:
        holder.send("look")
        assert holder.receive() == (b"begin\n", 0)
        holder.send("end")
        holder.result()
    assert call_as(RAW, error, os.stat, mount / "moved.txt") == "ENOENT"
    assert os.listdir(work) == []


def _holder(channel, path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    channel.send(os.read(fd, 100))
    while channel.recv() == "look":
        channel.send((os.pread(fd, 100, 0), os.fstat(fd).st_nlink))
