"""How the daemon's descriptors are shared out between their uses, by what the limit gives."""

from __future__ import annotations

import resource


def small_part(most: int) -> int:
    """How many descriptors may be kept for one purpose: a small part of the limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(most, soft // 8))


def of_open_files() -> int:
    """How many descriptors open files may hold: half of the limit, the rest is for all else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, soft // 2)


def of_copies() -> int:
    """How many descriptors frozen copies may hold: a quarter of the limit; their bytes are bounded apart."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, soft // 4)
