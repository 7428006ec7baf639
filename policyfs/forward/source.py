"""Access to the files (segments) of all trails: by their paths, or by descriptors from the opener.

The opener is a separate process that may read the trail. Source is thread-safe. Its list of files is at most
0.1 s old. If several threads read the same compressed file at the same time, it is unpacked only once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final, Protocol

from policyfs.journal.files.reader import find_chains
from policyfs.journal.files.segments import Chain, is_compressed, open_segment, plain_name

_FRESH_S: Final = 0.1
_UNPACKED: Final = 2
"""The limit of compressed files of the trail that stay unpacked in memory."""

Listing = dict[str, list[str]]
"""Dictionary from the name of each hash chain to the names of its files (segments), oldest first."""


class Access(Protocol):
    """The functions that need the right to read the trail."""

    def chains(self) -> Listing:
        """Return the names of the files (segments) of each hash chain, or {} if there is no trail."""

    def open(self, mount_id: str, name: str) -> int:
        """Return a descriptor for reading the file *name* of the hash chain *mount_id*. Raises OSError."""


class DirectAccess:
    """Access to the trail by its path, with the rights of this process."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root

    def chains(self) -> Listing:
        """Return the names of the files (segments) of each hash chain, or {} if there is no trail."""
        try:
            found = find_chains(self._root)
        except FileNotFoundError:
            return {}
        listing = {}
        for chain in found:
            try:
                listing[chain.mount_id] = chain.segments()
            except FileNotFoundError:
                continue  # it was removed
        return {mount_id: names for mount_id, names in listing.items() if names}

    def open(self, mount_id: str, name: str) -> int:
        """Return a descriptor for reading the file *name* of the hash chain *mount_id*. Raises OSError."""
        return open_segment(self._chain(mount_id).directory / name)

    def _chain(self, mount_id: str) -> Chain:
        for chain in find_chains(self._root):
            if chain.mount_id == mount_id:
                return chain
        raise FileNotFoundError(mount_id)


class Source:
    """Access to the trail for all threads of the forwarder. It remembers the list of files for 0.1 s."""

    def __init__(self, access: Access) -> None:
        self._access: Final = access
        self._lock: Final = threading.Lock()
        self._listing: Listing = {}
        self._listed_s = -_FRESH_S
        self._unpacked: OrderedDict[tuple[str, str], int] = OrderedDict()

    def chains(self, *, fresh: bool = False) -> Listing:
        """Return the names of the files (segments) of each hash chain. Raises OSError. fresh: True to list
        the files now; else the result may be 0.1 s old."""
        with self._lock:
            if fresh or time.monotonic() - self._listed_s >= _FRESH_S:
                self._listing = self._access.chains()
                self._listed_s = time.monotonic()
            return self._listing

    def open(self, mount_id: str, name: str) -> int:
        """Return a descriptor for reading the file *name* of the hash chain *mount_id*. Raises OSError. The
        caller closes it. The bytes of a compressed file are unpacked."""
        with self._lock:
            if not is_compressed(name):
                return self._access.open(mount_id, name)
            key = mount_id, plain_name(name)
            if key not in self._unpacked:
                self._unpacked[key] = self._access.open(mount_id, name)
            self._unpacked.move_to_end(key)
            if len(self._unpacked) > _UNPACKED:
                os.close(self._unpacked.popitem(last=False)[1])
            return os.dup(self._unpacked[key])

    def close(self) -> None:
        """Close the unpacked copies of compressed files."""
        with self._lock:
            while self._unpacked:
                os.close(self._unpacked.popitem()[1])
