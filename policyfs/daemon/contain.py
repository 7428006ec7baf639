"""The rights that the daemon gives up.

Before its first thread starts, the daemon gives up the network and most capabilities. Before its first
request, it gives up most system calls. Passthrough, the watch of the store, trusted xattrs and unmounting
need CAP_SYS_ADMIN in the first user namespace. So the daemon stays root. See docs/threat-model.md, "The
daemon itself".
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.linux import libc, procfs
from policyfs.linux.confinement import seccomp
from policyfs.linux.confinement.capabilities import Capability, Rights, keep, name_of, no_new_privs, rights_of

DAEMON: Final = frozenset({
    Capability.CHOWN,  # chown of an app's own files
    Capability.DAC_OVERRIDE,  # stores of mode 0700 and any owner: the policy decides, not mode bits
    Capability.DAC_READ_SEARCH,  # files by handle, for the watch
    Capability.FOWNER,  # chmod, utimens, xattrs of files that belong to apps
    Capability.FSETID,  # setgid directories, and files that natively keep their setgid bit
    Capability.KILL,  # workers that hang (they have another uid), and processes that block the mount
    Capability.SETGID, Capability.SETUID,  # new files are made with the caller's identity
    Capability.SETFCAP,  # removing file capabilities
    Capability.LEASE,  # leases on files that belong to apps
    Capability.SYS_PTRACE,  # to read /proc/PID/exe of any uid: the trail names the program
    Capability.SYS_ADMIN,  # backing ids, fanotify, trusted xattrs, umount
})  # fmt: skip
WITH_DEVICES: Final = DAEMON | {Capability.MKNOD}
"""The capabilities with --posix: also MKNOD, for callers whose own CAP_MKNOD the kernel has checked."""

@dataclass(frozen=True, slots=True)
class Containment:
    """The protections of a daemon against its own bugs. missing: one text for each protection that the daemon
    lacks. no_network: True if the daemon's network namespace has only the loopback interface."""

    capabilities: tuple[str, ...]
    no_new_privs: bool
    seccomp: str
    no_network: bool
    missing: tuple[str, ...]


def give_up_rights(*, special_files: bool = False) -> None:
    """Keep only the capabilities in DAEMON (with special_files: in WITH_DEVICES), if the daemon has them.
    Before any thread starts: each has its own. Raises PolicyfsError if further ones are left."""
    try:
        no_new_privs()
        _forbid_core_dumps()
        libc.keep_capabilities()
        kept = WITH_DEVICES if special_files else DAEMON
        keep(kept)
        rights = rights_of()
    except OSError as error:
        raise PolicyfsError(f"the daemon cannot give up rights: {error.strerror}") from error
    if not rights.no_new_privs or (rights.effective | rights.permitted | rights.handed_on) - kept:
        raise PolicyfsError("the daemon could not give up rights: one of its threads still has rights")


def _forbid_core_dumps() -> None:
    """Forbid core dumps, which would have data of files. A limit of 1 byte, not 0: with 0 the kernel still
    sends the memory to a program in core_pattern (fs/coredump.c). Raises OSError."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError:  # the hard limit is 0, and this process may not raise it; containment() reports this
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def close_door(*, special_files: bool = False) -> bool:
    """Permit only the system calls of policyfs.linux.confinement.seccomp, in all threads; with special_files
    also those that make fifos, sockets and devices. Return False without filters in the kernel, or a list for
    this machine. Raises PolicyfsError if the kernel refuses the filter."""
    try:
        return seccomp.close_door(os.getpid(), special_files=special_files)
    except OSError as error:
        raise PolicyfsError(f"the daemon cannot give up system calls: {error.strerror}") from error


def containment(pid: int | str = "self") -> Containment:
    """Return the containment of a daemon as the kernel reports it. Raises OSError if the daemon is gone."""
    rights = rights_of(pid)
    alone = set(_interfaces(pid)) <= {"lo"}
    names = tuple(name_of(number) for number in sorted(rights.effective | rights.permitted))
    missing = (*_missing(rights, alone=alone), *_core(pid))
    return Containment(names, rights.no_new_privs, rights.seccomp, alone, missing)


def _interfaces(pid: int | str) -> list[str]:
    table = Path(procfs.path(pid, "net/dev")).read_text(encoding="ascii", errors="replace")
    return [line.partition(":")[0].strip() for line in table.splitlines()[2:]]


def _core(pid: int | str) -> list[str]:
    limits = Path(procfs.path(pid, "limits")).read_text(encoding="ascii")
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    return [] if line.split()[4] == "1" else ["a core dump after a crash would contain data of files"]


def _missing(rights: Rights, *, alone: bool) -> list[str]:
    missing = []
    if more := (rights.effective | rights.permitted | rights.handed_on) - WITH_DEVICES:
        missing.append(
            f"the daemon has rights that it does not need: {', '.join(map(name_of, sorted(more)))}"
        )
    if rights.bounding - WITH_DEVICES:
        missing.append("the daemon's bounding set has rights that the daemon does not need")
    if not rights.no_new_privs:
        missing.append("a program that the daemon starts could gain rights")
    if rights.seccomp != "filter":
        missing.append("the daemon may make every system call")
    if not alone:
        missing.append("the daemon can reach a network")
    return missing
