"""Mounting, unmounting, who is let through, and mounts that are dead or silent."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from policyfs.kernel import session
from policyfs.kernel.fusectl import ControlFiles
from policyfs.kernel.probe import MountState, mount_state
from policyfs.kernel.session import MountError, mount_device
from policyfs.linux.mountinfo import mounts_at
from tests.support.machine.namespace import abort_connection, control_of
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.tinyfs import error_of

APP = 12345


def mount_here(
    path: str, *, default_permissions: bool = False, max_read: int = 0, control: ControlFiles | None = None
) -> session.Device:
    return mount_device(
        path,
        source="x",
        user_id=APP,
        group_id=0,
        allow_other=False,
        default_permissions=default_permissions,
        max_read=max_read,
        control=control,
    )


# -- what a mount is --------------------------------------------------------------------------


def test_mount_options_as_the_kernel_shows_them(tiny):
    fs = tiny()
    [mount] = mounts_at(fs.root)
    assert mount.fstype == "fuse.policyfs"
    assert mount.source == "tiny fs"
    assert {"rw", "nosuid", "nodev"} <= mount.options
    assert {"user_id=0", "group_id=0", "allow_other"} <= mount.super_options
    assert "default_permissions" not in mount.super_options
    assert mount.device == fs.device.conn_id
    assert Path(f"/sys/fs/fuse/connections/{fs.device.conn_id}/abort").exists()


def test_read_only_mount(tiny):
    fs = tiny(read_only=True)
    assert {"ro", "nosuid", "nodev"} <= mounts_at(fs.root)[0].options
    assert error_of(os.open, fs.path("f"), os.O_RDWR) == errno.EROFS


def test_options_that_are_not_always_there(arena):
    device = mount_here(str(arena), default_permissions=True, max_read=65536)
    [mount] = mounts_at(str(arena))
    os.close(device.fd)
    session.unmount(str(arena))
    assert {f"user_id={APP}", "group_id=0", "default_permissions", "max_read=65536"} <= mount.super_options
    assert "allow_other" not in mount.super_options


def test_device_is_non_blocking_and_not_inherited(arena):
    device = mount_here(str(arena))
    try:
        assert not os.get_blocking(device.fd)
        assert not os.get_inheritable(device.fd)
    finally:
        os.close(device.fd)
        session.unmount(str(arena))


# -- who is let through -------------------------------------------------------------------------


def test_only_the_apps_own_uid_and_gid_come_through(tiny):
    fs = tiny(b"secret", allow_other=False, user_id=APP, group_id=APP)
    read = Path(fs.path("f")).read_bytes
    assert call_as(APP, read) == b"secret"
    assert fs.count("READ") == 0  # in passthrough, over a store that is root's alone
    for uid, gid in ((0, 0), (APP + 1, APP), (APP, APP + 1)):
        with pytest.raises(PermissionError):
            call_as(uid, read, gid=gid)
        with pytest.raises(PermissionError):
            call_as(uid, os.listdir, fs.root, gid=gid)
    with pytest.raises(PermissionError):
        os.stat(fs.path("f"))


def test_allow_other_lets_everybody_through(tiny):
    fs = tiny(b"shared")
    assert call_as(APP, Path(fs.path("f")).read_bytes) == b"shared"


# -- what cannot be mounted ---------------------------------------------------------------------


def test_mountpoint_must_be_a_directory(arena):
    (arena / "file").touch()
    with pytest.raises(MountError, match="not a directory"):
        mount_here(str(arena / "file"))
    with pytest.raises(MountError, match="No such file"):
        mount_here(str(arena / "nothing" / "here"))


def test_mounting_needs_rights(arena):
    with pytest.raises(MountError) as caught:
        call_as(APP, mount_here, str(arena))
    assert caught.value.args[0].startswith("cannot ")
    assert not mounts_at(str(arena))


def test_no_second_mount_on_the_first(tiny):
    fs = tiny()
    with pytest.raises(MountError, match="a policyfs mount already") as caught:
        mount_here(fs.root)
    assert caught.value.errno == errno.EBUSY


# -- unmounting -----------------------------------------------------------------------------------


def test_unmount_refuses_while_a_file_is_open(tiny):
    fs = tiny()
    with open(fs.path("f"), "rb") as file:
        with pytest.raises(MountError, match="fuser") as caught:
            session.unmount(fs.root)
        assert caught.value.errno == errno.EBUSY
        session.unmount(fs.root, lazy=True)
        assert not mounts_at(fs.root)
        assert file.read() == b"hello world\n"
    # The last close ends the session, and so the child; the kernel may be gone before it takes
    # the answer to that RELEASE.
    assert fs.child.result() <= 1


def test_unmount_ends_the_session(tiny):
    fs = tiny()
    fs.initialised()
    session.unmount(fs.root)
    assert fs.child.result() == 0


def test_unmount_through_a_symlink(tiny, arena):
    fs = tiny()
    fs.initialised()
    (arena / "link").symlink_to(fs.root)
    session.unmount(str(arena / "link") + "/")
    assert not mounts_at(fs.root)


def test_nothing_to_unmount(arena):
    with pytest.raises(MountError, match="nothing is mounted there"):
        session.unmount(str(arena))


def test_aborted_connection_ends_the_session_and_leaves_a_dead_mount(tiny):
    fs = tiny()
    fs.initialised()
    control = control_of(fs.device.conn_id)
    assert abort_connection(fs.device.conn_id)
    assert fs.child.result() == 0
    assert mount_state(fs.root) is MountState.DEAD
    assert error_of(os.stat, fs.path("f")) == errno.ENOTCONN
    session.unmount(fs.root)
    assert not abort_connection(fs.device.conn_id, control)


# -- states -----------------------------------------------------------------------------------------


def test_state_of_a_plain_directory(arena):
    assert mount_state(str(arena)) is MountState.NONE
    assert mount_state("/proc") is MountState.NONE
    assert not mounts_at(str(arena))
    assert mounts_at("/proc")


def test_state_of_a_living_mount(tiny):
    fs = tiny()
    assert mount_state(fs.root) is MountState.ALIVE
    assert mounts_at(fs.root)


def test_root_sees_that_an_apps_own_mount_lives_and_dies(tiny):
    fs = tiny(allow_other=False, user_id=APP, group_id=APP)
    assert mount_state(fs.root) is MountState.ALIVE
    assert call_as(APP, mount_state, fs.root) is MountState.ALIVE
    assert call_as(APP + 1, mount_state, fs.root) is MountState.CLOSED
    os.kill(fs.child.pid, signal.SIGKILL)
    wait_for(lambda: mount_state(fs.root) is MountState.DEAD, "a dead mount")
    with pytest.raises(MountError, match="alive or dead"):
        mount_here(fs.root)


def test_state_of_a_silent_mount(tiny):
    fs = tiny()
    fs.initialised()
    os.kill(fs.child.pid, signal.SIGSTOP)
    try:
        assert mount_state(fs.root, timeout_s=0.2) is MountState.SILENT
    finally:
        os.kill(fs.child.pid, signal.SIGCONT)
    assert mount_state(fs.root) is MountState.ALIVE


def test_a_mount_that_dies_over_the_question_is_dead(tiny):
    """The request was in the daemon's line when that was killed: not ENOTCONN, but ECONNABORTED."""
    fs = tiny()
    fs.initialised()
    waiting = Path(f"/sys/fs/fuse/connections/{fs.device.conn_id}/waiting")
    os.kill(fs.child.pid, signal.SIGSTOP)
    before = int(waiting.read_text())
    asking = start_as(0, lambda _channel: mount_state(fs.root, timeout_s=20.0))
    wait_for(lambda: int(waiting.read_text()) > before, "the question")
    os.kill(fs.child.pid, signal.SIGKILL)
    assert asking.result() is MountState.DEAD


