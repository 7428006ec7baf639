"""The daemon's descriptors, shared out between their uses by the process's limit."""

from __future__ import annotations

import resource
from typing import Final

_LEAST: Final = 16
_DIRECTORIES: Final = 1024


def small_part(most: int) -> int:
    """Return the descriptors that one purpose may keep: an eighth of the limit, *most* at most."""
    return max(_LEAST, min(most, _limit() // 8))


def of_directories(vectors: int) -> tuple[int, int]:
    """Return the descriptors that the resolver, and the access vectors, may keep of directories.

    Both together have a small part. *vectors*, and a quarter of it, is the most for the vectors.
    """
    both = small_part(_DIRECTORIES)
    of_vectors = min(vectors, both // 4)
    return both - of_vectors, of_vectors


def of_open_files() -> int:
    """Return the descriptors that open files may hold: half of the limit, the rest is for all else."""
    return max(_LEAST, _limit() // 2)


def of_copies() -> int:
    """Return the descriptors that frozen copies may hold: a quarter of the limit."""
    return max(_LEAST, _limit() // 4)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
