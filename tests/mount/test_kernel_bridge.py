"""The bridge on a real mount: passthrough, inode numbers, INIT, operations pyfuse3 lacks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.kernel.bridge import (
    FH_CACHE_DIR,
    FH_DIRECT_IO,
    FH_KEEP_CACHE,
    FH_NOFLUSH,
    FH_PASSTHROUGH,
    fh_index,
    pack_fh,
)
from policyfs.kernel.protocol import InitFlag
from tests.support.machine.processes import call_as, start_as, tool_as, wait_for
from tests.support.mount.tinyfs import INO_BASE, error_of

MIB = 1 << 20
DAY_S = 86400.0
CALL_DEADLINE_S = 20


# -- passthrough ----------------------------------------------------------------------------


def test_md5sum_of_64_mib_never_asks_the_daemon(tiny):
    content = os.urandom(MIB) * 64
    fs = tiny(content)
    done = tool_as(0, "md5sum", fs.path("f"), check=True)
    assert done.stdout.split()[0].decode() == hashlib.md5(content).hexdigest()
    assert fs.count("READ") == 0
    assert fs.count("OPEN") == 1
    assert fs.call("look").refused == []


def test_mmap_reads_and_writes_the_backing_file(tiny):
    fs = tiny(b"a" * 8192)
    with open(fs.path("f"), "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        assert view[:4] == b"aaaa"
        view[4096:4100] = b"zzzz"
        view.flush()
    assert fs.backing.read_bytes()[4096:4100] == b"zzzz"
    assert (fs.count("READ"), fs.count("WRITE")) == (0, 0)


def test_passthrough_writes_and_appends_reach_the_store(tiny):
    fs = tiny(b"0123456789")
    fd = os.open(fs.path("f"), os.O_RDWR)
    assert os.pwrite(fd, b"XY", 3) == 2
    os.close(fd)
    with open(fs.path("f"), "ab") as file:
        file.write(b"end")
    assert fs.backing.read_bytes() == b"012XY56789end"
    assert os.stat(fs.path("f")).st_size == 13
    assert fs.count("WRITE") == 0


def test_a_reader_of_a_passthrough_file_cannot_write(tiny):
    fs = tiny()
    fd = os.open(fs.path("f"), os.O_RDONLY)
    try:
        assert error_of(os.write, fd, b"x") == errno.EBADF
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["f", "m"])
def test_writes_ask_for_the_capability_xattr_once_at_most(tiny, name):
    fs = tiny(b"x" * 4096)
    fd = os.open(fs.path(name), os.O_WRONLY)
    for i in range(50):
        os.pwrite(fd, b"y", i)
    os.close(fd)
    assert fs.call("look").xattrs in ([], [b"security.capability"])
    assert fs.count("WRITE") == (50 if name == "m" else 0)


def test_created_file_is_open_in_passthrough_at_once(tiny):
    fs = tiny()
    fd = os.open(fs.path("new"), os.O_CREAT | os.O_RDWR, 0o600)
    os.write(fd, b"fresh")
    assert os.pread(fd, 10, 0) == b"fresh"
    assert os.fstat(fd).st_ino == INO_BASE + 10
    os.close(fd)
    assert fs.backing.with_name("made-new").read_bytes() == b"fresh"
    assert (fs.count("CREATE"), fs.count("WRITE"), fs.count("READ")) == (1, 0, 0)


def test_the_whole_handle_comes_back_at_release(tiny):
    fs = tiny()
    for _ in range(2):
        with open(fs.path("f"), "rb") as file:
            file.read()
    wait_for(lambda: fs.count("RELEASE") == 2, "two RELEASEs")
    state = fs.call("look")
    assert [fh_index(fh) for fh in state.released] == [1, 2]
    assert state.released[0] == pack_fh(1, FH_PASSTHROUGH, state.ids[2])


def test_mediated_node_beside_a_passthrough_node_of_the_same_file(tiny):
    fs = tiny(b"0123456789")
    with open(fs.path("f"), "rb") as passed, open(fs.path("m"), "rb") as mediated:
        assert passed.read() == mediated.read() == b"0123456789"
    assert fs.count("READ") == 1


def test_without_passthrough_everything_is_mediated(tiny):
    fs = tiny(b"0123456789", passthrough=False)
    assert Path(fs.path("f")).read_bytes() == b"0123456789"
    agreed = fs.initialised()
    assert (agreed.passthrough, agreed.max_stack_depth) == (False, 0)
    [(code, reason)] = fs.call("look").refused
    assert code == errno.EPERM
    assert "without passthrough" in reason


# -- the other open flags ---------------------------------------------------------------------


def read_twice(fs) -> int:
    """READs that two opens with one read each cause."""
    before = fs.count("READ")
    for _ in range(2):
        assert Path(fs.path("m")).read_bytes() == b"hello world\n"
    return fs.count("READ") - before


def test_pages_are_kept_from_open_to_open_only_if_asked(tiny):
    fs = tiny(timeout_s=DAY_S)
    assert read_twice(fs) == 2
    fs.call("open_with", FH_KEEP_CACHE)
    assert read_twice(fs) == 0


def test_direct_io_asks_for_every_read(tiny):
    fs = tiny(timeout_s=DAY_S)
    fs.call("open_with", FH_DIRECT_IO)
    assert read_twice(fs) >= 2


def test_no_flush_if_asked(tiny):
    fs = tiny()
    for flags, flushes in ((0, 1), (FH_NOFLUSH, 1)):
        fs.call("open_with", flags)
        Path(fs.path("m")).read_bytes()
        assert fs.count("FLUSH") == flushes


def test_a_listing_stays_in_the_kernel_if_asked(tiny):
    fs = tiny(timeout_s=DAY_S)
    fs.call("open_with", FH_CACHE_DIR | FH_KEEP_CACHE)
    names = [sorted(os.listdir(fs.root)) for _ in range(2)]
    asked = fs.count("READDIRPLUS")
    names.append(sorted(os.listdir(fs.root)))
    assert names == [["d", "f", "m", "slow"]] * 3
    assert fs.count("READDIRPLUS") == asked


# -- inode numbers --------------------------------------------------------------------------


def test_stat_shows_the_stores_inode_numbers(tiny):
    fs = tiny()
    assert os.stat(fs.root).st_ino == INO_BASE + 1
    assert os.stat(fs.path("f")).st_ino == INO_BASE + 2
    assert os.stat(fs.path("f")).st_rdev == 0
    with open(fs.path("m"), "rb") as file:
        assert os.fstat(file.fileno()).st_ino == INO_BASE + 3


def test_listing_shows_the_stores_inode_numbers(tiny):
    fs = tiny()
    with os.scandir(fs.root) as entries:
        listed = {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}
    assert listed == {
        "f": (INO_BASE + 2, False),
        "m": (INO_BASE + 3, False),
        "slow": (INO_BASE + 4, False),
        "d": (INO_BASE + 5, True),
    }
    found = tool_as(0, "find", fs.root, "-inum", str(INO_BASE + 3), check=True)
    assert found.stdout.decode().split() == [fs.path("m")]
    assert fs.count("READDIR") == 0


# -- INIT -----------------------------------------------------------------------------------


def test_init_agrees_on_exactly_what_was_asked_for(tiny):
    agreed = tiny().initialised()
    expected = (
        InitFlag.ASYNC_READ
        | InitFlag.ATOMIC_O_TRUNC
        | InitFlag.BIG_WRITES
        | InitFlag.DONT_MASK
        | InitFlag.AUTO_INVAL_DATA
        | InitFlag.DO_READDIRPLUS
        | InitFlag.PARALLEL_DIROPS
        | InitFlag.MAX_PAGES
        | InitFlag.CACHE_SYMLINKS
        | InitFlag.HANDLE_KILLPRIV_V2
        | InitFlag.INIT_EXT
        | InitFlag.PASSTHROUGH
        | InitFlag.NO_EXPORT_SUPPORT
    )
    assert agreed.flags == expected & agreed.offered
    assert InitFlag.PASSTHROUGH in agreed.offered, "this kernel has no FUSE passthrough"
    assert (agreed.passthrough, agreed.max_stack_depth, agreed.max_write) == (True, 1, MIB)
    assert agreed.minor >= 40


def test_reads_and_writes_come_by_the_mebibyte(tiny):
    fs = tiny(b"")
    fd = os.open(fs.path("m"), os.O_RDWR)
    assert os.write(fd, os.urandom(2 * MIB)) == 2 * MIB
    os.close(fd)
    assert fs.count("WRITE") == 2


def test_umask_is_the_daemons_to_apply(tiny):
    fs = tiny()
    tool_as(0, "sh", "-c", f"umask 027; echo > {fs.path('a')}; mkdir -m 0750 {fs.path('b')}")
    [(file_mode, file_umask), (dir_mode, dir_umask)] = fs.call("look").modes
    assert (file_mode & 0o7777, file_umask) == (0o666, 0o027)
    assert dir_mode & 0o7777 == 0o750
    assert dir_umask in (0o027, 0)  # mkdir -m may set the umask to 0 around the call


# -- operations that pyfuse3 has no handler for ----------------------------------------------


@pytest.mark.parametrize("name", ["f", "m"])
def test_fallocate_is_not_supported(tiny, name):
    fs = tiny(b"0123456789")
    with open(fs.path(name), "r+b") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        for mode in (0, 1, 3, 16):  # plain, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
            result = libc.fallocate(file.fileno(), mode, ctypes.c_long(0), ctypes.c_long(4096))
            assert (result, ctypes.get_errno()) == (-1, errno.EOPNOTSUPP), mode
    assert fs.backing.read_bytes() == b"0123456789"


@pytest.mark.parametrize("name", ["f", "m"])
def test_a_file_is_one_extent_of_data(tiny, name):
    fs = tiny(b"0123456789")
    fd = os.open(fs.path(name), os.O_RDONLY)
    try:
        assert os.lseek(fd, 3, os.SEEK_DATA) == 3
        assert os.lseek(fd, 3, os.SEEK_HOLE) == 10
        assert error_of(os.lseek, fd, 10, os.SEEK_DATA) == errno.ENXIO
        assert os.lseek(fd, -1, os.SEEK_END) == 9
    finally:
        os.close(fd)
    assert fs.count("LSEEK") == 1


@pytest.mark.parametrize(("source", "target"), [("f", "new"), ("m", "new")])
def test_copy_file_range_copies_through_both_nodes(tiny, source, target):
    content = os.urandom(100_000)
    fs = tiny(content)
    with open(fs.path(source), "rb") as one, open(fs.path(target), "wb") as two:
        left = len(content)
        while left:
            left -= os.copy_file_range(one.fileno(), two.fileno(), left)
    assert fs.backing.with_name("made-new").read_bytes() == content
    assert fs.count("COPY_FILE_RANGE") >= 1
    assert (fs.count("READ") > 0) == (source == "m")


def test_reflink_is_not_supported(tiny):
    fs = tiny()
    with open(fs.path("m"), "rb") as one, open(fs.path("new"), "wb") as two:
        assert error_of(fcntl.ioctl, two.fileno(), 0x40049409, one.fileno()) == errno.EOPNOTSUPP


def test_ioctls_are_refused(tiny):
    fs = tiny()
    with open(fs.path("f"), "rb") as file:
        for request in (0x80086601, 0x5401, 0x801C581F):  # FS_IOC_GETFLAGS, TCGETS, FSGETXATTR
            assert error_of(fcntl.ioctl, file.fileno(), request, bytes(64)) == errno.ENOTTY


def test_unnamed_files_are_not_supported(tiny):
    fs = tiny()
    assert error_of(os.open, fs.root, os.O_TMPFILE | os.O_RDWR) == errno.EOPNOTSUPP


def test_requests_libfuse_does_not_know_do_no_harm(tiny):
    fs = tiny()
    # statx for the birth time sends STATX (opcode 52), which libfuse 3.14 has never heard of.
    birth = tool_as(0, "stat", "--cached=never", "-c", "%i %w", fs.path("f"), check=True)
    assert birth.stdout.decode().split() == [str(INO_BASE + 2), "-"]
    assert fs.count("STATX") == 1
    assert os.stat(fs.path("f")).st_ino == INO_BASE + 2


def test_poll_calls_files_ready_without_asking_each_time(tiny):
    fs = tiny()
    with open(fs.path("m"), "rb") as file:
        poller = select.poll()
        poller.register(file, select.POLLIN)
        for _ in range(3):
            assert poller.poll(0) == [(file.fileno(), select.POLLIN)]
    assert fs.count("POLL") == 1


def test_name_to_handle_gives_no_way_round_the_tree(tiny):
    fs = tiny()
    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    mount_id = ctypes.c_int()
    result = libc.name_to_handle_at(-100, fs.path("f").encode(), handle, ctypes.byref(mount_id), 0)
    assert (result, ctypes.get_errno()) == (-1, errno.EOPNOTSUPP)


# -- the raw request --------------------------------------------------------------------------


def test_raw_request_knows_who_reads_and_writes(tiny):
    fs = tiny(b"0123456789")

    def use():
        fd = os.open(fs.path("m"), os.O_RDWR)
        os.pwrite(fd, b"Z" * 5000, 4096)
        os.close(fd)
        return os.getpid()

    pid = call_as(12345, use, gid=23456)
    requests = {request.opcode: request for request in fs.call("look").requests}
    assert {"OPEN", "WRITE", "FLUSH"} <= set(requests)
    for request in requests.values():
        assert (request.nodeid, request.uid, request.gid, request.pid) == (3, 12345, 23456, pid)
    fh, offset, size = struct.unpack_from("=QQI", requests["WRITE"].body)
    assert (offset, size, len(requests["WRITE"].body)) == (4096, 5000, 40)
    assert requests["WRITE"].length == 40 + 40 + 5000
    assert struct.unpack_from("=Q", requests["FLUSH"].body) == (fh,)


# -- staying alive ----------------------------------------------------------------------------


def truncate_and_be_interrupted(path: str) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    os.truncate(path, 5)


def test_an_interrupted_caller_does_not_end_the_session(tiny):
    fs = tiny(b"x" * 10)
    child = start_as(0, lambda _channel: truncate_and_be_interrupted(fs.path("slow")))
    wait_for(lambda: fs.call("is_waiting"), "the SETATTR")
    os.kill(child.pid, signal.SIGUSR1)
    wait_for(lambda: fs.count("INTERRUPT") > 0, "an INTERRUPT")
    assert os.stat(fs.path("m")).st_size == 10
    fs.call("let_go")
    child.result(CALL_DEADLINE_S)
    assert os.stat(fs.path("m")).st_size == 5


def test_many_clients_at_once(tiny):
    fs = tiny(b"x" * 10)

    def look(_channel) -> int:
        return sum(os.stat(fs.path(name)).st_size for name in "fm" * 200)

    children = [start_as(0, look) for _ in range(4)]
    assert [child.result(CALL_DEADLINE_S) for child in children] == [4000] * 4


# -- loading ------------------------------------------------------------------------------------


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter says on stderr."""
    line = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=CALL_DEADLINE_S, check=False)
    return done.stderr


def test_pyfuse3_first_is_an_error():
    assert "must be imported before pyfuse3" in run_python("import pyfuse3, policyfs.kernel.bridge")


ATTACH = """
import ctypes, os, sys
from policyfs.cli.machine.machine_checks import linked_libfuse
ctypes.CDLL(linked_libfuse(), mode=getattr(os, sys.argv[2]))
from policyfs.kernel import session
from policyfs.kernel.bridge import pyfuse3
device = session.mount_device(sys.argv[1], source="x", user_id=0, group_id=0, allow_other=False,
                              default_permissions=False)
try:
    session.attach(pyfuse3.Operations(), device, passthrough=True)
finally:
    session.unmount(sys.argv[1])
"""


def test_libfuse_loaded_earlier_does_no_harm_unless_it_is_global(arena):
    assert run_python(ATTACH, str(arena), "RTLD_LOCAL") == ""
    assert "not bound to policyfs's bridge" in run_python(ATTACH, str(arena), "RTLD_GLOBAL")