def test_force_frees_whoever_waits(tiny):
    fs = tiny()
    child = start_as(0, lambda _channel: error_of(os.truncate, fs.path("slow"), 1))
    wait_for(lambda: fs.call("is_waiting"), "the SETATTR")
    session.unmount(fs.root, lazy=True, force=True)
    assert child.result(10.0) == errno.ECONNABORTED
    fs.child.send(("let_go", ()))
    assert fs.child.result() == 1  # nobody was there to take the reply
    assert not mounts_at(fs.root)


def test_a_mountpoint_with_odd_characters(tiny_at, arena):
    odd = arena / os.fsdecode(b"a b\tc\\040\nd\xff")
    odd.mkdir()
    fs = tiny_at(odd)
    assert mount_state(str(odd)) is MountState.ALIVE
    assert fs.device.path == str(odd)


# -- control files that an app was quick to open ------------------------------------------------------------


class _Raced(ControlFiles):
    """An app opens control files as soon as the kernel has made them its own, as often as *tries* says."""

    def __init__(self, name: str, tries: int) -> None:
        super().__init__()
        self.name, self.tries = name, tries
        self.opened: list[int] = []

    def take(self, conn_id: int) -> None:
        if len(self.opened) < self.tries:
            flags = os.O_WRONLY | os.O_CLOEXEC
            self.opened.append(os.open(f"{conn_id}/{self.name}", flags, dir_fd=self._mount_fd))
        super().take(conn_id)


@pytest.mark.parametrize("name", ["abort", "max_background"])
def test_no_control_file_stays_open_that_an_app_opened_before_they_were_taken(arena, name: str) -> None:
    files = _Raced(name, 2)
    device = mount_here(str(arena), control=files)
    assert len(files.opened) == 2
    for fd in files.opened:
        os.write(fd, b"1")
    assert session.is_connected(device)
    os.close(device.fd)
    session.unmount(str(arena))
    for fd in files.opened:
        os.close(fd)
    files.close()


def test_a_mount_is_refused_while_an_app_opens_them_each_time(arena) -> None:
    files = _Raced("abort", 1000)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match="control files"):
        mount_here(str(arena), control=files)
    assert mounts_at(str(arena)) == []
    for fd in files.opened:
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before
    files.close()
