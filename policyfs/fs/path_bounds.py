"""The longest path: how many levels deep and how many bytes long one may be within a mount.

The kernel bounds a path by PATH_MAX only where one call names all of it; relative calls go on below
that for ever. Here every path is bounded, so that no decision, event or walk grows without end.
"""

from __future__ import annotations

import errno
from typing import Final

MAX_NODES: Final = 40_000
"""Files and directories that the kernel may know, unless said otherwise: 50 MiB, with names of 250 bytes."""
MAX_LEVELS: Final = 1000
"""Names in the longest path; the root has none."""
MAX_PATH_BYTES: Final = 16 * 1024
"""Bytes of the longest path, from its first slash on."""
KEPT_NAMES: Final = 128
"""Names of one node that are known one by one; of those beyond, only the path states are."""


class PathTooLongError(OSError):
    """A path is longer than MAX_LEVELS or MAX_PATH_BYTES: ENAMETOOLONG."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.ENAMETOOLONG, "deeper or longer than any path may be here", name)
