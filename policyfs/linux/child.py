"""Children of a process: a fork that computes one answer (it may wait in the kernel without end, or fall to
hostile bytes), and signals: to a child at the end of its parent, and in the name of another process.

The first comes when a pipe has no writer any more. PR_SET_PDEATHSIG (prctl(2)) would not do: the kernel
clears it at each change of identity, and the daemon takes the caller's for each new file.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from policyfs.linux.libc import LIBC, fail

_NO_DESCRIPTOR: Final = (1 << 31) - 1
"""A number above every descriptor. RLIMIT_NOFILE is none: it may have been lowered since."""
_F_SETSIG: Final = 10  # asm-generic/fcntl.h
_PIECE: Final = 1 << 16
_STDERR: Final = 2
_QUEUE: Final = {"x86_64": 129, "aarch64": 138}.get(os.uname().machine, -1)
"""The number of rt_sigqueueinfo(2) (asm/unistd.h). Read here: a confined process may not call uname(2)."""
_SIGINFO: Final = struct.Struct("=iii4xiI")  # si_signo, si_errno, si_code, si_pid, si_uid
_SIGINFO_BYTES: Final = 128
_SI_QUEUE: Final = -1


def answer_of(
    function: Callable[[], bytes],
    *,
    timeout_s: float | None = None,
    most: int = 1 << 30,
    kept: Sequence[int] = (),
    meanwhile: Callable[[], object] = lambda: None,
) -> bytes | None:
    """Return the bytes that a function returns in a child: none if the child was killed or the function
    raised an exception. Return None if there was no answer in time (None: wait as long as it takes), or if
    the answer is larger than *most*. meanwhile: called in this process before it waits.

    The child has no descriptors but *kept*: another process may wait for the end of this one's output. If
    standard error is kept, the child prints the exception. A child without an answer is killed, but nobody
    waits for its end: a wait in the kernel may keep it.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run(function, writer, kept)
    os.close(writer)
    answer = None
    try:
        meanwhile()
        answer = _read(reader, timeout_s, most)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # SIGCHLD may be ignored
            os.kill(pid, signal.SIGKILL)  # a hostile child may have closed its end of the pipe, and go on
            os.waitpid(pid, os.WNOHANG if answer is None else 0)
    return answer


def close_others(*kept: int) -> None:
    """Close all descriptors of this process but these."""
    for below, above in itertools.pairwise([-1, *sorted(kept), _NO_DESCRIPTOR]):
        if above > below + 1:  # closerange(0, 0) closes all
            os.closerange(below + 1, above)


def end_with_writer(read_end: int, number: int) -> None:
    """Make the kernel send this process the signal *number* when a pipe's last writer has ended (at once if
    it has already). *read_end* must stay open (fcntl(2), F_SETSIG). Raises OSError."""
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, _F_SETSIG, number)
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(read_end, 0)
    if poll.poll(0):
        os.kill(os.getpid(), number)


def send_as(target: int, number: int, *, pid: int, uid: int) -> None:
    """Send a signal to the process *target*, which sees these ids as those of the sender. Raises OSError:
    ENOSYS on a machine whose call is not known."""
    info = bytearray(_SIGINFO_BYTES)
    _SIGINFO.pack_into(info, 0, number, 0, _SI_QUEUE, pid, uid)
    if LIBC.syscall(_QUEUE, target, number, (ctypes.c_char * len(info)).from_buffer(info)) != 0:
        raise fail()


def _run(function: Callable[[], bytes], writer: int, kept: Sequence[int]) -> NoReturn:
    """Write the function's answer, and exit. INVARIANT: no exception leaves this function: the child would
    run the rest of the program."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the child at once
        close_others(writer, *kept)
        left = memoryview(function())
        while left:
            left = left[os.write(writer, left) :]
    except BaseException:  # noqa: BLE001 - see above
        if _STDERR in kept:
            os.write(_STDERR, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(0)


def _read(reader: int, timeout_s: float | None, most: int) -> bytes | None:
    until = None if timeout_s is None else time.monotonic() + timeout_s
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    found = bytearray()
    while len(found) <= most:
        if not poller.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
            break
        piece = os.read(reader, _PIECE)
        if not piece:
            return bytes(found)
        found += piece
    return None
