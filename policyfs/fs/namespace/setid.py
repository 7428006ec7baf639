"""suid, sgid and ACLs with --posix. Then the kernel itself checks mode bits, as natively.

The mount itself never honours suid and sgid (MS_NOSUID). The kernel knows the caller's groups. So the kernel
itself decides, before it sends SETATTR or CREATE, whether the caller may change the mode. The kernel also
clears sgid if the caller is outside the group. This module does the rest.
"""

from __future__ import annotations

import contextlib
import os
import stat as stat_bits
from typing import Final

import trio

from policyfs.fs.inodes.caller import Caller
from policyfs.linux import procfs
from policyfs.linux.statx import Stat
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.tree import ACLS, Tree

_IDS: Final = stat_bits.S_ISUID | stat_bits.S_ISGID
_TRIES: Final = 10
_TRY_S: Final = 0.005


class SetIdBits:
    """The part of a mount that sets and clears suid and sgid bits.

    keeper: None if leases prove nothing on the store.
    """

    def __init__(self, tree: Tree, keeper: LeaseKeeper | None) -> None:
        self._tree = tree
        self._keeper = keeper

    async def may_set_ids(self, stack: contextlib.ExitStack, fd: int, mode: int) -> bool:
        """Return True if the object behind *fd* (O_PATH is enough) may get a mode with suid and sgid.

        The answer holds until *stack* is closed. A file gets the bits only while no process has it open for
        writing, in any mount or in the store. Natively, a write clears the bits (file_remove_privs). But the
        daemon does not see a write through a file that is open already, and could not clear the bits.
        """
        if not mode & _IDS or not stat_bits.S_ISREG(self._tree.fstat(fd).mode):
            return True
        if self._keeper is None:
            return False
        for attempt in range(_TRIES):
            if attempt:  # a writer may have just closed the file: RELEASE comes after close(2) has returned
                await trio.sleep(_TRY_S)
            try:
                reader = self._tree.reopen(fd, os.O_RDONLY)
            except BlockingIOError:  # another program has a write lease, which the kernel breaks now
                continue
            stack.callback(os.close, reader)
            lease = self._keeper.grant(reader)
            if lease is not None:
                stack.callback(lease.release)
                return True
        return False

    @staticmethod
    def loses_ids(stat: Stat, caller: Caller) -> bool:
        """Return True if chown(path, -1, -1) would clear suid or sgid. Then only the owner may make this call
        (notify_change).
        """
        mode = stat.mode
        if stat_bits.S_ISDIR(mode) or not mode & _IDS:
            return False
        if mode & stat_bits.S_ISUID or mode & stat_bits.S_IXGRP:
            return True
        return _outside(stat, caller)

    def chowned(self, fd: int, before: Stat, caller: Caller) -> None:
        """Clear sgid after a chown(2) by a caller outside the group, even if the group may not execute the
        file.

        Natively, the kernel does this (setattr_should_drop_sgid). But here the kernel has kept the bit,
        because the daemon, which is root, made the call.
        """
        mode = self._tree.fstat(fd).mode
        if stat_bits.S_ISREG(mode) and mode & stat_bits.S_ISGID and _outside(before, caller):
            self._tree.chmod_fd(fd, stat_bits.S_IMODE(mode) & ~stat_bits.S_ISGID)

    def set_acl(self, fd: int, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an ACL. The kernel has checked that the caller may do so. If the caller is outside the group,
        clear sgid, as after chmod (posix_acl_update_mode).
        """
        before = self._tree.fstat(fd)
        self._tree.set_acl(fd, name, value)
        if name == ACLS[0] and before.mode & stat_bits.S_ISGID and _outside(before, caller):
            mode = stat_bits.S_IMODE(self._tree.fstat(fd).mode)
            self._tree.chmod_fd(fd, mode & ~stat_bits.S_ISGID, suid=True)


def _outside(stat: Stat, caller: Caller) -> bool:
    """Return True if the caller is neither root nor in the group of the object with these attributes."""
    return caller.uid != 0 and stat.gid not in caller_groups(caller)


def caller_groups(caller: Caller) -> set[int]:
    """Return the caller's gid and, from /proc, its supplementary groups (none if the process has ended).

    In the status file, only a newline ends a line: the kernel escapes newlines in the process's name, but no
    other control characters.
    """
    try:
        lines = procfs.text(caller.pid, "status").split("\n")
    except OSError:
        return {caller.gid}
    groups = next((line.split()[1:] for line in lines if line.startswith("Groups:")), [])
    return {caller.gid, *map(int, groups)}
