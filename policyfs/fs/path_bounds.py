"""The limits of a path within a mount, in levels and bytes. PATH_MAX is only for one system call: by relative
paths an app can go deeper without end, and no decision, event or walk may grow so."""

from __future__ import annotations

import errno
from typing import Final

MAX_NODES: Final = 40_000
"""The least default of the limit of files and directories that the kernel knows: 30 to 50 MiB."""
_MOST_NODES: Final = 500_000
_NODE_BYTES: Final = 1024
"""The memory for a node, with its record for the next daemon (tests/bench: 650 to 850 bytes)."""
_PART: Final = 50
"""The part of the memory that nodes may have by default."""
MAX_LEVELS: Final = 1000
"""The limit of names in a path. The path of the root has no names."""
MAX_PATH_BYTES: Final = 16 * 1024
"""The limit of a path's size in bytes, with its first slash."""
KEPT_NAMES: Final = 128
"""The limit of names kept for one node. Of each further name only the path state is kept."""


def default_nodes(memory_bytes: int, mounts: int) -> int:
    """Return the default of the limit for each of so many mounts of a site, on a machine with so much memory.
    """
    return max(MAX_NODES, min(_MOST_NODES, memory_bytes // _PART // _NODE_BYTES // max(1, mounts)))


class PathTooLongError(OSError):
    """The error (ENAMETOOLONG) for a path with more than MAX_LEVELS names or MAX_PATH_BYTES bytes."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.ENAMETOOLONG, "the path has more names or bytes than policyfs allows", name)
