"""An app locks its own directory in /proc: one thread lists it into memory whose page does not come, and a
second thread makes a name in it. Then each look-up in the directory waits. For the trail the daemon reads the
name of the program there. Commands read there which processes use a mount, and whether the daemon runs."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from policyfs.cli.common.processes import look
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from tests.attack.test_pages_elsewhere import Stuck, stuck
from tests.support.machine.namespace import die_with_parent
from tests.support.machine.processes import Child, call_as
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount, policyfs_started
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.stores import Mounts

__all__ = ["stuck"]
_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
READING = ("tests.support.mount.readers_on",)
WAITS_S = 3.0
ANSWER_S = 15.0
TIMES = 200


def _lock(slow: Path, *paths: str) -> None:
    """Lock directories in /proc, this process's own by default, until the file *slow* has a page."""
    libc = ctypes.CDLL(None)
    pages = os.open(slow, os.O_RDONLY)
    memory = mmap.mmap(pages, 4096, mmap.MAP_PRIVATE)
    page = ctypes.c_char.from_buffer(memory)
    names = paths or (f"/proc/{os.getpid()}",)
    directories = [os.open(path, os.O_RDONLY) for path in names]

    def make(directory: int) -> None:
        with contextlib.suppress(OSError):
            os.mkdir("name", dir_fd=directory)

    for directory in directories:
        listing = (ctypes.c_long(_GETDENTS64), directory, ctypes.byref(page), ctypes.c_size_t(4096))
        threading.Thread(target=libc.syscall, args=listing, daemon=True).start()
    time.sleep(0.3)
    for directory in directories:
        threading.Thread(target=make, args=(directory,), daemon=True).start()
    time.sleep(0.3)


def _lock_own_directory(channel: Connection, slow: Path, file: Path) -> int:
    """Open the file so often that a reader looks for the caller's processor, too."""
    _lock(slow)
    channel.send("locked")
    for _ in range(TIMES):
        os.close(os.open(file, os.O_RDONLY))
    return TIMES


def _lock_and_change_group(channel: Connection, slow: Path, file: Path) -> str:
    """Ask for a group that the caller may not set. The daemon looks for the caller's groups in /proc."""
    _lock(slow)
    channel.send("locked")
    try:
        os.chown(file, -1, 4242)
    except PermissionError:
        return "refused"
    return "changed"


