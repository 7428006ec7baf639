"""The limits of a path within a mount, in levels and bytes. PATH_MAX is only for one system call: by relative
paths an app can go deeper without end, and no decision, event or walk may grow so."""

from __future__ import annotations

import errno
from typing import Final

MAX_NODES: Final = 40_000
"""The default limit of files and directories that the kernel knows: about 50 MiB if names have 250 bytes."""
MAX_LEVELS: Final = 1000
"""The limit of names in a path. The path of the root has no names."""
MAX_PATH_BYTES: Final = 16 * 1024
"""The limit of a path's size in bytes, with its first slash."""
KEPT_NAMES: Final = 128
"""The limit of names kept for one node. Of each further name only the path state is kept."""


class PathTooLongError(OSError):
    """The error (ENAMETOOLONG) for a path with more than MAX_LEVELS names or MAX_PATH_BYTES bytes."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.ENAMETOOLONG, "the path has more names or bytes than policyfs allows", name)
