"""An instance of procfs for this process alone (policyfs.linux.procfs has the reason)."""

from __future__ import annotations

import os

from policyfs.kernel import mount_api
from policyfs.kernel.bridge import read_proc
from policyfs.linux import procfs


def own_proc() -> tuple[int, int]:
    """Read /proc by an instance of procfs that no other process reaches, from now on, in Python and in the
    bridge.

    Call this before the readers start. Return the descriptors for end(). Raises OSError if the kernel does
    not permit such a mount. Then this process goes on reading /proc itself.

    Paths below /proc/self/fd stay paths of /proc. While a descriptor of this directory is open, the names of
    the directory's path stay in the kernel's cache, and the kernel needs no lock to look them up.
    """
    descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = mount_api.procfs_instance()
    except BaseException:
        os.close(descriptors)
        raise
    procfs.use(directory)
    read_proc(directory)
    return descriptors, directory


def end(opened: tuple[int, int]) -> None:
    """Read /proc itself again, and close the instance. Call this when no reader runs. opened: the result of
    own_proc().
    """
    procfs.use(-1)
    read_proc(-1)
    for fd in opened:
        os.close(fd)
