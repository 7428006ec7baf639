"""An app takes its own mount away: it cannot by the control files, and what it can is on record.

fusermount3 is setuid root and unmounts for whoever a mount admits: nothing in the kernel forbids it
to the app of an app mount. The daemon then ends as failed, so that its unit mounts again.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from policyfs.errors import EXIT_REFUSED
from tests.support.machine.namespace import FUSE_CONNECTIONS, enter_private_namespace
from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.daemons import Mount, MountFailed, policyfs, policyfs_process
from tests.support.mount.stores import Mounts

APP, OTHER = 1, 10041  # fusermount3 wants a name: that of `daemon`, which every Debian has
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}, other: {{uid: {OTHER}}}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: ["/**"], audit: required}}
"""
NOTES = "Documents/notes.txt"
OPTIONS = ("--app", "app", "--no-passthrough")


def _abort(device: int) -> None:
    (FUSE_CONNECTIONS / str(device) / "abort").write_text("1")


def _hold(channel, path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    return code_of(os.pread, fd, 100, 0) or "read"


def _taken_away(mount: Mount, how: str) -> None:
    """The daemon has ended as failed, the end is on record, and the next mount starts."""
    assert mount.process is not None
    mount.expected_exit = EXIT_REFUSED
    assert mount.process.wait(20) == EXIT_REFUSED
    [end] = mount.events(type="close")
    assert (end["cause"], end["how"]) == ("outside", how)
    assert not mount.is_mounted()
    mount.expected_exit = 0
    mount.start()
    assert call_as(APP, (mount / NOTES).read_text) == "plain words\n"
    said = policyfs("audit", "verify", "--trail", mount.trail)
    assert said.returncode == 0, said


@pytest.mark.parametrize("options", [OPTIONS, ()], ids=["app mount", "shared mount"])
def test_the_control_files_of_a_connection_are_roots(mounts: Mounts, store: Path, options) -> None:
    """Attack F3.1: End one's own mount by the control files of its connection (fusectl), also by opening
    one of them before root is their owner
    Guard: policyfs/kernel/fusectl.py::ControlFiles.take
    Also:
    tests/mount/test_kernel_session.py::test_no_control_file_stays_open_that_an_app_opened_before_they_were_taken
    Without: ::test_an_app_aborts_its_mount_where_they_are_its_own
    """
    mount = mounts.start(POLICY, store, *options)
    device = mount._device
    assert device is not None
    assert call_as(APP, code_of, _abort, device) == "EACCES"
    assert call_as(APP, code_of, os.listdir, FUSE_CONNECTIONS / str(device)) == "EACCES"
    for name in os.listdir(FUSE_CONNECTIONS / str(device)):
        found = (FUSE_CONNECTIONS / str(device) / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o077) == (0, 0, 0), name
    assert call_as(APP, (mount / NOTES).read_text) == "plain words\n"


def test_an_app_aborts_its_mount_where_they_are_its_own(without, store: Path) -> None:
    mount = without("control-files-left", POLICY, store, *OPTIONS)
    call_as(APP, _abort, mount._device)
    mount.expected_exit = EXIT_REFUSED
    assert mount.process.wait(20) == EXIT_REFUSED
    assert mount.events(type="close")[-1]["how"] == "aborted"


def test_what_fusermount3_took_away_is_on_record_and_mounted_again(mounts: Mounts, store: Path) -> None:
    """Attack F3.2: End one's own mount with fusermount3, so that nothing is on record and nothing is
    mounted again
    Guard: policyfs/daemon/end.py::EndOfMount.by
    Also: ::test_who_ends_a_mount_in_order_is_on_record
    Without: ::test_an_unwatched_end_looks_like_an_order
    """
    mount, neighbour = mounts.start(POLICY, store, *OPTIONS), mounts.start(POLICY, store, "--app", "other")
    done = tool_as(APP, "fusermount3", "-u", neighbour.mountpoint)
    assert done.returncode != 0
    done = tool_as(APP, "setpriv", "--no-new-privs", "fusermount3", "-u", mount.mountpoint)
    assert done.returncode != 0
    assert mount.is_mounted()
    tool_as(APP, "fusermount3", "-u", mount.mountpoint, check=True)
    _taken_away(mount, "unmounted")
    assert call_as(OTHER, (neighbour / NOTES).read_text) == "plain words\n"


def test_an_unwatched_end_looks_like_an_order(without, store: Path) -> None:
    mount = without("end-unasked", POLICY, store, *OPTIONS)
    tool_as(APP, "fusermount3", "-u", mount.mountpoint, check=True)
    assert mount.process.wait(20) == 0  # and so its unit does not mount it again
    assert mount.events(type="close")[-1]["cause"] == "command"


def test_an_app_does_not_stay_behind_in_a_mount_that_it_has_detached(mounts: Mounts, store: Path) -> None:
    """By fusermount3 -z with a file open, it would go on under this policy whatever is mounted next.

    Attack F3.3: End one's own mount while a file is open, and go on with the file under the old policy
    Guard: policyfs/daemon/mountpoint.py::Mountpoint.gone
    Without: ::test_it_stays_where_nobody_looks_for_its_mount
    """
    mount = mounts.start(POLICY, store, *OPTIONS)
    child = start_as(APP, _hold, mount / NOTES)
    assert child.receive() == "open"
    tool_as(APP, "fusermount3", "-u", "-z", mount.mountpoint, check=True)
    _taken_away(mount, "detached")
    assert mount.events(type="detached")[0]["cause"] == "outside"
    child.send("read")
    assert child.result() in {"ENOTCONN", "ECONNABORTED", "EIO"}


def test_it_stays_where_nobody_looks_for_its_mount(without, store: Path) -> None:
    mount = without("detached-unseen", POLICY, store, *OPTIONS)
    child = start_as(APP, _hold, mount / NOTES)
    assert child.receive() == "open"
    tool_as(APP, "fusermount3", "-u", "-z", mount.mountpoint, check=True)
    assert not mount.is_mounted()
    child.send("read")
    assert child.result() == "read"
    assert mount.process.wait(20) == EXIT_REFUSED
    mount.expected_exit = EXIT_REFUSED


def _stay(channel, _mount: str) -> None:
    enter_private_namespace()
    channel.send("inside")
    channel.recv()


def test_no_next_mount_where_a_trail_takes_one_recorder(without, mounts: Mounts, store: Path) -> None:
    """With more it starts at once: tests/mount/test_leaving.py."""
    old = mounts.start(POLICY, store)
    child = start_as(0, _stay, str(old.mountpoint))
    assert child.receive() == "inside"
    tool_as(0, "umount", old.mountpoint, check=True)
    wait_for(lambda: old.events(type="detached"), "the daemon has seen it")
    new = Mount(old.store, old.mountpoint, old.policy, work=mounts.work)
    new.program = ("tests.attack.weakened", "one-recorder")
    with pytest.raises(MountFailed, match="end the old daemons"):
        new.start()
    child.send("leave")
    child.result()
    old.expected_exit = EXIT_REFUSED
    assert old.process.wait(20) == EXIT_REFUSED


def test_who_ends_a_mount_in_order_is_on_record(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    os.kill(mount.pid, signal.SIGTERM)
    assert mount.process.wait(20) == 0
    mount.start()
    ended = policyfs_process("umount", mount.mountpoint, environment=mount.environment, executed=True)
    assert ended.returncode == 0
    wait_for(lambda: mount.process.poll() is not None, "the daemon's end")
    first, second = mount.events(type="close")
    me = {"pid": os.getpid(), "uid": 0, "exe": os.readlink("/proc/self/exe")}
    assert first | me | {"cause": "signal", "how": "SIGTERM"} == first
    assert second | me | {"cause": "command", "how": "policyfs umount"} == second


def test_an_unmount_that_was_refused_is_not_blamed_for_the_next(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    child = start_as(APP, _hold, mount / NOTES)
    assert child.receive() == "open"
    with mount.as_environment():
        assert policyfs("umount", mount.mountpoint).returncode == 1
    child.send("read")
    child.result()
    wait_for(lambda: tool_as(0, "umount", mount.mountpoint).returncode == 0, "umount(8)")
    mount.expected_exit = EXIT_REFUSED
    assert mount.process.wait(20) == EXIT_REFUSED
    assert mount.events(type="close")[-1]["cause"] == "outside"
