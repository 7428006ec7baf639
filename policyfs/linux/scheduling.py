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


def set_turns(*, nicer: int, slice_ns: int, idle: bool = False) -> None:
    """Add *nicer* to the calling thread's nice value (setpriority(2)). Set its time slice to *slice_ns* ns
    (0.1 to 100 ms).

    Time slices matter since Linux 6.12 (kernel/sched/fair.c, PREEMPT_SHORT). A thread with a shorter slice
    that wakes up does not wait for the end of another thread's longer slice. Older kernels ignore the slices.
    Threads and processes that start later inherit both values. If the kernel refuses, nothing happens.

    idle: True to run only while no other process wants the processor (sched(7), SCHED_IDLE).
    """
    with contextlib.suppress(OSError):
        os.nice(nicer)
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is not None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, policy, 0, nice, 0, slice_ns, 0, 0)
        LIBC.syscall(number, 0, attributes, 0)
