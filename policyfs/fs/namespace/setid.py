"""suid, sgid and ACLs with --posix. The kernel checks mode bits then, by the caller's groups, before it sends
SETATTR or CREATE, and clears sgid outside the group. The mount itself is MS_NOSUID. This module does the
rest."""

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
    """Sets and clears suid and sgid bits. keeper: None if leases prove nothing on the store."""

    def __init__(self, tree: Tree, keeper: LeaseKeeper | None) -> None:
        self._tree = tree
        self._keeper = keeper

    async def may_set_ids(self, stack: contextlib.ExitStack, fd: int, mode: int) -> bool:
        """Return True if the object behind *fd* (O_PATH is enough) may get suid and sgid, until *stack* is
        closed: while no process, in any mount or the store, has it open for writing. (A write clears the bits
        natively, but the daemon would not see it.)"""
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
        """Return True if chown(path, -1, -1) clears suid or sgid: only the owner may (notify_change)."""
        mode = stat.mode
        if stat_bits.S_ISDIR(mode) or not mode & _IDS:
            return False
        if mode & stat_bits.S_ISUID or mode & stat_bits.S_IXGRP:
            return True
        return _outside(stat, caller)

    def chowned(self, fd: int, before: Stat, caller: Caller) -> None:
        """Clear sgid after a chown(2) by a caller outside the group, as the kernel natively does
        (setattr_should_drop_sgid), but not for the daemon, which is root."""
        mode = self._tree.fstat(fd).mode
        if stat_bits.S_ISREG(mode) and mode & stat_bits.S_ISGID and _outside(before, caller):
            self._tree.chmod_fd(fd, stat_bits.S_IMODE(mode) & ~stat_bits.S_ISGID)

    def set_acl(self, fd: int, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an ACL, as the kernel has permitted; outside the group clear sgid (posix_acl_update_mode)."""
        before = self._tree.fstat(fd)
        self._tree.set_acl(fd, name, value)
        if name == ACLS[0] and before.mode & stat_bits.S_ISGID and _outside(before, caller):
            mode = stat_bits.S_IMODE(self._tree.fstat(fd).mode)
            self._tree.chmod_fd(fd, mode & ~stat_bits.S_ISGID, suid=True)


def _outside(stat: Stat, caller: Caller) -> bool:
    return caller.uid != 0 and stat.gid not in caller_groups(caller)


def caller_groups(caller: Caller) -> set[int]:
    """Return the caller's gid and, from /proc, its supplementary groups. (The kernel escapes only newlines in
    the process's name.)"""
    try:
        lines = procfs.text(caller.pid, "status").split("\n")
    except OSError:
        return {caller.gid}
    groups = next((line.split()[1:] for line in lines if line.startswith("Groups:")), [])
    return {caller.gid, *map(int, groups)}
