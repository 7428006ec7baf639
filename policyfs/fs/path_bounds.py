"""The limits of a path within a mount, in levels and bytes.

The kernel applies PATH_MAX only to the path in one system call. With relative paths, one call after another
can go deeper without end. Here every path has a limit, so that no decision, event or walk grows without end.
"""

from __future__ import annotations

import errno
from typing import Final

MAX_NODES: Final = 40_000
"""The default limit of files and directories that the kernel knows: about 50 MiB if names have 250 bytes."""
MAX_LEVELS: Final = 1000
"""The number of names in the longest path; the root has none."""
MAX_PATH_BYTES: Final = 16 * 1024
"""The size of the longest path in bytes, with its first slash."""
KEPT_NAMES: Final = 128
"""The limit of names kept for one node. If a node has more names, only their path states are kept."""


class PathTooLongError(OSError):
    """The path has more than MAX_LEVELS names or MAX_PATH_BYTES bytes: ENAMETOOLONG."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.ENAMETOOLONG, "deeper or longer than any path may be here", name)
