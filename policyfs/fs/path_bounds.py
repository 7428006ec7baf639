"""The limits of a path within a mount, in levels and bytes.

The kernel applies PATH_MAX only to the path that one call names. Calls with relative paths can go ever
deeper. Here every path is bounded, so that no decision, event or walk grows without end.
"""

from __future__ import annotations

import errno
from typing import Final

MAX_NODES: Final = 40_000
"""The default limit of files and directories that the kernel knows: 50 MiB, with names of 250 bytes."""
MAX_LEVELS: Final = 1000
"""The number of names in the longest path; the root has none."""
MAX_PATH_BYTES: Final = 16 * 1024
"""The size of the longest path in bytes, from its first slash on."""
KEPT_NAMES: Final = 128
"""The number of names of one node that are kept. Of further names only the path states are kept."""


class PathTooLongError(OSError):
    """A path is longer than MAX_LEVELS or MAX_PATH_BYTES: ENAMETOOLONG."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.ENAMETOOLONG, "deeper or longer than any path may be here", name)
