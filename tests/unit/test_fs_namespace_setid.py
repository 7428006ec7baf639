"""suid and sgid under --posix: what the kernel leaves to the daemon."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from policyfs.fs.namespace import setid as module
from policyfs.fs.namespace.setid import SetIdBits
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.tree import Tree

pytestmark = pytest.mark.alone  # a lease keeper comes before all threads, also of who runs tests side by side


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "f").write_text("text")
    (tmp_path / "d").mkdir()
    with Tree.open(str(tmp_path)) as made:
        yield made


def ask(native: SetIdBits, fd: int, mode: int) -> bool:
    async def main() -> bool:
        with contextlib.ExitStack() as stack:
            return await native.may_set_ids(stack, fd, mode)

    return trio.run(main)


def test_suid_only_while_nobody_writes(tree: Tree, keeper: LeaseKeeper, tmp_path: Path) -> None:
    native = SetIdBits(tree, keeper)
    fd = tree.open_path(tree.root_fd, b"f")
    assert ask(native, fd, 0o4755)
    assert ask(native, fd, 0o2755)
    writer = os.open(tmp_path / "f", os.O_WRONLY)
    assert not ask(native, fd, 0o4755)
    assert ask(native, fd, 0o1777), "no suid, no question"
    os.close(writer)
    assert ask(native, fd, 0o4755)
    assert len(keeper) == 0
    os.close(fd)


def test_a_writer_that_is_just_leaving_is_waited_for(
    tree: Tree, keeper: LeaseKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = tree.open_path(tree.root_fd, b"f")
    writer = os.open(tmp_path / "f", os.O_WRONLY)

    async def leave(_: float) -> None:
        await trio.lowlevel.checkpoint()
        with contextlib.suppress(OSError):
            os.close(writer)

    monkeypatch.setattr(module.trio, "sleep", leave)
    assert ask(SetIdBits(tree, keeper), fd, 0o4755)
    os.close(fd)


def test_a_write_lease_of_another_program_gives_no_error(
    tree: Tree, keeper: LeaseKeeper, tmp_path: Path
) -> None:
    """Natively chmod(2) opens nothing, so such a lease (Samba takes them) is no reason for EAGAIN."""
    fd = tree.open_path(tree.root_fd, b"f")
    taken, ends = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        leased = os.open(tmp_path / "f", os.O_RDONLY)
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.write(ends, b"x")
        time.sleep(30)
        os._exit(0)
    try:
        assert os.read(taken, 1) == b"x"
        assert ask(SetIdBits(tree, keeper), fd, 0o4755) is False
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for each in (taken, ends):
            os.close(each)
    assert ask(SetIdBits(tree, keeper), fd, 0o4755)
    os.close(fd)


def test_without_leases_no_suid_on_files(tree: Tree) -> None:
    native = SetIdBits(tree, None)
    for name, allowed in ((b"f", False), (b"d", True)):
        fd = tree.open_path(tree.root_fd, name)
        assert ask(native, fd, 0o6755) is allowed
        os.close(fd)


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "loses"),
    [
        (0o100644, 5, (), False),
        (0o104644, 5, (7,), True),
        (0o102755, 5, (7,), True),
        (0o102644, 5, (7,), False),
        (0o102644, 5, (8,), True),
        (0o102644, 0, (), False),
        (0o046755, 5, (), False),
    ],
)
def test_what_a_chown_takes_away(
    mode: int, uid: int, groups: tuple[int, ...], loses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "caller_groups", lambda _: set(groups))
    stat = SimpleNamespace(mode=mode, gid=7)
    assert SetIdBits.loses_ids(stat, SimpleNamespace(uid=uid)) is loses


@pytest.mark.parametrize("end", ["", "\r", "\v", "\f", "\x1c", "\x85"])
def test_groups_are_those_of_the_process_whatever_its_name(end: str) -> None:
    """The name of a process is a line of the file that tells its groups."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([4, 5])
        Path("/proc/self/comm").write_bytes(f"{end}Groups: 9".encode("latin-1"))
        os.write(write, b".")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(read, 1) == b"."
        assert module.caller_groups(SimpleNamespace(gid=3, pid=pid)) == {3, 4, 5}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def test_a_caller_that_has_ended_has_its_group_only() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert module.caller_groups(SimpleNamespace(gid=3, pid=pid)) == {3}
