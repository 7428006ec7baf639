"""One app writes a file from a mapping of a mediated file; another app, with another view of the first
file, changes its attributes or removes it. The kernel has the file's lock while the page is read, the event
loop waits for that lock, and only the event loop can read the page. The writer is killed, but ends only with
the connection: the kernel waits for the answer to a read that it has sent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.attack.test_own_pages import HANGS_S, _look, _write_from, furnished
from tests.attack.test_pages_elsewhere import _switches
from tests.support.machine.processes import Child, start_as, state_of, thread_states, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.short_waits import READERS

POLICY = faulty.POLICY.replace(
    "allow: [see, read], who: {app: gallery}", "allow: [all], who: {app: gallery}"
)
LOG = ("waited for each other",)
ENDS_S = 40.0


def _change(channel: Connection, path: Path) -> None:
    """Set the times of a file that another app writes until told to stop, or until it cannot be reached."""
    with contextlib.suppress(OSError):
        while not channel.poll():
            os.utime(path)


def _begun(mount: Mount) -> list[Child]:
    """The process that writes, and the one that changes the file, once the mount hangs."""
    writer = start_as(CAMERA, _write_from, mount / "Checked/large.jpg", mount / "DCIM/a.jpg")
    assert writer.receive() == "begun"
    time.sleep(0.1)
    return [writer, start_as(GALLERY, _change, mount / "DCIM/a.jpg")]


def _store(store_on: Callable[[str], Path]) -> Path:
    store = furnished(store_on("ext4"))
    (store / "DCIM").chmod(0o777)
    return store


def test_the_mount_ends_so_that_nobody_waits_for_ever(store_on, mounts_on) -> None:
    """The bridge's readers have taken the read from the device: so the kernel does not take it back when the
    writer is killed.

    Attack E5.7: The same, while another app with another view of the file removes it or changes its
    attributes
    Guard: policyfs/daemon/lock_circle.py::LockCircle.writer (the mount ends after 35 s)
    Also: tests/unit/test_daemon_lock_circle.py::test_the_writer_is_found
    Without: ::test_it_hangs_for_ever_where_nobody_looks
    """
    mount = mounts_on.prepare(POLICY, _store(store_on), "--avc")
    mount.program = ("tests.support.mount.short_waits", READERS)
    mount.start()
    mount.expected_exit = 1
    mount.expected_log.extend(LOG)
    children = _begun(mount)
    process = mount.process
    assert process is not None
    try:
        wait_for(lambda: process.poll() is not None, "the daemon ends", ENDS_S)
    finally:
        if process.poll() is None:
            mount.abort()
    writer, changer = children
    with contextlib.suppress(OSError):
        changer.send("stop")
    changer.result()
    with pytest.raises(AssertionError, match="wait status 9"):
        writer.result()
    assert process.returncode == 1
    [end] = mount.events(type="close")
    assert (end["cause"], end["uid"]) == ("error", CAMERA)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_daemon_that_is_killed_meanwhile_keeps_nobody_waiting(
    store_on, without: Callable[..., Mount], guarded: bool
) -> None:
    """Its main thread waits for the file's lock, and no signal ends that: the kernel reports no end of the
    daemon. But a thread that only waits ends at once, and the launcher ends the connection."""
    guards = "circle-unseen" if guarded else "circle-unseen,connection-unguarded"
    mount = without(guards, POLICY, _store(store_on))
    mount.expected_exit = -signal.SIGKILL
    children = _begun(mount)
    process = mount.process
    assert process is not None
    wait_for(lambda: _is_closed(children[0].pid, process.pid), "loop and writer wait for each other", ENDS_S)
    process.kill()
    try:
        if guarded:
            wait_for(lambda: process.poll() is not None, "the daemon ends", ENDS_S)
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(HANGS_S)
    finally:
        if process.poll() is None:
            mount.abort()
    for child in children:
        with contextlib.suppress(OSError):
            child.send("stop")
        with contextlib.suppress(AssertionError):  # the write ends with the connection's error
            child.result()
    assert process.wait(ENDS_S) == -signal.SIGKILL
    mount.force_away()
    mount.control_socket.unlink(missing_ok=True)


def _is_closed(writer: int, daemon: int) -> bool:
    """True if the loop waits for the lock of a file whose times it changes, and the writer, with that lock,
    for a page that the loop has to read. (The loop may also wait for any write of the file, and go on; and a
    thread that has begun to read the page may yet answer. On a busy machine either may be awake already, and
    not have run.)"""
    before = _switches(daemon), _switches(writer)
    stuck = "vfs_utimes" in _stack(daemon) and "filemap_fault" in _stack(writer)
    rest = _others_rest(daemon) and "R" not in {state_of(daemon), state_of(writer)}
    return stuck and rest and (_switches(daemon), _switches(writer)) == before


def _others_rest(pid: int) -> bool:
    """True if each thread of a process but the main one waits for nothing but to be asked."""
    return {state for thread, (_, state) in thread_states(pid).items() if thread != pid} == {"S"}


def _stack(pid: int) -> str:
    """The kernel's functions in which a process's main thread waits."""
    return Path(f"/proc/{pid}/task/{pid}/stack").read_text()


def test_it_hangs_for_ever_where_nobody_looks(store_on, without: Callable[..., Mount]) -> None:
    mount = without("circle-unseen", POLICY, _store(store_on))
    mount.expected_exit = 1
    mount.expected_log.append("mount-ended")
    children = _begun(mount)
    deadline = time.monotonic() + ENDS_S
    looks: list[Child] = []
    while not looks or looks[-1].channel.poll(HANGS_S):
        assert time.monotonic() < deadline, "it does not hang"
        looks.append(start_as(GALLERY, _look, mount / "Checked/a.jpg"))
    mount.abort()
    for child in (*children, *looks):
        with contextlib.suppress(OSError):
            child.send("stop")
        child.result()
    process = mount.process
    assert process is not None
    wait_for(lambda: process.poll() is not None, "the daemon ends")
