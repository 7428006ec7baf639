"""Confinement: the rights that a worker gives up before it reads its first hostile byte.

A worker runs only if it could give up all of these rights: root, every group, every capability, the means to
get capabilities back (no_new_privs), new processes, core dumps, debuggers, and most memory and time. If the
kernel can do it, the worker also gives up paths (chroot into a directory without files, Landlock without
exceptions), the network and signals (Landlock), and most system calls (seccomp). The few allowed calls
receive a request, read a passed file and answer. The worker reports the measures in force, for ``doctor``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
from dataclasses import dataclass
from typing import Final

from policyfs.linux.confinement import seccomp
from policyfs.linux.confinement.capabilities import keep, no_new_privs
from policyfs.linux.confinement.identity import become
from policyfs.linux.confinement.landlock import forbid_files
from policyfs.linux.confinement.prctl import prctl, request_parent_death_signal
from policyfs.linux.scheduling import set_turns

_PR_SET_DUMPABLE: Final = 4
_SLICE_NS: Final = 50_000_000
"""A long time slice: since Linux 6.12 a process with a shorter one that wakes up does not wait for its end.

So an app that has received its answer goes on at once. The nice value stays that of an app, which waits
for each request.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a worker. Sizes in bytes. cpu_s: the processor time of the worker's whole life, in seconds.

    uid, gid: the first uid and gid for workers. uids: the number of uids, and of gids, from these ids on.
    Each living worker has a uid and a gid of its own. users: True if workers keep instead the ids of the user
    who runs the command (not root); *uids* is then the number of workers.
    """

    uid: int
    gid: int
    address_space: int
    cpu_s: int
    descriptors: int
    uids: int = 1
    users: bool = False


class ConfinementError(Exception):
    """The error if a process cannot give up a right that no worker may keep."""


def confine(limits: Limits, parent: int) -> list[str]:
    """Give up the rights of this process permanently. Return the measures in force, as texts for people.

    parent: pid of the zygote, which forked this process. The kernel kills this process when the zygote dies.
    Descriptors stay open. Raises ConfinementError or OSError, after which the process must exit at once.
    """
    held = []
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")  # if memory runs out, the kernel kills a worker first
    with contextlib.suppress(OSError):
        # This directory holds only the numbers of the process's own descriptors. Even these belong to root
        # once the process is not dumpable.
        os.chroot("/proc/self/fdinfo")
        held.append("chroot")
    os.chdir("/")
    set_turns(nicer=0, slice_ns=_SLICE_NS)
    if not limits.uid or not limits.gid or (limits.users and 0 in {*os.getresuid(), *os.getresgid()}):
        raise ConfinementError("a worker must not run as root")
    if limits.users:
        no_new_privs()
        keep(frozenset())
    else:
        become(limits.uid, limits.gid)
    held.append(f"uid {limits.uid}")
    prctl(_PR_SET_DUMPABLE, 0)
    request_parent_death_signal(signal.SIGKILL)  # after setresuid, which clears the signal
    if os.getppid() != parent:
        raise ConfinementError("the zygote is gone already")
    abi = _landlock()  # before the limit of descriptors, since Landlock needs one
    _limit(limits)
    held.append("no_new_privs, limits")
    if abi:
        held.append(f"landlock {abi}")
    if _seccomp():
        held.append("seccomp")
    elif limits.users:
        raise ConfinementError("without root, only a seccomp filter can confine a worker, and there is none")
    return held


def _limit(limits: Limits) -> None:
    for what, value in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_NOFILE, limits.descriptors),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (value, value))
    # SIGXCPU comes 5 s before SIGKILL and shows the cause. SIGKILL alone could come from any process.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 5))


def _landlock() -> int:
    """Apply forbid_files(). Raise ConfinementError if the kernel has Landlock, but a call of it fails."""
    try:
        return forbid_files()
    except OSError as error:
        raise ConfinementError(f"Landlock: {error.strerror}") from None


# ------------------------------------------------------------------ seccomp

_CALLS: Final = frozenset(
    {
        "write", "close", "mmap", "mprotect", "munmap", "brk", "rt_sigprocmask", "rt_sigreturn", "pread64",
        "sched_yield", "mremap", "madvise", "getpid", "sendto", "recvfrom", "sendmsg", "recvmsg", "exit",
        "futex", "restart_syscall", "clock_gettime", "exit_group", "getrandom",
    }
)  # fmt: skip
"""Allowed system calls: to compute, to read a passed file and to answer."""


def seccomp_filter(machine: str) -> bytes | None:
    """Return the filter for a machine name from uname; None for a machine without a list of call numbers.

    A call that is not in _CALLS fails with EPERM. The call does not kill the worker, because some libc may
    make a harmless call that is not in _CALLS.
    """
    return seccomp.short_program(machine, sorted(_CALLS))


def _seccomp() -> bool:
    machine = platform.machine()
    program = seccomp_filter(machine)
    return program is not None and seccomp.install(machine, program)
