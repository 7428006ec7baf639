"""The limits of the daemon's descriptors: each use of descriptors has a part of the process's limit."""

from __future__ import annotations

import resource
from typing import Final

_LEAST: Final = 16
_DIRECTORIES: Final = 4096


def small_part(most: int) -> int:
    """Return the limit of descriptors for one use: an eighth of the process's limit, but at most *most*."""
    return max(_LEAST, min(most, _limit() // 8))


def of_directories(vectors: int) -> tuple[int, int]:
    """Return the limits of directory descriptors for the resolver and for the access vectors,
    small_part(_DIRECTORIES) together. The vectors get a quarter, at most *vectors*."""
    both = small_part(_DIRECTORIES)
    of_vectors = min(vectors, both // 4)
    return both - of_vectors, of_vectors


def of_open_files() -> int:
    """Return the limit of descriptors for open files: half of the process's."""
    return max(_LEAST, _limit() // 2)


def of_copies() -> int:
    """Return the limit of descriptors for frozen copies: a quarter of the process's limit."""
    return max(_LEAST, _limit() // 4)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
