"""Operations beside reading and writing, the same through the mount as natively, on every road.

fallocate, holes, copy_file_range, files without a name, inode flags, birth times. Where a view gives
another answer than the file natively would, that answer is here, too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.calls import (
    COLLAPSE,
    INSERT,
    KEEP_SIZE,
    PUNCH_HOLE,
    UNSHARE,
    ZERO_RANGE,
    birth,
    fallocate,
    inode_flags,
)
from tests.support.machine.processes import call_as, tool_as, wait_for
from tests.support.models.twins import ROADS, UID, Road, Twins, content, error, fd_of, marks, twins_on

XFS = Road("passthrough on xfs", disk="xfs")
RAW = (ROADS[1], ROADS[2], XFS, ROADS[3])
RESTRICTED = ROADS[4:6]
RDWR_NEW = os.O_RDWR | os.O_CREAT
K = 1024


@pytest.fixture(scope="module", params=[*RAW, *RESTRICTED], ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        made.road = request.param
        yield made


def _on(*roads: Road) -> pytest.MarkDecorator:
    """Only these roads: others answer differently, and that is compared beside it."""
    return pytest.mark.parametrize("twins", roads, indirect=True, ids=lambda road: road.name)


raw = _on(*RAW)
restricted = _on(*RESTRICTED)


def _alike(twins: Twins, call) -> object:
    mounted, plain = twins.both(call)
    assert mounted == plain
    assert twins.left[0] == twins.left[1]
    assert mounted.error == "", mounted
    return mounted.value


def _file(name: str, size: int) -> int:
    fd = os.open(name, RDWR_NEW, 0o644)
    os.pwrite(fd, b"words \n" * (size // 7) + b"w" * (size % 7), 0)
    return fd


# ---------------------------------------------------------------- fallocate


def _ranges() -> object:
    seen = []
    fd = _file("file", 20 * K)
    for mode, offset, length in (
        (0, 0, 8 * K), (0, 16 * K, 20 * K), (KEEP_SIZE, 30 * K, 40 * K),
        (KEEP_SIZE | PUNCH_HOLE, 4 * K, 4 * K), (KEEP_SIZE | PUNCH_HOLE, 10_000, 100),
        (KEEP_SIZE | PUNCH_HOLE, 60 * K, 4 * K), (ZERO_RANGE, 1 * K, 100),
        (KEEP_SIZE | ZERO_RANGE, 35 * K, 4 * K), (ZERO_RANGE, 39 * K, 4 * K),
        (PUNCH_HOLE, 0, 4 * K), (0, 0, 0), (0, -1, 10), (0, 1 << 62, 1 << 62), (0x80, 0, 1),
    ):  # fmt: skip
        done = fallocate(fd, mode, offset, length)
        seen.append((mode, offset, done, os.fstat(fd).st_size, content("file")))
    with fd_of("file", os.O_RDONLY) as reader:
        seen.append(fallocate(reader, 0, 0, 10))
    os.close(fd)
    return seen


def test_ranges_are_reserved_punched_and_zeroed(twins: Twins) -> None:
    seen = _alike(twins, _ranges)
    assert [done for _, _, done, *_ in seen[:-1]].count("None") >= 6, "this disk can"


def test_what_shifts_bytes_is_refused(twins: Twins) -> None:
    def shift() -> object:
        with fd_of("file", RDWR_NEW) as fd:
            os.write(fd, b"words\n" * 4096)
            return [fallocate(fd, mode, 4 * K, 4 * K) for mode in (COLLAPSE, INSERT, UNSHARE)]

    assert twins.both(shift)[0].value == ["ENOTSUP"] * 3


@raw
def test_space_is_given_back(twins: Twins) -> None:
    def punch() -> object:
        with fd_of("file", RDWR_NEW) as fd:
            os.write(fd, b"words\n" * 50_000)
            os.fsync(fd)
            before = os.fstat(fd).st_blocks
            done = fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 200 * K)
            return done, before - os.fstat(fd).st_blocks >= 190 * 2

    assert _alike(twins, punch) == ("None", True)


def _privileged(directory: Path) -> None:
    (directory / "file").write_bytes(b"#!/bin/sh\n" * 1000)
    os.chown(directory / "file", UID, UID)
    (directory / "file").chmod(0o6755)


def _use_range() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        done = fallocate(fd, KEEP_SIZE, 0, 100 * K)
        return done, marks(os.fstat(fd))


@raw
def test_suid_goes_as_with_a_write(twins: Twins) -> None:
    done, _ = twins.same(_privileged, _use_range).value
    assert done == "None"


@raw
def test_ordinary_tools(twins: Twins, arena: Path) -> None:
    """fallocate(1), xfs_io, dd and cp go their usual ways."""
    scripts = (
        "fallocate -l 100K new; fallocate -p -o 4096 -l 8192 new; fallocate -n -l 200K new; stat -c %s new",
        "yes word | head -c 65536 > text; cp --sparse=always text copy; fallocate -d copy; cmp text copy",
        "xfs_io -f -c 'pwrite 0 64k' -c 'fpunch 4k 8k' -c 'falloc 60k 8k' file; md5sum file",
        "truncate -s 1M old; echo x | dd of=old conv=notrunc bs=1 seek=500000 status=none; cp old new",
        "truncate -s 1M sparse; echo x >> sparse; tar cSf t sparse; tar xOSf t | cmp - sparse; wc -c < t",
    )
    for number, script in enumerate(scripts):
        said = []
        for root, inside in ((twins.mount.store, twins.mount.mountpoint), (twins.native, twins.native)):
            name = f"tools-{number}"
            (root / name).mkdir()
            (root / name).chmod(0o777)
            done = tool_as(UID, "sh", "-c", f"cd {inside / name} && set -e; {script}")
            said.append((done.returncode, done.stdout.splitlines()[-1:], done.stderr))
        assert said[0][0] == 0, said[0]
        assert said[0] == said[1]


# ---------------------------------------------------------------- holes


def _holes(*, writing: bool = True) -> object:
    fd = _file("file", 16 * K)
    os.pwrite(fd, b"words\n", 1 << 20)
    os.ftruncate(fd, 2 << 20)
    fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 4 * K, 4 * K)
    os.fsync(fd)
    if not writing:
        os.close(fd)
        fd = os.open("file", os.O_RDONLY)
        wait_for(lambda: os.lseek(fd, 0, os.SEEK_HOLE) == 4 * K, "the writer is gone")
    seen = [
        error(os.lseek, fd, at, how)
        for how in (os.SEEK_DATA, os.SEEK_HOLE)
        for at in (0, 4 * K, 5 * K, 8 * K, 500_000, 1 << 20, (1 << 21) - 1, 1 << 21, 1 << 40, -1)
    ]
    how = os.O_WRONLY if writing else os.O_RDONLY
    with fd_of("file", os.O_RDONLY) as reader, fd_of("file", how) as writer:
        seen += [error(os.lseek, fd, 0, os.SEEK_HOLE) for fd in (reader, writer)]
        seen += [error(os.lseek, reader, at, how) for at in (0, 5) for how in (0, 1, 2)]
    os.close(fd)
    return seen


@raw
def test_holes_are_where_they_are(twins: Twins) -> None:
    passing = "--no-passthrough" not in twins.road.options
    assert str(4 * K) in _alike(twins, lambda: _holes(writing=passing))


@_on(ROADS[3], *RESTRICTED)
@pytest.mark.parametrize("writing", [False, True])
def test_who_may_not_see_all_bytes_sees_no_holes(twins: Twins, writing: bool) -> None:
    """Under redaction, and while a mediated file is open for writing, it is one extent of data."""
    writing |= "redact" in twins.road.rules
    mounted, plain = twins.both(lambda: _holes(writing=writing))
    if writing:
        end = 2 << 20
        inside = [0, 4 * K, 5 * K, 8 * K, 500_000, 1 << 20, end - 1]
        assert mounted.value[:10] == [*map(str, inside), *["ENXIO"] * 3]
        assert mounted.value[10:20] == [*[str(end)] * 7, *["ENXIO"] * 3]
        assert mounted.value[20:22] == [str(end)] * 2
        assert mounted.value[22:] == plain.value[22:]
    else:
        assert mounted == plain


# ---------------------------------------------------------------- copies


def _copies() -> object:
    seen = []
    source = _file("file", 300 * K)
    target = os.open("new", RDWR_NEW, 0o644)
    for length, at, to in ((100 * K, 0, 0), (4 * K, 10, 10), (50, 299 * K, 400 * K), (10 * K, 299 * K, 0),
                           (5, 1 << 30, 0), (0, 0, 0)):  # fmt: skip
        seen.append((error(os.copy_file_range, source, target, length, at, to), os.fstat(target).st_size))
        seen.append(content("new"))
    seen.append(error(os.copy_file_range, source, source, 10, 0, 200 * K))
    seen.append(error(os.copy_file_range, source, source, 10, 0, 5))
    with fd_of("file", os.O_RDONLY) as reader, fd_of("new", os.O_WRONLY) as writer:
        seen.append(error(os.copy_file_range, writer, target, 10, 0, 0))
        seen.append(error(os.copy_file_range, source, reader, 10, 0, 0))
        seen.append(error(os.copy_file_range, reader, writer, 7))
    with fd_of("file", os.O_WRONLY | os.O_APPEND) as appender:
        seen.append(error(os.copy_file_range, target, appender, 10, 0, 0))
    os.close(source)
    os.close(target)
    return seen


def test_ranges_are_copied(twins: Twins) -> None:
    """Where a view lies between, by way of the daemon; the caller sees no difference."""
    _alike(twins, _copies)


@raw
def test_raw_copies_stay_in_the_store(twins: Twins) -> None:
    """Each is asked of the daemon, unless the kernel alone would be as good: in passthrough, if no blocks can
    be shared."""

    def copy() -> object:
        with fd_of("file", RDWR_NEW) as source, fd_of("new", RDWR_NEW) as target:
            os.write(source, b"words\n" * 200_000)
            return os.copy_file_range(source, target, 1_200_000, 0, 0), content("new") == content("file")

    def asked() -> int:
        counts = twins.mount.fuse_counters()
        return counts["COPY_FILE_RANGE_64"] + counts["COPY_FILE_RANGE"]

    before = twins.mount.fuse_counters()
    counts = [asked()]
    for _ in range(2):
        mounted, plain = twins.both(copy)
        assert mounted == plain
        assert mounted.value == (1_200_000, True)
        counts.append(asked())
    if twins.road.name != "mediated" and not twins.mount.status()["reflink"]:
        assert 0 < counts[1] == counts[2]
    else:
        assert counts[0] < counts[1] < counts[2]
    if twins.road.name != "mediated":
        after = twins.mount.fuse_counters()
        assert (after["READ"], after["WRITE"]) == (before["READ"], before["WRITE"])


# ---------------------------------------------------------------- files without a name


def test_temporary_files_work_without_o_tmpfile(twins: Twins) -> None:
    def use() -> object:
        import tempfile

        with tempfile.TemporaryFile(dir=".") as file:
            file.write(b"words" * 10_000)
            file.seek(0)
            return len(file.read()), os.listdir()

    assert _alike(twins, use) == (50_000, [])
    assert twins.mount.fuse("TMPFILE") <= 1  # ENOSYS once, and the kernel asks no more


# ---------------------------------------------------------------- flags and birth


def _flags_and_birth() -> object:
    with fd_of("file", RDWR_NEW) as fd, fd_of(".", os.O_RDONLY) as directory:
        seen = [inode_flags(fd), inode_flags(directory)]
    os.symlink("file", "link")
    now = os.stat("file").st_mtime
    born = birth("file"), birth("."), birth("link")
    return seen, [None if made is None else abs(made[0] - now) < 5 for made in born]


def test_inode_flags_and_birth(twins: Twins) -> None:
    _alike(twins, _flags_and_birth)


def test_birth_is_the_stores_own(twins: Twins) -> None:
    name = "born"
    (twins.mount.store / name).write_bytes(b"words")
    (twins.mount.store / name).chmod(0o644)
    natively = birth(twins.mount.store / name)
    assert natively is not None
    os.utime(twins.mount.store / name, ns=(10**18, 10**18))
    assert call_as(UID, birth, twins.mount / name) == natively
    done = tool_as(UID, "stat", "-c", "%W %s %h %a %Y", str(twins.mount / name))
    assert done.stdout.decode().split() == [str(natively[0]), "5", "1", "644", "1000000000"]
    assert twins.mount.fuse("STATX") > 0


@_on(ROADS[2])
def test_flags_are_those_of_the_store(twins: Twins) -> None:
    path = twins.mount.store / "flagged"
    path.write_bytes(b"words")
    path.chmod(0o644)
    subprocess.run(["chattr", "+d", str(path)], check=True, capture_output=True)
    with fd_of(path, os.O_RDONLY) as fd:
        natively = inode_flags(fd)
    assert int(natively, 16) & 0x40, "FS_NODUMP_FL"

    def ask() -> str:
        with fd_of(twins.mount / "flagged", os.O_RDONLY) as fd:
            return inode_flags(fd)

    assert call_as(UID, ask) == natively
