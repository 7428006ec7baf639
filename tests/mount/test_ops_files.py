"""What programs do with open files, as natively, on every road that bytes can take."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import random
import select
import shutil
import signal
import stat
import subprocess
import termios
from collections.abc import Iterator

import pytest

from tests.support.machine.counts import count, daily
from tests.support.models.twins import ROADS, Case, Road, Twins, content, error, fd_of, marks, twins_on

GIB = 1 << 30


# ---------------------------------------------------------------- bytes


def appending() -> object:
    with fd_of("file", os.O_WRONLY | os.O_APPEND) as one, fd_of("file", os.O_RDWR | os.O_APPEND) as two:
        os.write(one, b"one ")
        os.write(two, b"two ")
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"three ")
        os.pwrite(two, b"four", 0)  # Linux appends all the same
        return os.pread(two, 100, 0), os.lseek(one, 0, os.SEEK_CUR), os.fstat(one).st_size


def appending_by_rwf() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        os.pwritev(fd, [b"more ", b"still"], 0, os.RWF_APPEND)
        return content("file"), os.lseek(fd, 0, os.SEEK_CUR)


def appending_no_more() -> object:
    with fd_of("file", os.O_RDWR | os.O_APPEND) as fd:
        os.write(fd, b"end")
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b"begin", 0)
        return content("file")


def appending_from_now_on() -> object:
    with fd_of("file", os.O_RDWR) as one, fd_of("file", os.O_WRONLY | os.O_APPEND) as two:
        fcntl.fcntl(one, fcntl.F_SETFL, os.O_APPEND)
        os.write(two, b"two")
        os.pwrite(one, b"one", 0)
        return content("file")


def append_while_another_grows_it() -> object:
    with fd_of("file", os.O_WRONLY | os.O_APPEND) as one, fd_of("file", os.O_RDWR) as two:
        os.pwrite(two, b"x" * 5000, 100)
        os.write(one, b"end")
        os.ftruncate(two, 50)
        os.write(one, b"END")
        return content("file")


def vectors() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        written = os.writev(fd, [b"a" * 10, b"", b"b" * 5000, b"c"])
        parts = [bytearray(4), bytearray(4096), bytearray(2000)]
        read = os.preadv(fd, parts, 3)
        return written, read, [bytes(part) for part in parts]


def sparse() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"far", 3 * 4096 + 7)
        os.lseek(fd, 100_000, os.SEEK_SET)
        os.write(fd, b"end")
        return os.pread(fd, 200_000, 0), os.fstat(fd).st_size


def beyond_4_gib() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"begin")
        seen = []
        for at in (2 * GIB - 2, 4 * GIB - 3, 5 * GIB):
            os.pwrite(fd, b"%d|" % at, at)
            seen.append((os.pread(fd, 20, at - 1), os.fstat(fd).st_size))
        os.ftruncate(fd, 6 * GIB + 1)
        seen.append((os.pread(fd, 20, 6 * GIB - 3), os.lseek(fd, -1, os.SEEK_END)))
    seen.append((os.stat("new").st_size, error(os.truncate, "new", 4 * GIB + 4), os.stat("new").st_size))
    with fd_of("new", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"appended")
    with fd_of("new", os.O_RDONLY) as fd:
        seen.append((os.pread(fd, 30, 4 * GIB - 5), os.stat("new").st_size))
    os.truncate("new", 10)  # what is compared afterwards
    return seen


def many_random_writes() -> object:
    chance = random.Random(7)
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"begin")
        for _ in range(150):
            at, size = chance.randrange(300_000), chance.choice((1, 17, 4096, 5000, 70_000))
            if chance.random() < 0.1:
                os.ftruncate(fd, at)
            else:
                os.pwrite(fd, chance.randbytes(size), at)
            if chance.random() < 0.3:
                os.pread(fd, chance.choice((10, 9000)), chance.randrange(300_000))
        return hash(content("new")), os.fstat(fd).st_size


def large_calls() -> object:
    data = random.Random(1).randbytes(3 << 20)
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        written = os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        back = b"".join(iter(lambda: os.read(fd, 2 << 20), b""))
        return written, back == data


def without_rights() -> object:
    with fd_of("file", os.O_RDONLY) as reader, fd_of("file", os.O_WRONLY) as writer:
        return (
            error(os.write, reader, b"x"), error(os.read, writer, 1), error(os.ftruncate, reader, 0),
            error(os.pread, reader, 1, -1), error(os.lseek, reader, -1, os.SEEK_SET),
            error(os.ftruncate, writer, -5), error(os.write, writer, b""), error(os.read, reader, 0),
            error(lambda: mmap.mmap(reader, 10, prot=mmap.PROT_WRITE)),
            error(os.lseek, reader, 0, 99), error(fcntl.ioctl, reader, termios.TCGETS, b" " * 60),
        )  # fmt: skip


def at_the_end() -> object:
    with fd_of("file", os.O_RDONLY) as fd:
        return os.pread(fd, 100, 5), os.pread(fd, 100, 12), os.pread(fd, 100, 5000), os.read(fd, 1 << 20)


def shared_offset() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        other = os.dup(fd)
        os.read(fd, 6)
        got = os.read(other, 3)
        pid = os.fork()
        if pid == 0:
            os.write(fd, b"***")
            os._exit(0)
        os.waitpid(pid, 0)
        at = os.lseek(other, 0, os.SEEK_CUR)
        os.close(other)
        return got, at, content("file")


def direct() -> object:
    area = mmap.mmap(-1, 8192)  # page aligned
    area[:4096] = b"d" * 4096
    with fd_of("new", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd:
        written = os.pwritev(fd, [memoryview(area)[:4096]], 4096)
        read = os.preadv(fd, [area], 0)
        return written, read, bytes(area)


def times_move() -> object:
    os.utime("file", ns=(0, 0))
    with fd_of("file", os.O_WRONLY) as fd:
        os.write(fd, b"x")
        os.fsync(fd)
        moved = os.fstat(fd).st_mtime_ns > 0
    os.utime("empty", ns=(0, 0))
    os.truncate("empty", 3)
    os.utime("dir", ns=(0, 0))
    os.close(os.open("dir/more", os.O_CREAT))
    os.utime("vacant", ns=(0, 0))
    os.listdir("vacant")
    return moved, os.stat("empty").st_mtime_ns > 0, os.stat("dir").st_mtime_ns > 0, os.stat("vacant").st_mtime


def copies() -> object:
    with fd_of("file", os.O_RDONLY) as source, fd_of("new", os.O_RDWR | os.O_CREAT) as target:
        counts = [os.copy_file_range(source, target, 5, 0, 20), os.copy_file_range(source, target, 5)]
        counts.append(os.sendfile(target, source, 6, 3))
        reader, writer = os.pipe()
        counts += [os.splice(source, writer, 12, 0), os.splice(reader, target, 12)]
        os.close(reader)
        os.close(writer)
    shutil.copyfile("script", "script2")
    shutil.copy2("dir/inner", "inner2")
    return counts, content("new"), content("script2"), content("inner2")


def syncs() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        os.write(fd, b"s")
        os.fsync(fd)
        os.fdatasync(fd)
    with fd_of("file", os.O_RDONLY) as fd:
        os.fsync(fd)
    with fd_of("dir", os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
    with fd_of("file", os.O_RDWR | os.O_DSYNC) as fd:
        return os.write(fd, b"t")


def open_and_truncate_under_a_reader() -> object:
    with fd_of("file", os.O_RDONLY) as reader:
        before = os.pread(reader, 100, 0)
        with fd_of("file", os.O_WRONLY | os.O_TRUNC) as writer:
            empty = os.pread(reader, 100, 0)
            os.write(writer, b"another text")
            after = os.pread(reader, 100, 0)
        return before, empty, after


def emulated_fallocate() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 5000)  # by libc's emulation where the file system has none
        return os.fstat(fd).st_size, content("file")


# ---------------------------------------------------------------- mappings


def mapped_reads() -> object:
    with fd_of("file", os.O_RDONLY) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
        return area[:], len(area)


def mapped_writes() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 10_000)
        with mmap.mmap(fd, 10_000) as area:
            area[4090:4100] = b"0123456789"
            seen = os.pread(fd, 10, 4090)
            os.pwrite(fd, b"abc", 4095)
            shown = area[4090:4100]
            area.flush()
    with fd_of("new", os.O_RDONLY) as fd:
        return seen, shown, os.pread(fd, 10, 4090), os.fstat(fd).st_size


def mapping_outlives_the_descriptor() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        area = mmap.mmap(fd, 0)
    os.unlink("file")
    area[:5] = b"HELLO"
    area.flush()
    got = area[:]
    area.close()
    return got, content("hard")


def private_mapping() -> object:
    with fd_of("file", os.O_RDONLY) as fd, mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=3) as area:
        area[:5] = b"*****"
        return area[:], content("file")


def mapping_of_an_old_version() -> object:
    with fd_of("file", os.O_RDONLY) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
        with open("fresh", "wb") as fresh:
            fresh.write(b"something else")
        os.rename("fresh", "file")
        return area[:], os.pread(fd, 100, 0), content("file")


# ---------------------------------------------------------------- names under open files


def unlinked() -> object:
    with fd_of("file", os.O_RDWR) as fd, fd_of("file", os.O_RDONLY) as reader:
        os.unlink("file")
        os.unlink("hard")
        seen = [marks(os.fstat(fd)), os.pread(reader, 100, 0)]
        os.pwrite(fd, b"written", 20)
        os.ftruncate(fd, 25)
        os.fchmod(fd, 0o604)
        os.fchown(fd, os.getuid(), os.getgid())
        os.utime(fd, ns=(10**18, 2 * 10**18))
        os.fsync(fd)
        seen += [marks(os.fstat(fd)), os.fstat(fd).st_mtime_ns, os.pread(reader, 100, 0)]
        os.setxattr(fd, "user.x", b"y")
        return seen, os.getxattr(fd, "user.x"), os.listxattr(fd), error(os.stat, "file")


def unlinked_and_opened_again() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        os.unlink("file")
        os.unlink("hard")
        with fd_of(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            os.pwrite(again, b"again", 0)
        return os.pread(fd, 100, 0), error(os.link, f"/proc/self/fd/{fd}", "back")


def unlinked_and_made_anew() -> object:
    with fd_of("file", os.O_RDWR) as old:
        os.unlink("file")
        with fd_of("file", os.O_RDWR | os.O_CREAT | os.O_EXCL) as new:
            os.write(new, b"new")
            os.pwrite(old, b"OLD", 0)
            return os.pread(old, 100, 0), os.pread(new, 100, 0), content("file"), content("hard")


def never_named() -> object:
    with fd_of("new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600) as fd:
        os.unlink("new")
        os.write(fd, b"secret")
        os.ftruncate(fd, 3)
        return os.pread(fd, 10, 0), marks(os.fstat(fd))


def renamed() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        os.rename("file", "dir/moved")
        os.pwrite(fd, b"JELLO", 0)
        os.ftruncate(fd, 8)
        os.fchmod(fd, 0o600)
        return content("dir/moved"), content("hard"), marks(os.fstat(fd)), error(os.stat, "file")


def replaced() -> object:
    with fd_of("script", os.O_RDWR) as fd:
        os.rename("file", "script")
        os.pwrite(fd, b"still here", 0)
        return os.pread(fd, 100, 0), os.fstat(fd).st_nlink, content("script")


def exchanged() -> object:
    from policyfs.linux import libc

    with fd_of("file", os.O_RDWR) as one, fd_of("script", os.O_RDWR) as two, fd_of(".", os.O_PATH) as at:
        libc.rename2(at, b"file", at, b"script", libc.RENAME_EXCHANGE)
        os.pwrite(one, b"one", 0)
        os.pwrite(two, b"two", 0)
        return content("file"), content("script"), os.pread(one, 9, 0), os.pread(two, 9, 0)


def directory_renamed() -> object:
    with fd_of("dir/inner", os.O_RDWR) as fd:
        os.rename("dir", "vacant/moved")
        os.pwrite(fd, b"INNER+", 0)
        os.chdir("vacant/moved/sub")
        os.rename("../../moved", "../../../again")
        with open("here", "wb") as file:
            file.write(b"x")
        where = os.path.basename(os.path.dirname(os.getcwd()))
        return where, content("../inner"), sorted(os.listdir("../..")), marks(os.fstat(fd))


def hard_links() -> object:
    with fd_of("file", os.O_RDWR) as one, fd_of("hard", os.O_RDWR) as two:
        os.link("hard", "dir/third")
        os.pwrite(one, b"J", 0)
        os.pwrite(two, b"!", 11)
        same = os.path.sameopenfile(one, two) and os.path.samefile("file", "dir/third")
        links = [os.fstat(one).st_nlink]
        for name in ("file", "hard"):
            os.unlink(name)
            links.append(os.fstat(two).st_nlink)
        return same, links, content("dir/third"), os.stat("dir/third").st_nlink


# ---------------------------------------------------------------- processes


def running_program() -> object:
    shutil.copy("/bin/sleep", "sleep")
    process = subprocess.Popen(["./sleep", "30"])
    try:
        busy = error(os.open, "sleep", os.O_WRONLY)
    finally:
        process.kill()
        process.wait()
    return busy, subprocess.run(["./script"], check=False).returncode


def not_executable() -> object:
    return error(os.execv, "./file", ["file"]), error(os.execv, "./dir", ["dir"])


def one_wins() -> object:
    reader, writer = os.pipe()
    pids = []
    for _ in range(8):
        pids.append(os.fork())
        if pids[-1] == 0:
            with contextlib.suppress(FileExistsError):
                os.close(os.open("lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.write(writer, b"w")
            os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    won = os.read(reader, 100)
    os.close(reader)
    os.close(writer)
    return won


def locks() -> object:
    with fd_of("file", os.O_RDWR) as one, fd_of("file", os.O_RDWR) as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        taken = error(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        free = error(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX, 5)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB, 5)
                os._exit(1)
            fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)
            os._exit(0)
        return taken, free, os.waitpid(pid, 0)[1]


def polls() -> object:
    with fd_of("file", os.O_RDWR) as fd:
        return [len(ready) for ready in select.select([fd], [fd], [fd], 0)]


def killed_while_writing() -> object:
    pid = os.fork()
    if pid == 0:
        fd = os.open("new", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"y" * 100_000)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return len(content("new"))


def statx_of_a_descriptor() -> object:
    buffer = ctypes.create_string_buffer(256)
    with fd_of("file", os.O_RDONLY) as fd:
        result = ctypes.CDLL(None).statx(fd, b"", 0x1000, 0x7FF, buffer)
    return result, stat.S_ISREG(int.from_bytes(buffer[28:30], "little"))


STORIES = (
    appending, appending_by_rwf, append_while_another_grows_it, vectors, sparse, beyond_4_gib,
    many_random_writes, large_calls, without_rights, at_the_end, shared_offset, direct, times_move, copies,
    syncs, open_and_truncate_under_a_reader, emulated_fallocate, mapped_reads, mapped_writes,
    mapping_outlives_the_descriptor, private_mapping, mapping_of_an_old_version, unlinked,
    unlinked_and_opened_again, unlinked_and_made_anew, never_named, renamed, replaced, exchanged,
    directory_renamed, hard_links, running_program, not_executable, one_wins, locks, polls,
    killed_while_writing, statx_of_a_descriptor,
)  # fmt: skip


MEDIATED = [road for road in ROADS if road.name in {"mediated", "own under redaction", "checked"}]


EACH_DAY = daily(ROADS[count(2, 0) :], "own under redaction", "checked")


@pytest.fixture(scope="module", params=EACH_DAY, ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


def test_open_files_are_as_natively(twins: Twins) -> None:
    twins.compare([Case(story.__name__, story) for story in STORIES])


@pytest.mark.parametrize("road", MEDIATED, ids=lambda road: road.name)
def test_appending_begins_and_ends_by_fcntl(road: Road, arena) -> None:
    """In passthrough the kernel itself goes on as the file was opened (docs/posix.md)."""
    with twins_on(road, arena) as made:
        made.compare([Case(story.__name__, story) for story in (appending_no_more, appending_from_now_on)])
