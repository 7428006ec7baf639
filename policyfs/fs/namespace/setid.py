"""suid, sgid and ACLs where a mount has the kernel's own mode-bit checks (--posix): as natively.

The mount itself never honours suid and sgid (MS_NOSUID). What the kernel has decided before it sends
SETATTR or CREATE it has decided with the caller's groups at hand: who may change a mode, and
whether sgid is to be dropped for one who is not in the group. Here is what it leaves to us.
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
    """Sets and clears suid and sgid for one mount. keeper: None where leases mean nothing."""

    def __init__(self, tree: Tree, keeper: LeaseKeeper | None) -> None:
        self._tree = tree
        self._keeper = keeper

    async def may_set_ids(self, stack: contextlib.ExitStack, fd: int, mode: int) -> bool:
        """May what is behind *fd* (O_PATH will do) get that mode as it is, or is it to go without
        suid and sgid. The answer holds until *stack* is closed.

        A file gets them only while nobody has it open for writing, in any mount or in the store:
        a write through a descriptor that is open already is not seen here, and would leave in
        place what it must clear (Linux: file_remove_privs).
        """
        if not mode & _IDS or not stat_bits.S_ISREG(self._tree.fstat(fd).mode):
            return True
        if self._keeper is None:
            return False
        reader = self._tree.reopen(fd, os.O_RDONLY)
        stack.callback(os.close, reader)
        for attempt in range(_TRIES):
            if attempt:  # whoever has closed it just now: RELEASE comes after close(2) has returned
                await trio.sleep(_TRY_S)
            lease = self._keeper.grant(reader)
            if lease is not None:
                stack.callback(lease.release)
                return True
        return False

    @staticmethod
    def loses_ids(stat: Stat, caller: Caller) -> bool:
        """Would chown(path, -1, -1) take something away, which only the owner may (notify_change)."""
        mode = stat.mode
        if stat_bits.S_ISDIR(mode) or not mode & _IDS:
            return False
        if mode & stat_bits.S_ISUID or mode & stat_bits.S_IXGRP:
            return True
        return _outside(stat, caller)

    def chowned(self, fd: int, before: Stat, caller: Caller) -> None:
        """After chown(2): the store's kernel has cleared what it clears for root; for others sgid
        goes also without group execution, unless they are in the group (setattr_should_drop_sgid).
        """
        mode = self._tree.fstat(fd).mode
        if stat_bits.S_ISREG(mode) and mode & stat_bits.S_ISGID and _outside(before, caller):
            self._tree.chmod_fd(fd, stat_bits.S_IMODE(mode) & ~stat_bits.S_ISGID)

    def set_acl(self, fd: int, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an ACL, as the owner: the kernel has asked for that. As after chmod, sgid goes for one who
        is not in the group (posix_acl_update_mode).
        """
        before = self._tree.fstat(fd)
        self._tree.set_acl(fd, name, value)
        if name == ACLS[0] and before.mode & stat_bits.S_ISGID and _outside(before, caller):
            mode = stat_bits.S_IMODE(self._tree.fstat(fd).mode)
            self._tree.chmod_fd(fd, mode & ~stat_bits.S_ISGID, suid=True)


def _outside(stat: Stat, caller: Caller) -> bool:
    """Is the caller neither root nor in the group of what has these attributes."""
    return caller.uid != 0 and stat.gid not in caller_groups(caller)


def caller_groups(caller: Caller) -> set[int]:
    """The caller's groups: its gid, and what /proc says of its others (gone process: none)."""
    try:
        return {caller.gid, *pyfuse3.get_sup_groups(caller.pid)}
    except (OSError, RuntimeError, ValueError):
        return {caller.gid}
