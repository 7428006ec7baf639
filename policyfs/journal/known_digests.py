"""Known digests of files, by the file's identity: device, inode, size, mtime and ctime.

No program can set a ctime. So a file with the same identity has the same bytes, unless root has set the clock
back or has written directly to the disk. `audit index --check` reads the bytes themselves.
"""

from __future__ import annotations

import json
import os
import time
from typing import Final

from policyfs.journal.index_cache import IndexCache

_FILE: Final = "digests"
_SETTLED_NS: Final = 2_000_000_000
"""The least age of a file's ctime if its digest is to be remembered.

A later change of the file then gets another ctime, even if the file system's clock is coarse."""
_MOST: Final = 100_000


class KnownDigests:
    """The digests that one user has computed, stored in the directory of the indexes."""

    def __init__(self, cache: IndexCache) -> None:
        self._cache = cache
        self._changed = False
        try:
            found: object = json.loads(cache.read(_FILE) or b"{}")
        except ValueError:
            found = {}
        known = found.items() if isinstance(found, dict) else ()
        self._known = {name: digest for name, digest in known if isinstance(digest, str)}

    def get(self, info: os.stat_result) -> str:
        """Return the known digest of a file, or an empty text."""
        return self._known.get(_identity(info), "")

    def put(self, info: os.stat_result, digest: str) -> None:
        """Add the digest of a file. info: the file's status from before the file was read."""
        if time.time_ns() - info.st_ctime_ns > _SETTLED_NS:
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]  # the oldest: its file probably no longer exists
            self._known[_identity(info)] = digest
            self._changed = True

    def save(self) -> None:
        """Save the digests to the cache if new ones were added."""
        if self._changed:
            self._cache.save(_FILE, json.dumps(self._known).encode("ascii"))
            self._changed = False


def _identity(info: os.stat_result) -> str:
    return f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
