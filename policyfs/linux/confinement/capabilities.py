"""Functions that drop capabilities permanently, set no_new_privs, and read the rights of a process.

Numbers and structures: linux/capability.h, linux/prctl.h, capabilities(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.linux import procfs
from policyfs.linux.confinement.prctl import prctl
from policyfs.linux.libc import LIBC, PRCTL, fail

_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_IS_SET: Final = 1
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES_MAX: Final = 64
_SECCOMP_MODES: Final = ("off", "strict", "filter")


class Capability(enum.IntEnum):
    """The capabilities that policyfs uses, by their numbers."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    FSETID = 4
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    SYS_CHROOT = 18
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    MKNOD = 27
    LEASE = 28
    SETFCAP = 31


ZYGOTE: Final = frozenset({
    Capability.DAC_READ_SEARCH,  # to read modules and libraries in any place
    Capability.KILL, Capability.SETUID, Capability.SETGID, Capability.SYS_CHROOT,
})  # fmt: skip
"""The capabilities of the launcher and the zygote: to give a worker another uid, confine it, and end it."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a process: sets of capabilities by number, and two other limits.

    handed_on: the capabilities that exec can pass on (the inheritable and ambient sets). no_new_privs: True
    if exec cannot add capabilities. seccomp: ``off``, ``strict`` or ``filter``. Of several threads: the
    union of their sets, and the weakest of their other values.
    """

    effective: frozenset[int]
    permitted: frozenset[int]
    bounding: frozenset[int]
    handed_on: frozenset[int]
    no_new_privs: bool
    seccomp: str


def no_new_privs() -> None:
    """Let exec add no rights to this thread, and to all that it starts later. Raises OSError."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep(wanted: frozenset[Capability]) -> None:
    """Drop all capabilities except *wanted* permanently, also from the bounding set, for the calling thread
    and all that it starts later: exec then gives only the bounding set's, to root. Raises OSError."""
    bound(wanted)
    header, sets = _own_sets()
    mask = sum(1 << number for number in wanted)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    for place, part in enumerate((low, low, 0, high, high, 0)):
        sets[place] &= part
    if LIBC.capset(header, sets):
        raise fail(b"capset")


def bound(wanted: frozenset[Capability]) -> None:
    """Empty this thread's ambient set, and drop all capabilities except *wanted* from its bounding set.
    Without CAP_SETPCAP the bounding set stays; no_new_privs keeps exec from using it. Raises OSError."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_CAPABILITIES_MAX):
        held = PRCTL(_PR_CAPBSET_READ, number, 0, 0, 0)
        if held < 0:  # a number beyond the kernel's last capability
            return
        if held and number not in wanted and PRCTL(_PR_CAPBSET_DROP, number, 0, 0, 0):
            error = fail(b"PR_CAPBSET_DROP")
            if error.errno != errno.EPERM:
                raise error


def has_none() -> bool:
    """Return True if this thread can neither use nor hand on a capability (the bounding set does not count).
    Reads no file, so it also works after a chroot. Raises OSError."""
    ambient = any(PRCTL(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1
                  for number in range(_CAPABILITIES_MAX))  # fmt: skip
    return not ambient and not any(_own_sets()[1])


def _own_sets() -> tuple[ctypes.Array[ctypes.c_uint32], ctypes.Array[ctypes.c_uint32]]:
    """Return capset(2)'s header, and the sets: effective, permitted, inheritable; then their upper halves."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if LIBC.capget(header, sets):
        raise fail(b"capget")
    return header, sets


def rights_of(pid: int | str = "self") -> Rights:
    """Return the rights of all threads of a process. Raises OSError if it has ended. pid: a number, ``self``,
    or ``thread-self`` for the calling thread alone."""
    found = [_rights_of_thread(text) for text in _threads(pid)]
    if not found:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    def union(name: str) -> frozenset[int]:
        return frozenset().union(*(getattr(one, name) for one in found))

    return Rights(
        union("effective"), union("permitted"), union("bounding"), union("handed_on"),
        all(one.no_new_privs for one in found),
        min((one.seccomp for one in found), key=_SECCOMP_MODES.index),
    )  # fmt: skip


def _threads(pid: int | str) -> Iterator[str]:
    files = ["status"]
    if pid != "thread-self":
        files = [f"task/{thread}/status" for thread in os.listdir(procfs.path(pid, "task"))]
    for file in files:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield procfs.text(pid, file)


def _rights_of_thread(status: str) -> Rights:
    return _rights_by(tuple(re.findall(r"^(Cap\w+|NoNewPrivs|Seccomp):\s*(\w+)$", status, re.MULTILINE)))


@functools.lru_cache(maxsize=8)  # the threads of a process have the same
def _rights_by(lines: tuple[tuple[str, str], ...]) -> Rights:
    fields = dict(lines)

    def numbers(name: str) -> frozenset[int]:
        mask = int(fields[name], 16)
        return frozenset(number for number in range(_CAPABILITIES_MAX) if mask >> number & 1)

    return Rights(
        numbers("CapEff"), numbers("CapPrm"), numbers("CapBnd"), numbers("CapInh") | numbers("CapAmb"),
        fields["NoNewPrivs"] == "1", _SECCOMP_MODES[int(fields.get("Seccomp", "0"))],
    )  # fmt: skip


def name_of(number: int) -> str:
    """Return a capability's name as in man pages (CAP_...); ``capability N`` if *number* is unknown."""
    try:
        return f"CAP_{Capability(number).name}"
    except ValueError:
        return f"capability {number}"
