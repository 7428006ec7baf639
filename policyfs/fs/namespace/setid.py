"""suid, sgid and ACLs with --posix, where the kernel checks mode bits itself: as natively.

The mount itself never honours suid and sgid (MS_NOSUID). Before the kernel sends SETATTR or CREATE, it
decides who may change a mode, and whether a caller outside the group loses sgid: the kernel knows the
caller's groups. This module does the rest.
"""

from __future__ import annotations

import contextlib
import os
import stat as stat_bits
from typing import Final

import trio

from policyfs.fs.inodes.handles import Caller
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.store.leases import LeaseKeeper
from policyfs.store.tree import ACLS, Tree

_IDS: Final = stat_bits.S_ISUID | stat_bits.S_ISGID
_TRIES: Final = 10
_TRY_S: Final = 0.005


class SetIdBits:
    """Sets and clears suid and sgid for one mount. keeper: None if leases prove nothing on the store."""

    def __init__(self, tree: Tree, keeper: LeaseKeeper | None) -> None:
        self._tree = tree
        self._keeper = keeper

    async def may_set_ids(self, stack: contextlib.ExitStack, fd: int, mode: int) -> bool:
        """True if the object behind *fd* (O_PATH is enough) may get a mode with suid and sgid.

        The answer holds until *stack* is closed. A file gets the bits only while no process has it open for
        writing, in any mount or in the store. Otherwise a write through such an open file would not clear the
        bits, as Linux must (file_remove_privs): the daemon does not see that write.
        """
        if not mode & _IDS or not stat_bits.S_ISREG(self._tree.fstat(fd).mode):
            return True
        if self._keeper is None:
            return False
        reader = self._tree.reopen(fd, os.O_RDONLY)
        stack.callback(os.close, reader)
        for attempt in range(_TRIES):
            if attempt:  # a writer may have closed it just now: RELEASE comes after close(2) has returned
                await trio.sleep(_TRY_S)
            lease = self._keeper.grant(reader)
            if lease is not None:
                stack.callback(lease.release)
                return True
        return False

    @staticmethod
    def loses_ids(stat: Stat, caller: Caller) -> bool:
        """True if chown(path, -1, -1) would clear suid or sgid. Then only the owner may do it
        (notify_change).
        """
        mode = stat.mode
        if stat_bits.S_ISDIR(mode) or not mode & _IDS:
            return False
        if mode & stat_bits.S_ISUID or mode & stat_bits.S_IXGRP:
            return True
        return _outside(stat, caller)

    def chowned(self, fd: int, before: Stat, caller: Caller) -> None:
        """After a chown(2) by a caller outside the group, clear sgid, even if the group may not execute the
        file.

        (As setattr_should_drop_sgid does. For the daemon, which is root, the kernel has kept this bit.)
        """
        mode = self._tree.fstat(fd).mode
        if stat_bits.S_ISREG(mode) and mode & stat_bits.S_ISGID and _outside(before, caller):
            self._tree.chmod_fd(fd, stat_bits.S_IMODE(mode) & ~stat_bits.S_ISGID)

    def set_acl(self, fd: int, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an ACL. The kernel has checked that the caller may do so. A caller outside the group loses
        sgid, as after chmod (posix_acl_update_mode).
        """
        before = self._tree.fstat(fd)
        self._tree.set_acl(fd, name, value)
        if name == ACLS[0] and before.mode & stat_bits.S_ISGID and _outside(before, caller):
            mode = stat_bits.S_IMODE(self._tree.fstat(fd).mode)
            self._tree.chmod_fd(fd, mode & ~stat_bits.S_ISGID, suid=True)


def _outside(stat: Stat, caller: Caller) -> bool:
    """True if the caller is neither root nor in the group of the object with these attributes."""
    return caller.uid != 0 and stat.gid not in caller_groups(caller)


def caller_groups(caller: Caller) -> set[int]:
    """Return the caller's gid and, from /proc, its supplementary groups (none if the process has ended)."""
    try:
        return {caller.gid, *pyfuse3.get_sup_groups(caller.pid)}
    except (OSError, RuntimeError, ValueError):
        return {caller.gid}
