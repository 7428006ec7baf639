"""Who keeps a mount busy, on a mount and on processes that do."""

from __future__ import annotations

import ctypes
import os
import subprocess

import pytest

from policyfs.linux.statx import cached_device
from policyfs.store.locking.holders import Holder, has_open, holders
from tests.support.machine.images import file_system
from tests.support.machine.processes import start_as

pytestmark = pytest.mark.mount
CLONE_NEWNS = 0x00020000


@pytest.fixture
def root(tmp_path):
    with file_system("tmpfs", tmp_path) as root:
        (root / "dir").mkdir()
        (root / "file").write_bytes(b"x" * 4096)
        yield root


def _hold(channel, how: str, root: str) -> None:
    kept = []
    if how == "cwd":
        os.chdir(f"{root}/dir")
    elif how == "root":
        os.chroot(f"{root}/dir")
    elif how == "namespace":
        assert not ctypes.CDLL(None).unshare(CLONE_NEWNS)
        kept.append(os.open(f"{root}/file", os.O_RDONLY))
    else:
        kept.append(os.open(f"{root}/{how}", os.O_PATH))
    channel.send([fd for fd in kept if isinstance(fd, int)])
    channel.recv()


def found(root, how: str) -> tuple[Holder, int]:
    """The one holder, while a child holds the mount; and the child's descriptor."""
    child = start_as(0, _hold, how, os.fspath(root))
    fds = child.receive()
    try:
        (holder,) = holders(os.fsencode(root))
        assert (holder.pid, holder.uid) == (child.pid, 0)
        assert holder.command
    finally:
        child.send("end")
        child.result()
    assert holders(os.fsencode(root)) == []
    return holder, fds[0] if fds else -1


@pytest.mark.parametrize("how", ["file", "dir", "cwd", "root", "namespace"])
def test_one_process_has_something_open(root, how):
    device = cached_device(os.fspath(root))
    child = start_as(0, _hold, how, os.fspath(root))
    child.receive()
    try:
        assert has_open(child.pid, device)
        assert not has_open(os.getpid(), device)
        assert not has_open(child.pid, "0:0")
    finally:
        child.send("end")
        child.result()
    assert not has_open(child.pid, device)


def test_working_directory(root):
    holder, _ = found(root, "cwd")
    assert (holder.what, holder.path) == ("cwd", os.fsencode(root / "dir"))
    assert str(holder).endswith(f"(pid {holder.pid}, uid 0): cwd {root}/dir")


def test_root_directory(root):
    holder, _ = found(root, "root")
    assert (holder.what, holder.path) == ("root", os.fsencode(root / "dir"))


@pytest.mark.parametrize("name", ["file", "dir"])
def test_descriptor_even_o_path(root, name):
    holder, fd = found(root, name)
    assert (holder.what, holder.path) == (f"fd {fd}", os.fsencode(root / name))


def test_another_mount_namespace_is_told_apart(root):
    holder, fd = found(root, "namespace")
    assert (holder.what, holder.elsewhere) == (f"fd {fd}", True)
    assert str(holder).endswith("in another mount namespace")


def test_a_mapping_without_descriptor(root):
    tail = subprocess.Popen(
        ["python3", "-c", MAPPER, root / "file"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert tail.stdout.readline() == b"mapped\n"
    (holder,) = holders(os.fsencode(root))
    assert (holder.pid, holder.what, holder.path) == (tail.pid, "mapping", os.fsencode(root / "file"))
    tail.communicate(b"", timeout=20)


MAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
fd = os.open(sys.argv[1], os.O_RDONLY)
assert libc.mmap(None, ctypes.c_size_t(4096), 1, 2, fd, ctypes.c_long(0))
os.close(fd)
print("mapped", flush=True)
sys.stdin.read()
"""


def test_what_is_mounted_below_counts_and_who_is_in_there_does_not(root):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "dir"], check=True, timeout=20)
    child = start_as(0, _hold, "cwd", os.fspath(root))
    child.receive()
    (holder,) = holders(os.fsencode(root))
    assert (holder.what, holder.path) == ("mount", os.fsencode(root / "dir"))
    assert [holder.what for holder in holders(os.fsencode(root / "dir"))] == ["cwd"]
    child.send("end")
    child.result()
    subprocess.run(["umount", root / "dir"], check=True, timeout=20)


def test_a_neighbour_with_a_longer_name_is_no_holder(root, tmp_path):
    neighbour = tmp_path / "tmpfs-2"
    neighbour.mkdir()
    child = start_as(0, lambda channel: (os.chdir(neighbour), channel.send("there"), channel.recv())[2])
    child.receive()
    assert holders(os.fsencode(root)) == []
    child.send("end")
    child.result()


def test_no_mount_no_holders(tmp_path):
    assert holders(os.fsencode(tmp_path)) == []
