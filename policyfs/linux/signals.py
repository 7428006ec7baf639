"""Signals that are queued in the name of another process."""

from __future__ import annotations

import ctypes
import platform
import struct
from typing import Final

from policyfs.linux.libc import LIBC, fail

_QUEUE: Final = {"x86_64": 129, "aarch64": 138}
"""The number of rt_sigqueueinfo(2) (asm/unistd.h)."""
_SIGINFO: Final = struct.Struct("=iii4xiI")  # si_signo, si_errno, si_code, si_pid, si_uid
_SIGINFO_BYTES: Final = 128
_SI_QUEUE: Final = -1


def send_as(target: int, number: int, *, pid: int, uid: int) -> None:
    """Send a signal to the process *target*, which sees these ids as those of the sender. Raises OSError:
    ENOSYS on a machine whose call is not known."""
    info = bytearray(_SIGINFO_BYTES)
    _SIGINFO.pack_into(info, 0, number, 0, _SI_QUEUE, pid, uid)
    call = _QUEUE.get(platform.machine(), -1)
    if LIBC.syscall(call, target, number, (ctypes.c_char * len(info)).from_buffer(info)) != 0:
        raise fail()
