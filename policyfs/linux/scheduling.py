"""The processor share of this process and the length of its time slices (sched_setattr(2))."""

from __future__ import annotations

import contextlib
import os
import platform
import struct
from typing import Final

from policyfs.linux.libc import LIBC

_SYS_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period (sched_setattr(2))."""

SERVING_NICE: Final = -10
"""The nice value of a process that serves a mount, and of its session: apps wait for it."""


def set_turns(*, nicer: int, slice_ns: int) -> None:
    """Add *nicer* to the calling thread's nice value, and set its time slice to *slice_ns* ns (0.1 to 100
    ms), if permitted.

    Since Linux 6.12 (kernel/sched/fair.c, PREEMPT_SHORT), a thread with a shorter slice that wakes up does
    not wait for the end of a longer one. Later threads and processes inherit both.
    """
    with contextlib.suppress(OSError):
        os.nice(nicer)
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is not None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
        LIBC.syscall(number, 0, attributes, 0)


def go_first() -> int:
    """Set SERVING_NICE, or a lower nice value, for this process and for the session that it leads, if
    permitted. Return the nice value before, which is not lower."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, SERVING_NICE))
    weigh_own_session(SERVING_NICE)
    return before


def weigh_own_session(nice: int) -> None:
    """Set the nice value of this process's session if it leads it (else a shell would gain, too): where the
    kernel shares processors between sessions (sched(7), autogroup), a process's own counts only within."""
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "wb", buffering=0) as weight:
            weight.write(b"%d" % nice)
