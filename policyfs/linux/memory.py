"""The memory that this process can use: the machine's, or the limit of the process's control group."""

from __future__ import annotations

import contextlib
import os
from typing import Final

_UNLIMITED: Final = 1 << 60
"""In control groups of version 1, a number above this means "no limit"."""


def usable_bytes() -> int:
    """Return the machine's memory in bytes, or the limit of the control group if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = group_limit()
    return machine if limit is None else min(machine, limit)


def mapped_bytes() -> int:
    """Return the size of this process's address space in bytes, as RLIMIT_AS counts it."""
    with open("/proc/self/statm", encoding="ascii") as sizes:
        return int(sizes.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def group_limit(groups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int | None:
    """Return the memory limit of this process's control group (version 2, or 1's memory controller) in bytes:
    the least of it and those above; None: no limit."""
    limits: list[int] = []
    with contextlib.suppress(OSError), open(groups, encoding="utf-8") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, name = ("/memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
            steps = [step for step in path.split("/") if step]
            for depth in range(len(steps) + 1):
                limits += _numbers("/".join([f"{root}{top}", *steps[:depth], name]))
    return min((limit for limit in limits if limit < _UNLIMITED), default=None)


def _numbers(file: str) -> list[int]:
    with contextlib.suppress(OSError, ValueError), open(file, encoding="utf-8") as opened:
        return [int(opened.read())]
    return []  # missing, or "max"
