"""The table of descriptors that the keeper shares with its daemons, and what a killed daemon leaves in it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from typing import Final

from policyfs.fs.inodes.saved_state import SavedState
from policyfs.kernel import vectors
from policyfs.linux.libc import fail

_CLONE: Final = {"x86_64": 56, "aarch64": 220}
"""The number of clone(2) (asm/unistd.h)."""
_CLONE_FILES, _CLONE_PARENT = 0x400, 0x8000
_CHILD_SETTID, _CHILD_CLEARTID = 0x01000000, 0x00200000
_PR_GET_TID_ADDRESS: Final = 40

_C: Final = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter lock: it is of the forking thread


def is_possible() -> bool:
    """Return True if this machine's clone(2) is known, and the kernel tells what libc needs for it."""
    return platform.machine() in _CLONE and _tid_address() != 0


def _tid_address() -> int:
    """Return where libc keeps this thread's number, for the child to have its own there (as in fork(2))."""
    address = ctypes.c_uint64(0)
    done = _C.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0)
    return address.value if done == 0 else 0


def fork_sharing_descriptors(*, sibling: bool = False) -> int:
    """Fork, as os.fork(), but both processes have one table of descriptors: what one opens or closes, is open
    or closed in both, and stays so when one of them dies. Return 0 in the child, else its pid. Raises
    OSError. sibling: True for a child of this process's parent.

    INVARIANT: this process has one thread, and opens and closes nothing while the child lives."""
    machine = platform.machine()
    address = ctypes.c_void_p(_tid_address())
    flags = _CLONE_PARENT * sibling | _CLONE_FILES | _CHILD_SETTID | _CHILD_CLEARTID | signal.SIGCHLD
    nothing = ctypes.c_void_p(0)
    ending = (address, nothing) if machine == "x86_64" else (nothing, address)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_C.syscall(_CLONE[machine], ctypes.c_ulong(flags), nothing, nothing, *ending))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise fail()
    return pid


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