def _lock_of_child(channel: Connection, slow: Path) -> None:
    """Lock the directory of a child process, which nobody has looked into."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        die_with_parent(signal.SIGKILL)
        _lock(slow)
        os.write(write, b".")
        signal.pause()
    os.read(read, 1)
    channel.send("locked")
    channel.recv()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _lock_others(channel: Connection, slow: Path, paths: list[str]) -> None:
    _lock(slow, *paths)
    channel.send("locked")
    channel.recv()


def _hold(channel: Connection, file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    channel.send(fd)
    channel.recv()


def _look(path: Path) -> int:
    return sum(len(path.read_bytes()) > 0 for _ in range(TIMES))


def _look_once(channel: Connection, path: Path) -> None:
    channel.send(len(path.read_bytes()) > 0)


@pytest.mark.parametrize("options", [("--avc",), ("--no-avc",)], ids=["vectors", "no vectors"])
def test_an_app_that_locks_its_directory_in_proc_keeps_nobody_waiting(
    mounts: Mounts, stuck: Stuck, empty_store: Path, options: tuple[str, ...]
) -> None:
    """Attack E5.12: Lock a directory in `/proc` without end, by a listing into a page that does not come.
    The daemon then waits for a caller's program or groups, for all uids at its start, or for its own
    threads (`status`)
    Guard: policyfs/kernel/own_proc.py::own_proc
    Also: ::test_an_app_that_changes_a_group_with_its_directory_locked_keeps_nobody_waiting,
    ::test_a_mount_starts_while_an_app_has_locked_its_directory_in_proc,
    ::test_commands_answer_while_directories_are_locked
    Without: ::test_all_wait_where_the_daemon_reads_proc_itself
    """
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store, *options)
    mount.program = READING
    mount.start()
    child = stuck.start(CAMERA, _lock_own_directory, stuck.directory / "slow", mount / "DCIM/a.jpg")
    assert child.receive() == "locked"
    assert call_as(GALLERY, _look, mount / "DCIM/a.jpg") == TIMES
    assert call_as(CAMERA, _look, mount / "DCIM/a.jpg") == TIMES
    stuck.let_go()
    assert child.result() == TIMES


def test_an_app_that_changes_a_group_with_its_directory_locked_keeps_nobody_waiting(
    mounts: Mounts, stuck: Stuck, empty_store: Path
) -> None:
    faulty.furnish(empty_store)
    mount = mounts.start(faulty.POLICY, empty_store)
    child = stuck.start(CAMERA, _lock_and_change_group, stuck.directory / "slow", mount / "DCIM/a.jpg")
    assert child.receive() == "locked"
    time.sleep(0.5)
    other = stuck.start(GALLERY, _look_once, mount / "DCIM/a.jpg")
    answered = other.channel.poll(WAITS_S)
    stuck.let_go()
    assert answered
    assert child.result() == "refused"


def test_all_wait_where_the_daemon_reads_proc_itself(mounts: Mounts, stuck: Stuck, empty_store: Path) -> None:
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.program = ("tests.attack.weakened", "proc-shared")
    mount.start()
    child = stuck.start(CAMERA, _lock_own_directory, stuck.directory / "slow", mount / "DCIM/a.jpg")
    assert child.receive() == "locked"
    time.sleep(0.5)
    other = stuck.start(GALLERY, _look_once, mount / "DCIM/a.jpg")
    assert not other.channel.poll(WAITS_S), "it waits, and so does everybody"
    stuck.let_go()
    assert other.receive()
    assert child.result() == TIMES


def test_a_mount_starts_while_an_app_has_locked_its_directory_in_proc(
    mounts: Mounts, stuck: Stuck, empty_store: Path
) -> None:
    """The daemon looks at the uids of all processes, to find uids for its workers."""
    faulty.furnish(empty_store)
    child = stuck.start(CAMERA, _lock_of_child, stuck.directory / "slow")
    assert child.receive() == "locked"
    mount = mounts.start(faulty.POLICY, empty_store)
    assert call_as(GALLERY, _look, mount / "DCIM/a.jpg") == TIMES
    stuck.let_go()
    child.send("end")
    child.result()


@pytest.fixture
def locked(mounts: Mounts, stuck: Stuck, empty_store: Path) -> tuple[Mount, Child]:
    """A mount, and a process that uses it. The directories of the daemon and of the process are locked."""
    faulty.furnish(empty_store)
    mount = mounts.start(faulty.POLICY, empty_store)
    user = stuck.start(GALLERY, _hold, mount / "DCIM/a.jpg")
    user.receive()
    daemon = f"/proc/{mount.process.pid}"
    directories = [f"{daemon}/task", daemon, f"/proc/{user.pid}"]
    app = stuck.start(CAMERA, _lock_others, stuck.directory / "slow", directories)
    assert app.receive() == "locked"
    return mount, user


def _said(mount: Mount, stuck: Stuck, *words: str | os.PathLike[str]) -> tuple[int, str]:
    """Run a command; a command that waits for the locks cannot be killed."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with policyfs_started(*words, environment=mount.environment, **streams) as command:
        try:
            said, _ = command.communicate(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            stuck.let_go()
            raise
    return command.returncode, said


def test_umount_names_the_users_while_their_directories_are_locked(
    locked: tuple[Mount, Child], stuck: Stuck
) -> None:
    """Attack E5.13: The same, so that a command waits: `policyfs umount` looks for the users of a mount,
    `policyfs policy explain` for a caller
    Guard: policyfs/cli/common/processes.py::look
    Also: ::test_commands_answer_while_directories_are_locked
    Without: ::test_a_command_without_rights_waits_only_for_some_time
    """
    mount, user = locked
    code, said = _said(mount, stuck, "umount", mount.mountpoint)
    assert code == 1
    assert f"(pid {user.pid}, uid {GALLERY}): fd" in said


def test_commands_answer_while_directories_are_locked(locked: tuple[Mount, Child], stuck: Stuck) -> None:
    mount, user = locked
    code, said = _said(mount, stuck, "status", mount.mountpoint)
    assert (code, str(mount.process.pid) in said) == (0, True), said
    assert call_as(GALLERY, _look, mount / "DCIM/a.jpg") == TIMES, "the daemon has looked at its own threads"
    explain = ("policy", "explain", mount.mountpoint, "/DCIM/a.jpg", "--pid", str(user.pid))
    code, said = _said(mount, stuck, *explain)
    assert f"uid {GALLERY}" in said
    code, said = _said(mount, stuck, "doctor", "--json")
    rows = {row["name"]: row for row in json.loads(said)}
    assert rows[f"daemon of {mount.mountpoint}"]["state"] == "ok", rows
    assert _said(mount, stuck, "umount", "--dead", mount.mountpoint) == (0, "")


def test_a_command_without_rights_waits_only_for_some_time(locked: tuple[Mount, Child], stuck: Stuck) -> None:
    _, user = locked
    command = stuck.start(GALLERY, _look_at_process, user.pid)
    assert "cannot be read within 1 s" in command.receive()


def _look_at_process(channel: Connection, pid: int) -> None:
    try:
        channel.send(look(lambda: os.listdir(procfs.path(pid, "")), timeout_s=1.0))
    except PolicyfsError as error:
        channel.send(str(error))
