"""Share the daemon's descriptors out between their uses, by what the limit gives."""

from __future__ import annotations

import resource
from typing import Final

_LEAST: Final = 16


def small_part(most: int) -> int:
    """Count the descriptors that one purpose may keep: an eighth of the limit, *most* at most."""
    return max(_LEAST, min(most, _limit() // 8))


def of_open_files() -> int:
    """Count the descriptors that open files may hold: half of the limit, the rest is for all else."""
    return max(_LEAST, _limit() // 2)


def of_copies() -> int:
    """Count the descriptors that frozen copies may hold: a quarter of the limit."""
    return max(_LEAST, _limit() // 4)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
