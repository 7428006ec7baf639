"""The limits of the daemon's descriptors: each use of descriptors has a part of the process's limit."""

from __future__ import annotations

import resource
from typing import Final

_LEAST: Final = 16
_DIRECTORIES: Final = 4096


def small_part(most: int) -> int:
    """Return how many descriptors one use may keep: an eighth of the limit, but at most *most*."""
    return max(_LEAST, min(most, _limit() // 8))


def of_directories(vectors: int) -> tuple[int, int]:
    """Return how many directory descriptors the resolver may keep, and how many the access vectors.

    Both together have one small part. The access vectors get at most *vectors* and a quarter of that part.
    """
    both = small_part(_DIRECTORIES)
    of_vectors = min(vectors, both // 4)
    return both - of_vectors, of_vectors


def of_open_files() -> int:
    """Return how many descriptors open files may hold: half of the limit. All other uses share the rest."""
    return max(_LEAST, _limit() // 2)


def of_copies() -> int:
    """Return how many descriptors frozen copies may hold: a quarter of the limit."""
    return max(_LEAST, _limit() // 4)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
