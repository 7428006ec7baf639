"""Access to the files (segments) of all trails: by their paths, or by descriptors from the opener, a separate
process that may read the trail."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from policyfs.journal.files.reader import find_chains
from policyfs.journal.files.segments import Chain, open_segment

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
