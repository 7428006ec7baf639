"""An instance of procfs for this process alone (policyfs.linux.procfs has the reason)."""

from __future__ import annotations

import os

from policyfs.kernel import mount_api
from policyfs.kernel.bridge import library
from policyfs.linux import procfs


def own_proc() -> tuple[int, int]:
    """Read /proc by an instance of procfs that no other process reaches, from now on, in Python and in the
    bridge.

    Call this before the readers start. Return the descriptors for end(). Raises OSError if the kernel permits
    no such mount; then this process goes on reading /proc itself. /proc/self/fd stays a path of /proc: while
    it is open, its names stay in the kernel's cache, which needs no lock to look them up.
    """
    descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = mount_api.procfs_instance()
    except BaseException:
        os.close(descriptors)
        raise
    procfs.use(directory)
    library.read_proc(directory)
    return descriptors, directory


def end(opened: tuple[int, int]) -> None:
    """Read /proc itself again, and close what own_proc() returned. Call this when no reader runs."""
    procfs.use(-1)
    library.read_proc(-1)
    for fd in opened:
        os.close(fd)
