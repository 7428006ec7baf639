"""The descriptors that a daemon inherits from the one before it, which was killed in the middle of work."""

from __future__ import annotations

import errno
import os

from policyfs.fs.inodes.saved_state import SavedState
from policyfs.kernel import vectors

Known = dict[int, tuple[int, int]]
"""Open descriptors: from each number to the device and inode numbers of its file."""


def now_open() -> Known:
    """Return the open descriptors of this process."""
    found: Known = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            stat = os.fstat(fd)
            found[fd] = stat.st_dev, stat.st_ino
        except OSError as error:
            if error.errno != errno.EBADF:  # that of the listed directory
                found[fd] = 0, 0  # stat of /proc/PID/fd fails once that process is dead
    return found


def close_others(known: Known, state: SavedState) -> None:
    """Close each descriptor except those that the keeper knew, the device, and those of handles, locks,
    copies and drafts.

    INVARIANT: called first: a lock of the dead daemon on its trail ends with its descriptor."""
    is_open, setup = now_open(), state.setup()
    kept = {0, 1, 2} | {fd for fd, inode in known.items() if is_open.get(fd) == inode}
    if setup is not None:
        kept.add(setup.device)
    for handle in state.handles():
        if handle.fd >= 0 and (handle.fd in kept or handle.fd not in is_open):
            state.drop(handle)  # not its descriptor, or this daemon may soon get the same number
    for slot, copy in state.copies.read().items():
        if copy.fd in kept or copy.fd not in is_open:
            state.copies.drop(slot)
    kept |= {handle.fd for handle in state.handles()} | {lock.fd for lock in state.locks.read()}
    kept |= {one.file for one in vectors.read_opens(state.opens)}
    kept |= {copy.fd for copy in state.copies.read().values()}
    kept |= {held.fd for held in state.held.read() if is_open.get(held.fd) == held.inode}
    for fd in is_open.keys() - kept:
        os.close(fd)
