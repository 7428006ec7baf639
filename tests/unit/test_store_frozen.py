"""Frozen copies on file systems with and without reflink."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading

import pytest

from policyfs.domain import Patch
from policyfs.linux.libc import link_fd
from policyfs.linux.statx import fstatx
from policyfs.store.frozen import FrozenTooLarge, Version, adopt, apply, freeze, open_readonly, seal
from tests.support.machine.images import STORE_KINDS, file_system
from tests.support.machine.processes import call_as

pytestmark = [pytest.mark.mount, pytest.mark.usefixtures("no_descriptor_leaks")]
MIB = 1 << 20
REFLINK = {"ext4": False, "xfs": True, "btrfs": True, "tmpfs": False}


@pytest.fixture(scope="module", params=STORE_KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def base(kind, tmp_path_factory):
    with file_system(kind, tmp_path_factory.mktemp("frozen")) as root:
        yield root


@pytest.fixture
def directory(base):
    fd = os.open(base, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def source(base):
    """(path, descriptor) of a file of 3 MiB and a bit, whose every 8 bytes are their own number."""
    path = base / "source"
    path.write_bytes(b"".join(number.to_bytes(8, "big") for number in range(3 * MIB // 8)) + b"tail")
    fd = os.open(path, os.O_RDONLY)
    yield path, fd
    os.close(fd)
    path.unlink()


@pytest.fixture(params=[True, False], ids=["reflink-allowed", "memory-only"])
def reflink(request):
    return request.param


class TestFreeze:
    def test_the_copy_is_the_source_and_stays_so(self, kind, source, directory, reflink):
        path, fd = source
        before, content = fstatx(fd), path.read_bytes()
        with freeze(fd, 32 * MIB, directory, reflink) as copy:
            path.write_bytes(b"changed")
            assert copy.how == ("reflink" if reflink and REFLINK[kind] else "memfd")
            assert copy.size == len(content)
            assert copy.version == Version(before.size, before.mtime_ns, before.ctime_ns)
            assert os.pread(copy.fd, 4 * MIB, 0) == content

    def test_dirty_pages_of_a_living_mapping_are_in_it(self, base, directory, reflink):
        with (base / "mapped").open("w+b") as file:
            file.truncate(8192)
            with mmap.mmap(file.fileno(), 8192) as mapping:
                mapping[4096:4100] = b"here"
                reader = os.open(base / "mapped", os.O_RDONLY)
                with freeze(reader, MIB, directory, reflink) as copy:
                    mapping[4096:4100] = b"then"
                    assert os.pread(copy.fd, 4, 4096) == b"here"
                os.close(reader)

    def test_empty_and_sparse_files(self, base, directory, reflink):
        path = base / "sparse"
        path.write_bytes(b"")
        fd = os.open(path, os.O_RDONLY)
        with freeze(fd, 0, directory, reflink) as copy:
            assert (copy.size, os.pread(copy.fd, 1, 0)) == (0, b"")
        os.truncate(path, 5 * MIB)
        with freeze(fd, 5 * MIB, directory, reflink) as copy:
            assert (copy.size, os.pread(copy.fd, 16, 4 * MIB)) == (5 * MIB, bytes(16))
        os.close(fd)

    def test_the_cap_is_for_memory_only_and_exact(self, kind, source, directory):
        _, fd = source
        size = fstatx(fd).size
        freeze(fd, size, None, False).close()
        with pytest.raises(FrozenTooLarge) as caught:
            freeze(fd, size - 1, None, False)
        assert (caught.value.size, caught.value.cap) == (size, size - 1)
        if REFLINK[kind]:
            freeze(fd, 0, directory, True).close()
        else:
            with pytest.raises(FrozenTooLarge):
                freeze(fd, 0, directory, True)

    def test_a_clone_of_another_file_system_falls_back_to_memory(self, source, tmp_path):
        elsewhere = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        with freeze(source[1], 4 * MIB, elsewhere, True) as copy:
            assert copy.how == "memfd"
        os.close(elsewhere)

    def test_the_unnamed_file_is_never_seen_nor_named(self, kind, base, source, directory):
        if not REFLINK[kind]:
            return
        names = os.listdir(base)
        with freeze(source[1], 0, directory, True) as copy:
            assert os.listdir(base) == names
            assert fstatx(copy.fd).nlink == 0
            with pytest.raises(OSError) as caught:
                link_fd(copy.fd, directory, b"escaped")
            assert caught.value.errno == errno.ENOENT

    def test_a_source_that_changes_its_size_meanwhile(self, base, directory, reflink):
        """Whatever a writer does, the copy has one size, and within it old bytes, new bytes or zeros."""
        path = base / "restless"
        path.write_bytes(b"A" * 4 * MIB)
        fd, stop = os.open(path, os.O_RDONLY), threading.Event()

        def writer() -> None:
            while not stop.is_set():
                os.truncate(path, MIB // 2)
                with path.open("r+b") as file:
                    file.write(b"B" * 6 * MIB)

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            for _ in range(10):
                with freeze(fd, 8 * MIB, directory, reflink) as copy:
                    content = os.pread(copy.fd, 16 * MIB, 0)
                    assert len(content) == copy.size == copy.version.size <= 6 * MIB
                    assert not content.strip(b"AB\0")
        finally:
            stop.set()
            thread.join()
            os.close(fd)

    def test_what_cannot_be_read_raises_and_leaves_nothing_open(self, base, directory):
        write_only = os.open(base / "w", os.O_WRONLY | os.O_CREAT)
        os.write(write_only, b"abc")
        with pytest.raises(OSError) as caught:
            freeze(write_only, MIB, directory, True)
        assert caught.value.errno == errno.EBADF
        os.close(write_only)

    def test_the_offset_of_the_source_is_untouched(self, source, directory, reflink):
        freeze(source[1], 4 * MIB, directory, reflink).close()
        assert os.lseek(source[1], 0, os.SEEK_CUR) == 0


def _reopen_for_writing(fd: int) -> None:
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))


class TestApplyAndSeal:
    def test_who_may_read_an_unsealed_copy_cannot_get_at_writing_it(self, source, directory, reflink):
        with freeze(source[1], 4 * MIB, directory, reflink) as copy:
            reader = open_readonly(copy)
            with pytest.raises(PermissionError):
                call_as(65534, _reopen_for_writing, reader)
            os.close(reader)

    def test_patches_land_in_the_copy_alone(self, source, directory, reflink):
        path, fd = source
        content = path.read_bytes()
        with freeze(fd, 4 * MIB, directory, reflink) as copy:
            apply(copy, [Patch(0, b"\0" * 16), Patch(2 * MIB - 3, b"neutral"), Patch(copy.size - 1, b"!")])
            patched = os.pread(copy.fd, 4 * MIB, 0)
        expected = bytearray(content)
        expected[:16], expected[2 * MIB - 3 : 2 * MIB + 4], expected[-1:] = bytes(16), b"neutral", b"!"
        assert patched == expected
        assert path.read_bytes() == content

    @pytest.mark.parametrize(("start", "size"), [(1, 2 * MIB), (4096, MIB), (777, MIB + 1)])
    def test_many_zeros_take_no_room(self, source, directory, reflink, start, size):
        path, fd = source
        expected = bytearray(path.read_bytes())
        with freeze(fd, 4 * MIB, directory, reflink) as copy:
            os.fsync(copy.fd)  # what is allocated late counts
            before = os.fstat(copy.fd).st_blocks
            apply(copy, [Patch(start, zeros=size)])
            assert os.fstat(copy.fd).st_blocks < before
            expected[start : start + size] = bytes(size)
            assert os.pread(copy.fd, 4 * MIB, 0) == expected

    @pytest.mark.parametrize("patch", [Patch(-1, b"xx"), Patch(0, b"x" * 6), Patch(5, b"x"), Patch(9, b"")])
    def test_a_patch_that_leaves_the_copy_is_a_bug(self, base, directory, reflink, patch):
        (base / "five").write_bytes(b"12345")
        fd = os.open(base / "five", os.O_RDONLY)
        with freeze(fd, MIB, directory, reflink) as copy:
            with pytest.raises(ValueError, match="patch of"):
                apply(copy, [patch])
            assert fstatx(copy.fd).size == 5
        os.close(fd)

    def test_sealed_nothing_can_change_it_any_more(self, source, directory, reflink):
        with freeze(source[1], 4 * MIB, directory, reflink) as copy:
            seal(copy)
            seal(copy)
            content = os.pread(copy.fd, 4 * MIB, 0)
            with pytest.raises(ValueError, match="sealed"):
                apply(copy, [])
            for descriptor in (copy.fd, reader := open_readonly(copy)):
                assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
                with pytest.raises(OSError):
                    os.write(descriptor, b"x")
            if copy.how == "memfd":
                for attempt in (os.O_RDWR, os.O_WRONLY):
                    writable = os.open(f"/proc/self/fd/{copy.fd}", attempt)
                    for change in (
                        lambda fd=writable: os.pwrite(fd, b"x", 0),
                        lambda fd=writable: os.ftruncate(fd, 0),
                        lambda fd=writable: os.ftruncate(fd, 9 * MIB),
                        lambda fd=writable: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0),
                    ):
                        with pytest.raises(PermissionError):
                            change()
                    os.close(writable)
            os.close(reader)
            assert os.pread(copy.fd, 4 * MIB, 0) == content

    def test_readers_have_offsets_of_their_own_and_outlive_the_copy(self, source, directory, reflink):
        copy = freeze(source[1], 4 * MIB, directory, reflink)
        seal(copy)
        first, second = open_readonly(copy), open_readonly(copy)
        copy.close()
        copy.close()
        assert os.read(first, 8) == os.read(second, 8) == bytes(8)
        assert not os.get_inheritable(first)
        os.close(first)
        os.close(second)

    def test_sealing_waits_for_no_writable_mapping(self, source):
        with freeze(source[1], 4 * MIB, None, False) as copy:
            with mmap.mmap(copy.fd, 4096), pytest.raises(OSError) as caught:
                seal(copy)
            assert caught.value.errno == errno.EBUSY
            assert not copy.sealed


def test_only_a_sealed_copy_is_adopted(source, directory, kind):
    _, fd = source
    copy = freeze(fd, 4 * MIB, directory, REFLINK[kind])
    with pytest.raises(OSError, match="finished"):  # its descriptor may write
        adopt(copy.fd, copy.how, copy.version, copy.memory)
    seal(copy)
    found = adopt(copy.fd, copy.how, copy.version, copy.memory)
    assert (found.size, found.memory, found.sealed) == (copy.size, copy.memory, True)
    for wrong, version in ((fd, copy.version), (copy.fd, copy.version._replace(size=1))):
        with pytest.raises(OSError, match="finished"):
            adopt(wrong, copy.how, version, copy.memory)
    copy.close()
