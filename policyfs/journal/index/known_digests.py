"""Known SHA-256 digests of segments, so that an unchanged file need not be read again.

Unchanged: the same device, inode, size, mtime and ctime, which no program can set (but root can set the clock
back, or write to the disk). Without the directory of the indexes, a command reads all bytes again.
"""

from __future__ import annotations

import json
import os
import time
from typing import Final

from policyfs.journal.index.cache import IndexCache

_FILE: Final = "digests"
_SETTLED_NS: Final = 2_000_000_000
"""The least age (ns) of a file's last change, so that a later one gets another ctime, even where it has whole
seconds."""
_MOST: Final = 100_000


class KnownDigests:
    """The digests of segments that one user has computed, beside the user's indexes."""

    def __init__(self, cache: IndexCache) -> None:
        self._cache = cache
        self._changed = False
        try:
            found: object = json.loads(cache.read(_FILE) or b"{}")
        except (ValueError, RecursionError):
            found = {}
        known = found.items() if isinstance(found, dict) else ()
        self._known = {name: digest for name, digest in known if isinstance(digest, str)}

    def get(self, info: os.stat_result) -> str:
        """Return the known SHA-256 of a file, or an empty string. info: the file's present status."""
        return self._known.get(_identity(info), "")

    def put(self, info: os.stat_result, digest: str) -> None:
        """Remember the SHA-256 of a file. info: the file's status before the file was read."""
        if time.time_ns() - info.st_ctime_ns > _SETTLED_NS:
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]  # the oldest: its file probably no longer exists
            self._known[_identity(info)] = digest
            self._changed = True

    def save(self) -> None:
        """Store the digests beside the indexes, if put() has added new digests."""
        if self._changed:
            self._cache.save(_FILE, json.dumps(self._known).encode("ascii"))
            self._changed = False


def _identity(info: os.stat_result) -> str:
    return f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
