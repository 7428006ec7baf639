"""Tree and statx against real file systems: what the kernel then says is what counts."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.domain import FileType
from policyfs.linux.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, Identity
from policyfs.linux.statx import fstatx, statx
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from tests.support.machine.images import STORE_KINDS, file_system
from tests.support.machine.processes import call_as

pytestmark = pytest.mark.mount
BAD_NAMES = [b"", b".", b"..", b"a/b", b"/", b"../x", b"a\0b"]
UID, GID = 10010, 10011


@pytest.fixture(scope="module", params=STORE_KINDS)
def base(request, tmp_path_factory):
    with file_system(request.param, tmp_path_factory.mktemp("tree")) as root:
        yield root


@pytest.fixture
def here(base):
    directory = base / f"t{len(os.listdir(base))}"
    directory.mkdir()
    return directory


@pytest.fixture
def tree(here):
    before = set(os.listdir("/proc/self/fd"))
    with Tree.open(here) as tree:
        yield tree
    # Fewer are no leak: meanwhile a collection may free what an earlier test has left.
    assert set(os.listdir("/proc/self/fd")) <= before, "descriptors leaked"


def make(tree: Tree, name: bytes, content: bytes = b"", mode: int = 0o666, umask: int = 0o022) -> None:
    fd = tree.create_file(tree.root_fd, name, mode, umask, UID, GID)
    os.write(fd, content)
    os.close(fd)


def raises(code: int, function, *arguments) -> None:
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


class TestStat:
    def test_agrees_with_os_stat_field_by_field(self, tree, here):
        make(tree, b"a", b"x" * 5000)
        os.utime(here / "a", ns=(1_234_567_890_123_456_789, -5_000_000_001))
        mine, theirs = tree.stat(tree.root_fd, b"a"), (here / "a").lstat()
        assert (mine.ino, mine.dev, mine.mode, mine.nlink) == (
            theirs.st_ino,
            theirs.st_dev,
            theirs.st_mode,
            theirs.st_nlink,
        )
        assert (mine.uid, mine.gid, mine.size) == (theirs.st_uid, theirs.st_gid, theirs.st_size)
        assert (mine.blocks, mine.blksize) == (theirs.st_blocks, theirs.st_blksize)
        assert (mine.atime_ns, mine.mtime_ns, mine.ctime_ns) == (
            theirs.st_atime_ns,
            theirs.st_mtime_ns,
            theirs.st_ctime_ns,
        )
        assert mine.btime_ns > 1_500_000_000 * 10**9

    def test_a_symlink_is_looked_at_itself_and_fifos_are_special(self, tree, here):
        tree.symlink(tree.root_fd, b"link", b"/nowhere", UID, GID)
        tree.mkdir(tree.root_fd, b"dir", 0o755, 0, UID, GID)
        make(tree, b"file")
        os.mkfifo(here / "fifo")
        types = [tree.stat(tree.root_fd, name).ftype for name in (b"link", b"dir", b"file", b"fifo")]
        assert types == [FileType.SYMLINK, FileType.DIRECTORY, FileType.REGULAR, FileType.SPECIAL]

    def test_by_descriptor_o_path_or_not_deleted_or_not(self, tree):
        make(tree, b"a", b"abc")
        by_name = statx(tree.root_fd, b"a")
        held, opened = tree.open_path(tree.root_fd, b"a"), tree.open_file(tree.root_fd, b"a", os.O_RDONLY)
        assert fstatx(held) == fstatx(opened) == by_name
        tree.unlink(tree.root_fd, b"a")
        assert fstatx(held)[:3] == by_name[:3]
        assert fstatx(held).nlink == 0
        os.close(held)
        os.close(opened)

    def test_errors_are_the_kernels(self, tree):
        raises(errno.ENOENT, statx, tree.root_fd, b"absent")
        raises(errno.EBADF, fstatx, 9999)
        raises(errno.ENAMETOOLONG, statx, tree.root_fd, b"x" * 256)


class TestNames:
    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_what_is_no_single_name_is_refused_by_every_call(self, tree, name):
        root = tree.root_fd
        make(tree, b"ok")
        fd = tree.open_path(root, b"ok")
        for function, arguments in [
            (tree.stat, (root, name)),
            (tree.open_dir, (root, name)),
            (tree.open_path, (root, name)),
            (tree.open_file, (root, name, os.O_RDONLY)),
            (tree.readlink, (root, name)),
            (tree.create_file, (root, name, 0o600, 0, 0, 0)),
            (tree.mkdir, (root, name, 0o700, 0, 0, 0)),
            (tree.symlink, (root, name, b"t", 0, 0)),
            (tree.link, (fd, root, name)),
            (tree.unlink, (root, name)),
            (tree.rmdir, (root, name)),
            (tree.rename2, (root, name, root, b"new")),
            (tree.rename2, (root, b"ok", root, name)),
        ]:
            raises(errno.EINVAL, function, *arguments)
        os.close(fd)

    def test_names_are_bytes_of_up_to_255(self, tree):
        for name in (b"\xff\xfe\n", b"x" * 255, b"...", b" ", "é".encode()):
            make(tree, name)
            assert tree.stat(tree.root_fd, name).ftype is FileType.REGULAR
        assert {b"\xff\xfe\n", b"x" * 255, b"...", b" "} < {
            name for name, _, _ in tree.list_dir(tree.root_fd)
        }


class TestOpen:
    def test_no_symlink_is_ever_followed(self, tree):
        make(tree, b"file")
        tree.mkdir(tree.root_fd, b"dir", 0o755, 0, UID, GID)
        tree.symlink(tree.root_fd, b"to-file", b"file", UID, GID)
        tree.symlink(tree.root_fd, b"to-dir", b"dir", UID, GID)
        raises(errno.ELOOP, tree.open_file, tree.root_fd, b"to-file", os.O_RDONLY)
        raises(errno.ENOTDIR, tree.open_dir, tree.root_fd, b"to-dir")
        link = tree.open_path(tree.root_fd, b"to-file")
        raises(errno.ELOOP, tree.reopen, link, os.O_RDONLY)
        assert tree.readlink_fd(link) == tree.readlink(tree.root_fd, b"to-file") == b"file"
        os.close(link)

    @pytest.mark.parametrize(
        "flag", [os.O_CREAT, os.O_TRUNC, os.O_TMPFILE | os.O_RDWR, os.O_CREAT | os.O_EXCL]
    )
    def test_opening_neither_creates_nor_truncates(self, tree, flag):
        make(tree, b"a", b"abc")
        raises(errno.EINVAL, tree.open_file, tree.root_fd, b"a", os.O_WRONLY | flag)
        fd = tree.open_path(tree.root_fd, b"a")
        raises(errno.EINVAL, tree.reopen, fd, os.O_WRONLY | flag)
        os.close(fd)
        assert tree.stat(tree.root_fd, b"a").size == 3

    def test_directory_flag_alone_is_no_creation(self, tree):
        os.close(tree.reopen(tree.root_fd, os.O_RDONLY | os.O_DIRECTORY))

    def test_a_fifo_does_not_block(self, tree, here):
        os.mkfifo(here / "fifo")
        os.close(tree.open_file(tree.root_fd, b"fifo", os.O_RDONLY))
        raises(errno.ENXIO, tree.open_file, tree.root_fd, b"fifo", os.O_WRONLY)

    def test_descriptors_close_on_exec(self, tree):
        make(tree, b"a")
        for fd in (
            tree.open_path(tree.root_fd, b"a"),
            tree.open_file(tree.root_fd, b"a", os.O_RDWR),
            tree.reopen(tree.root_fd, os.O_RDONLY),
            tree.create_file(tree.root_fd, b"b", 0o600, 0, 0, 0),
        ):
            assert not os.get_inheritable(fd)
            os.close(fd)

    def test_reopen_reaches_the_object_after_rename_and_unlink(self, tree):
        make(tree, b"a", b"abc")
        fd = tree.open_path(tree.root_fd, b"a")
        tree.rename2(tree.root_fd, b"a", tree.root_fd, b"b")
        make(tree, b"a", b"other")
        tree.unlink(tree.root_fd, b"b")
        again = tree.reopen(fd, os.O_RDONLY)
        assert os.read(again, 10) == b"abc"
        os.close(again)
        os.close(fd)

    def test_a_file_is_found_where_somebody_has_moved_it(self, tree, here):
        (here / "in/it").mkdir(parents=True)
        (here / "old").write_bytes(b"x")
        with open("/dev/null", "rb") as outside, pytest.raises(FileNotFoundError):
            tree.find(outside.fileno())
        with (here / "old").open("rb") as file:
            for new in ("new", "in/new", "in/it/new"):
                (here / "old").rename(here / new)
                dirfd, name = tree.find(file.fileno())
                assert name == b"new"
                assert tree.fstat(dirfd).ino == (here / new).parent.stat().st_ino
                os.close(dirfd)
                (here / new).rename(here / "old")
            (here / "old").unlink()
            (here / "old").write_bytes(b"another")
            with pytest.raises(FileNotFoundError):
                tree.find(file.fileno())

    def test_the_root_may_not_be_a_symlink(self, tree, here):
        (here / "link").symlink_to(here)
        raises(errno.ENOTDIR, Tree.open, here / "link")


class TestCreate:
    """What the caller would have made natively."""

    @pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
    @pytest.mark.parametrize("mode", [0o666, 0o777, 0o6755, 0o1644, 0])
    def test_owner_group_and_mode_are_the_callers(self, tree, mode, umask):
        outer = os.umask(0o137)
        os.umask(outer)
        fd = tree.create_file(tree.root_fd, b"a", mode, umask, UID, GID)
        made = fstatx(fd)
        os.close(fd)
        assert (made.uid, made.gid) == (UID, GID)
        assert oct(stat.S_IMODE(made.mode)) == oct(mode & 0o1777 & ~umask)
        assert os.umask(outer) == outer

    def test_identity_is_given_back_even_after_failure(self, tree, here):
        make(tree, b"a")
        umask = os.umask(0o027)
        raises(errno.EEXIST, tree.create_file, tree.root_fd, b"a", 0o600, 0, UID, GID)
        raises(errno.EEXIST, tree.mkdir, tree.root_fd, b"a", 0o600, 0, UID, GID)
        assert os.umask(umask) == 0o027
        status = Path("/proc/thread-self/status").read_text()
        assert "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n" in status
        fresh = here / "fresh"
        fresh.touch()
        assert (fresh.stat().st_uid, fresh.stat().st_gid) == (0, 0)

    def test_the_caller_needs_no_rights_on_the_store(self, tree, here):
        here.chmod(0o500)
        make(tree, b"a", b"abc")
        tree.mkdir(tree.root_fd, b"d", 0o700, 0, UID, GID)
        assert tree.stat(tree.root_fd, b"d").uid == UID

    def test_capabilities_are_whole_afterwards(self, tree):
        before = [line for line in Path("/proc/thread-self/status").read_text().splitlines() if "Cap" in line]
        make(tree, b"a")
        after = [line for line in Path("/proc/thread-self/status").read_text().splitlines() if "Cap" in line]
        assert after == before

    def test_setgid_parent_gives_its_group_and_directories_pass_it_on(self, tree, here):
        os.chown(here, 0, 777)
        here.chmod(0o2755)
        make(tree, b"a", mode=0o6777, umask=0)
        tree.mkdir(tree.root_fd, b"d", 0o777, 0o022, UID, GID)
        tree.symlink(tree.root_fd, b"s", b"t", UID, GID)
        modes = [tree.stat(tree.root_fd, name) for name in (b"a", b"d", b"s")]
        assert [(made.uid, made.gid) for made in modes] == [(UID, 777)] * 3
        assert [oct(stat.S_IMODE(made.mode)) for made in modes[:2]] == ["0o777", "0o2755"]

    def test_default_acl_replaces_the_umask(self, tree, here):
        subprocess.run(
            ["setfacl", "-d", "-m", "u::rwx,g::rx,o::-,u:10050:rw,m::rwx", here],
            check=True,
            timeout=20,
        )
        make(tree, b"a", mode=0o664, umask=0o077)
        tree.mkdir(tree.root_fd, b"d", 0o775, 0o077, UID, GID)
        assert oct(stat.S_IMODE(tree.stat(tree.root_fd, b"a").mode)) == "0o660"
        assert oct(stat.S_IMODE(tree.stat(tree.root_fd, b"d").mode)) == "0o770"
        acl = subprocess.run(["getfacl", "-cE", here / "a"], check=True, capture_output=True, timeout=20)
        assert b"user:10050:rw-" in acl.stdout

    def test_like_the_caller_natively(self, tree, here):
        """The same three creations by a process that is the caller, beside ours."""
        here.chmod(0o2777)
        os.chown(here, 0, 777)
        call_as(UID, _create_natively, tree.root_fd, gid=GID)
        make(tree, b"file", mode=0o664, umask=0o027)
        tree.mkdir(tree.root_fd, b"dir", 0o1775, 0o027, UID, GID)
        tree.symlink(tree.root_fd, b"link", b"target", UID, GID)
        for name in (b"file", b"dir", b"link"):
            mine, native = tree.stat(tree.root_fd, name), tree.stat(tree.root_fd, b"native-" + name)
            assert (oct(mine.mode), mine.uid, mine.gid) == (oct(native.mode), native.uid, native.gid)

    def test_an_identity_that_cannot_be_taken_is_refused(self):
        error = call_as(UID, _take_identity, 0, 0)
        assert error == errno.EPERM

    def test_a_descriptor_of_any_mode_is_good_for_writing(self, tree):
        fd = tree.create_file(
            tree.root_fd, b"a", 0o000, 0o777, UID, GID, os.O_WRONLY | os.O_APPEND | os.O_TRUNC
        )
        assert os.write(fd, b"abc") == 3
        os.close(fd)

    def test_symlink_targets_are_data(self, tree):
        for target in (b"../../etc/passwd", b"\xff", b"/" + b"x" * 200, b".."):
            tree.symlink(tree.root_fd, b"s", target, UID, GID)
            assert tree.readlink(tree.root_fd, b"s") == target
            assert tree.stat(tree.root_fd, b"s").uid == UID
            tree.unlink(tree.root_fd, b"s")


def _create_natively(dirfd: int) -> None:
    os.umask(0o027)
    os.close(os.open("native-file", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o664, dir_fd=dirfd))
    os.mkdir("native-dir", 0o1775, dir_fd=dirfd)
    os.symlink("target", "native-link", dir_fd=dirfd)


def _take_identity(uid: int, gid: int) -> int | None:
    try:
        with Identity(uid, gid, 0):
            return None
    except OSError as error:
        assert Path("/proc/thread-self/status").read_text().count(f"\t{UID}\t{UID}\t{UID}\t{UID}") == 2
        return error.errno



class TestCreateByRoot(TestCreate):
    """The same where root makes the object and gives it to the caller."""

    @pytest.fixture
    def tree(self, tree: Tree) -> Tree:
        tree.limit_to(replace(probe(tree.root_fd), checks_callers=True))
        return tree

    def test_what_cannot_be_given_to_the_caller_is_not_made(self, tree, here, monkeypatch):
        def refused(*_: int) -> None:
            raise PermissionError(errno.EPERM, "root is nobody there")

        monkeypatch.setattr("policyfs.store.tree.libc.chown_fd", refused)
        raises(errno.EPERM, tree.create_file, tree.root_fd, b"a", 0o600, 0, UID, GID)
        raises(errno.EPERM, tree.mkdir, tree.root_fd, b"d", 0o700, 0, UID, GID)
        raises(errno.EPERM, tree.symlink, tree.root_fd, b"s", b"t", UID, GID)
        assert os.listdir(here) == []

        def replaced(*_: int) -> None:
            (here / "d").rename(here / "made")
            (here / "d").mkdir()
            refused()

        monkeypatch.setattr("policyfs.store.tree.libc.chown_fd", replaced)
        raises(errno.EPERM, tree.mkdir, tree.root_fd, b"d", 0o700, 0, UID, GID)
        assert sorted(os.listdir(here)) == ["d", "made"], "another machine's directory stays"


class TestMoving:
    def test_rename_flags(self, tree):
        root = tree.root_fd
        make(tree, b"a", b"a")
        make(tree, b"b", b"bb")
        raises(errno.EEXIST, tree.rename2, root, b"a", root, b"b", RENAME_NOREPLACE)
        tree.rename2(root, b"a", root, b"b", RENAME_EXCHANGE)
        assert (tree.stat(root, b"a").size, tree.stat(root, b"b").size) == (2, 1)
        tree.rename2(root, b"a", root, b"b")
        assert [name for name, _, _ in tree.list_dir(root)] == [b"b"]
        raises(errno.EINVAL, tree.rename2, root, b"b", root, b"c", 4)  # RENAME_WHITEOUT
        raises(errno.ENOENT, tree.rename2, root, b"none", root, b"c")

    def test_link_adds_a_name_and_never_follows(self, tree):
        root = tree.root_fd
        make(tree, b"a")
        tree.symlink(root, b"s", b"a", UID, GID)
        for source in (b"a", b"s"):
            fd = tree.open_path(root, source)
            tree.link(fd, root, source + b"2")
            raises(errno.EEXIST, tree.link, fd, root, source + b"2")
            os.close(fd)
            assert tree.stat(root, source + b"2").ino == tree.stat(root, source).ino
        assert tree.stat(root, b"s2").ftype is FileType.SYMLINK

    def test_removing(self, tree, here):
        root = tree.root_fd
        make(tree, b"a")
        tree.mkdir(root, b"d", 0o755, 0, UID, GID)
        os.mkdir(here / "d" / "e")
        raises(errno.EISDIR, tree.unlink, root, b"d")
        raises(errno.ENOTDIR, tree.rmdir, root, b"a")
        raises(errno.ENOTEMPTY, tree.rmdir, root, b"d")
        inside = tree.open_dir(root, b"d")
        tree.rmdir(inside, b"e")
        os.close(inside)
        tree.rmdir(root, b"d")
        tree.unlink(root, b"a")
        assert tree.list_dir(root) == []


class TestListing:
    def test_every_name_once_with_number_and_type(self, tree, here):
        root = tree.root_fd
        for number in range(3000):
            os.close(os.open(here / f"{number:0100}", os.O_CREAT | os.O_WRONLY))
        tree.mkdir(root, b"d", 0o755, 0, UID, GID)
        tree.symlink(root, b"s", b"t", UID, GID)
        os.mkfifo(here / "p")
        listed = tree.list_dir(root)
        assert len(listed) == 3003
        by_name = {name: (ino, kind) for name, ino, kind in listed}
        assert set(by_name) == {os.fsencode(name) for name in os.listdir(here)}
        assert [by_name[name][1] for name in (b"d", b"s", b"p")] == [4, 10, 1]
        for name in (b"d", b"s", b"p", b"0" * 100):
            assert by_name[name][0] == tree.stat(root, name).ino

    def test_lists_twice_the_same_and_an_o_path_descriptor_is_enough(self, tree):
        make(tree, b"a")
        assert tree.list_dir(tree.root_fd) == tree.list_dir(tree.root_fd) != []

    def test_of_a_removed_directory(self, tree):
        tree.mkdir(tree.root_fd, b"d", 0o755, 0, UID, GID)
        fd = tree.open_dir(tree.root_fd, b"d")
        tree.rmdir(tree.root_fd, b"d")
        raises(errno.ENOENT, tree.list_dir, fd)
        os.close(fd)


class TestAttributes:
    def test_chmod_never_sets_suid_or_sgid_but_a_directorys_sgid(self, tree):
        make(tree, b"a")
        tree.mkdir(tree.root_fd, b"d", 0o755, 0, UID, GID)
        results = []
        for name in (b"a", b"d"):
            fd = tree.open_path(tree.root_fd, name)
            tree.chmod_fd(fd, 0o7751)
            results.append(oct(stat.S_IMODE(fstatx(fd).mode)))
            os.close(fd)
        assert results == ["0o1751", "0o3751"]

    def test_chown_and_times_of_a_symlink_are_its_own(self, tree):
        make(tree, b"a")
        tree.symlink(tree.root_fd, b"s", b"a", UID, GID)
        target = tree.stat(tree.root_fd, b"a")
        fd = tree.open_path(tree.root_fd, b"s")
        tree.chown_fd(fd, 5, -1)
        tree.utimens_fd(fd, 7, -1_500_000_000)
        tree.utimens_fd(fd, None, None)
        link = fstatx(fd)
        os.close(fd)
        assert (link.uid, link.gid, link.atime_ns, link.mtime_ns) == (5, GID, 7, -1_500_000_000)
        assert tree.stat(tree.root_fd, b"a") == target

    def test_truncate_wants_a_writable_descriptor(self, tree, here):
        make(tree, b"a", b"abcdef")
        fd = tree.open_file(tree.root_fd, b"a", os.O_WRONLY)
        tree.truncate_fd(fd, 3)
        os.close(fd)
        assert (here / "a").read_bytes() == b"abc"
        fd = tree.open_path(tree.root_fd, b"a")
        raises(errno.EBADF, tree.truncate_fd, fd, 0)
        os.close(fd)

    def test_clear_killpriv_drops_what_gives_rights_and_nothing_else(self, tree, here):
        make(tree, b"a")
        path = here / "a"
        path.chmod(0o6745)
        capability = bytes.fromhex("0100000200200000000000000000000000000000")
        os.setxattr(path, "security.capability", capability)
        os.setxattr(path, "user.kept", b"1")
        fd = tree.open_path(tree.root_fd, b"a")
        tree.clear_killpriv(fd)
        tree.clear_killpriv(fd)
        os.close(fd)
        assert oct(stat.S_IMODE(path.stat().st_mode)) == "0o745"
        assert os.listxattr(path) == ["user.kept"]

    def test_fsync_of_files_and_directories(self, tree):
        fd = tree.create_file(tree.root_fd, b"a", 0o600, 0, 0, 0)
        tree.fsync(fd)
        tree.fsync(fd, datasync=True)
        tree.fsyncdir(tree.root_fd)
        os.close(fd)
        assert tree.statvfs().f_namemax == 255


class TestXattrs:
    def test_user_xattrs_on_an_o_path_descriptor(self, tree, here):
        make(tree, b"a")
        fd = tree.open_path(tree.root_fd, b"a")
        tree.setxattr(fd, b"user.\xff", b"v\0w")
        assert tree.getxattr(fd, b"user.\xff") == b"v\0w"
        raises(errno.EEXIST, tree.setxattr, fd, b"user.\xff", b"", os.XATTR_CREATE)
        os.setxattr(here / "a", "trusted.policyfs.owner", b"secret")
        assert tree.listxattr(fd) == [b"user.\xff"]
        tree.removexattr(fd, b"user.\xff")
        raises(errno.ENODATA, tree.getxattr, fd, b"user.\xff")
        os.close(fd)

    def test_what_mergerfs_says_of_itself_is_not_listed(self, tree, here):
        make(tree, b"a")
        os.setxattr(here / "a", "user.mergerfs.branches", b"/")
        fd = tree.open_path(tree.root_fd, b"a")
        assert tree.listxattr(fd) == []
        os.close(fd)

    @pytest.mark.parametrize(
        "name",
        [
            *(b"trusted.policyfs.owner", b"security.capability", b"system.posix_acl_access"),
            *(b"", b"user.a\0b", b"user.mergerfs.branches"),
        ],
    )
    def test_no_other_namespace_is_reached(self, tree, name):
        make(tree, b"a")
        fd = tree.open_path(tree.root_fd, b"a")
        raises(errno.EOPNOTSUPP, tree.getxattr, fd, name)
        raises(errno.EOPNOTSUPP, tree.setxattr, fd, name, b"")
        raises(errno.EOPNOTSUPP, tree.removexattr, fd, name)
        os.close(fd)


def test_without_the_capability_a_link_goes_through_the_magic_link(tmp_path):
    tmp_path.chmod(0o777)
    (tmp_path / "a").write_bytes(b"")
    os.chown(tmp_path / "a", UID, GID)
    tmp_path.parent.chmod(0o755)
    fd = os.open(tmp_path, os.O_PATH)
    assert call_as(UID, _link_unprivileged, fd, gid=GID) == 2
    os.close(fd)


def _link_unprivileged(dirfd: int) -> int:
    tree = Tree(dirfd)
    fd = tree.open_path(dirfd, b"a")
    tree.link(fd, dirfd, b"b")
    return fstatx(fd).nlink


def test_closing_twice_is_harmless(tmp_path):
    tree = Tree.open(os.fspath(tmp_path))
    tree.close()
    tree.close()
    assert tree.root_fd == -1


def test_a_name_is_removed_only_if_it_is_of_the_expected_file(tmp_path: Path) -> None:
    with Tree.open(str(tmp_path)) as tree:
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(b"")
        root, target = tree.root_fd, tree.stat(tree.root_fd, b"a")
        assert not tree.remove_same(root, b"b", target)
        assert not tree.remove_same(root, b"a", target, lambda now: now.size > 0)
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]
        assert tree.remove_same(root, b"a", target)
        assert os.listdir(tmp_path) == ["b"]
        with pytest.raises(FileNotFoundError):
            tree.remove_same(root, b"a", target)


def test_each_directory_has_an_identity_of_its_own(tree, here):
    with Tree.open(here) as again:
        assert again.identity() == tree.identity()
    (here / "other").mkdir()
    with Tree.open(here / "other") as other:
        assert other.identity() != tree.identity()


class TestOpenBelow:
    def test_names_that_are_longer_together_than_one_path(self, tree, here):
        names = [b"%03d" % number + b"x" * 250 for number in range(40)]
        fds = [os.dup(tree.root_fd)]
        for name in names:
            os.mkdir(name, dir_fd=fds[-1])
            fds.append(tree.open_dir(fds[-1], name))
        found = tree.open_below(tree.root_fd, names)
        assert fstatx(found).same_inode(fstatx(fds[-1]))
        for fd in [*fds, found]:
            os.close(fd)
        raises(errno.ENOENT, tree.open_below, tree.root_fd, [*names[:-1], b"none"])
        raises(errno.ENOENT, tree.open_below, tree.root_fd, [b"none", *names])

    def test_no_step_follows_a_symlink(self, tree, here):
        (here / "a/b/c").mkdir(parents=True)
        (here / "to").symlink_to("a")
        (here / "a/out").symlink_to("/")
        os.close(tree.open_below(tree.root_fd, [b"a", b"b", b"c"]))
        raises(errno.ELOOP, tree.open_below, tree.root_fd, [b"to", b"b"])
        raises(errno.ELOOP, tree.open_below, tree.root_fd, [b"a", b"out", b"etc"])
        raises(errno.ENOTDIR, tree.open_below, tree.root_fd, [b"a", b"out"])
        raises(errno.ENOTDIR, tree.open_below, tree.root_fd, [b"to"])

    @pytest.mark.parametrize("bad", BAD_NAMES)
    def test_each_is_a_single_name(self, tree, here, bad):
        (here / "a/b").mkdir(parents=True)
        for names in ([b"a", bad], [bad, b"a"], [b"a", bad, b"b"]):
            raises(errno.EINVAL, tree.open_below, tree.root_fd, names)
