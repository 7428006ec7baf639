"""The change of a process to another user, permanently and with no capability left.

INVARIANT: no other module of policyfs changes real, effective or saved ids, or groups
(tests/unit/test_linux_confinement_identity.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from typing import Final

from policyfs.linux.confinement.capabilities import bound, has_none, keep, no_new_privs
from policyfs.linux.libc import PRCTL, Identity

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_PR_GET_SECUREBITS: Final = 27
_PR_SET_SECUREBITS: Final = 28
_KEEPING: Final = 1 << 2 | 1 << 4
"""SECBIT_NO_SETUID_FIXUP and SECBIT_KEEP_CAPS (linux/securebits.h): with one of them, setresuid(2) leaves
capabilities to the process."""


def become(uid: int, gid: int, groups: Collection[int] = ()) -> None:
    """Make this process run under other ids, without capabilities and for good, also after exec
    (no_new_privs). It must have only one thread. groups: the supplementary groups. All is read back from the
    kernel. After an OSError the process must exit: it may have some of the new ids, and capabilities."""
    no_new_privs()
    bits = PRCTL(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    if bits & _KEEPING:
        PRCTL(_PR_SET_SECUREBITS, bits & ~_KEEPING, 0, 0, 0)  # fails if locked; keep() below needs no bits
    bound(frozenset())
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    keep(frozenset())
    own = (set(os.getresuid()), set(os.getresgid()), set(os.getgroups()))
    if own != ({uid}, {gid}, set(groups)) or not has_none():
        raise PermissionError(errno.EPERM, f"cannot give up all rights for the user {uid}")


def become_for_files(uid: int, gid: int, umask: int) -> None:
    """Make this process reach files under other ids, without capabilities and to its end, but stay a process
    of its present user, whom no process of *uid* can signal (setfsuid(2)). It must have only one thread.
    After an OSError it must exit."""
    no_new_privs()
    bound(frozenset())
    os.setgroups([])
    Identity(uid, gid, umask).__enter__()  # reads the ids back
    keep(frozenset())
    if os.getgroups() or not has_none():
        raise PermissionError(errno.EPERM, f"cannot give up all rights for files of the user {uid}")


def become_root_of_namespace() -> None:
    """Make this process have the uid and gid 0 of its user namespace, and stay open to /proc as before
    (PR_SET_DUMPABLE). It must have only one thread. Raises OSError."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    PRCTL(_PR_SET_DUMPABLE, 1, 0, 0, 0)
