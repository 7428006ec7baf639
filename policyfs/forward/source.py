"""Access to the segments below a trail root: by their paths, or by descriptors that an opener hands over.

Source is thread-safe. A listing is at most 0.1 s old. A compressed segment that several sinks read at the
same time is unpacked once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final, Protocol

from policyfs.journal.checkpoint import checkpoint_of_chain
from policyfs.journal.keys import KeyStore
from policyfs.journal.reader import Chain, find_chains
from policyfs.journal.segments import is_compressed, open_segment, plain_name

_FRESH_S: Final = 0.1
_UNPACKED: Final = 2
"""The limit of compressed segments that are kept unpacked in memory."""

Listing = dict[str, list[str]]
"""The names of the segments of each chain, by mount id, in the order of the chain."""


class Access(Protocol):
    """The calls that need the right to read the trail or its keys."""

    def chains(self) -> Listing:
        """Return the segments of each chain, or an empty listing if there is no trail."""

    def open(self, mount_id: str, name: str) -> int:
        """Open a segment to read. Raises OSError."""

    def sizes(self, mount_id: str) -> dict[str, int]:
        """Return the size on disk, in bytes, of each segment of a chain."""

    def checkpoints(self) -> list[bytes]:
        """Return the signed end of each intact chain. Raises OSError if the key cannot be used."""


class DirectAccess:
    """Access by paths, with this process's own rights."""

    def __init__(self, root: Path, keys: KeyStore) -> None:
        self._root: Final = root
        self._keys: Final = keys

    def chains(self) -> Listing:
        """Return the segments of each chain, or an empty listing if there is no trail."""
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
        """Open a segment to read. Raises OSError."""
        return open_segment(self._chain(mount_id).directory / name)

    def sizes(self, mount_id: str) -> dict[str, int]:
        """Return the size on disk, in bytes, of each segment of a chain."""
        chain = self._chain(mount_id)
        sizes = {}
        for name in chain.segments():
            try:
                sizes[name] = (chain.directory / name).stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # it was compressed, or removed
        return sizes

    def checkpoints(self) -> list[bytes]:
        """Return the signed end of each intact chain. Raises OSError if the key cannot be used."""
        signer = self._keys.signer()
        lines = (checkpoint_of_chain(chain, signer) for chain in find_chains(self._root))
        return [line for line in lines if line is not None]

    def _chain(self, mount_id: str) -> Chain:
        for chain in find_chains(self._root):
            if chain.mount_id == mount_id:
                return chain
        raise FileNotFoundError(mount_id)


class Source:
    """A reader of chains for all sinks, through one access, with a cached listing."""

    def __init__(self, access: Access) -> None:
        self._access: Final = access
        self._lock: Final = threading.Lock()
        self._listing: Listing = {}
        self._listed_s = -_FRESH_S
        self._unpacked: OrderedDict[tuple[str, str], int] = OrderedDict()

    def chains(self, *, fresh: bool = False) -> Listing:
        """Return the segments of each chain. fresh: do not use the cached listing. Raises OSError."""
        with self._lock:
            if fresh or time.monotonic() - self._listed_s >= _FRESH_S:
                self._listing = self._access.chains()
                self._listed_s = time.monotonic()
            return self._listing

    def open(self, mount_id: str, name: str) -> int:
        """Open a segment to read; the caller closes it. Raises OSError."""
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

    def sizes(self, mount_id: str) -> dict[str, int]:
        """Return the size on disk, in bytes, of each segment of a chain. Raises OSError."""
        with self._lock:
            return self._access.sizes(mount_id)

    def checkpoints(self) -> list[bytes]:
        """Return the signed end of each intact chain. Raises OSError."""
        with self._lock:
            return self._access.checkpoints()

    def close(self) -> None:
        """Close the descriptors of unpacked segments."""
        with self._lock:
            while self._unpacked:
                os.close(self._unpacked.popitem()[1])
