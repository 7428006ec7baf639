"""The threads of a killed daemon that are still inside a system call: no signal ends some waits.

A thread in a call of the store or the trail may still change it, so the next daemon waits. A thread that
writes to /dev/fuse is left alone: its notification may wait for a lock of an app that waits for an answer,
which only the next daemon gives.
"""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policyfs.kernel import own_proc
from policyfs.linux import procfs

LIMIT_S: Final = 60.0
"""The longest wait. A thread may also wait for the lock of a file that an app holds while it waits for the
mount (daemon/lock_circle.py), and then would never end."""
_TOLD_S: Final = 1.0
_PAUSE_S: Final = 0.005
_WRITES: Final = {"x86_64": {"1", "20"}, "aarch64": {"64", "66"}}
"""The numbers of write(2) and writev(2) (asm/unistd.h)."""
_FUSE: Final = os.makedev(10, 229)
"""The device number of /dev/fuse (Documentation/admin-guide/devices.txt)."""


def wait_for_end(pid: int, tell: Callable[[int], object], limit_s: float = LIMIT_S) -> bool:
    """Wait until no thread of a killed process can change anything but the kernel's cache of the mount.

    Return False after *limit_s*. tell: called once with the number of threads if this takes long. INVARIANT:
    this process has the killed one's descriptors, under their numbers."""
    began, is_told = time.monotonic(), False
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # the kernel permits no such mount: this reads /proc itself
            undo.callback(own_proc.end, own_proc.own_proc())
        while threads := _at_work(pid):
            waited_s = time.monotonic() - began
            if waited_s > limit_s:
                return False
            if waited_s > _TOLD_S and not is_told:
                is_told = True
                tell(threads)
            time.sleep(_PAUSE_S)
    return True


def _at_work(pid: int) -> int:
    """Return the number of threads of a killed process that the next daemon waits for."""
    try:
        threads = list(Path(procfs.path(pid, "task")).iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(_is_at_work, threads))


def _is_at_work(thread: Path) -> bool:
    try:
        state = (thread / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        if state in {"Z", "X"}:
            return False
        call, *arguments = (thread / "syscall").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    if call not in _WRITES.get(platform.machine(), ()):
        return True
    try:
        found = os.fstat(int(arguments[0], 16))
    except OSError:
        return True
    return not (stat.S_ISCHR(found.st_mode) and found.st_rdev == _FUSE)
