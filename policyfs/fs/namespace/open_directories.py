"""The table of a mount's open directories. The table also limits the names that one app's listings keep."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.opening.bridge_handles import BridgeHandles
from policyfs.fs.saved.saved_handle import SavedHandle
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel import vectors
from policyfs.kernel.bridge import DirectoryEntries

_LISTED: Final = 2_000_000
"""The limit of names in all open listings. One app alone can have half. A 16-byte name takes 48 bytes."""
_LISTING_COSTS: Final = 8
"""The weight of an open directory in its app's share, in names, beside the names of its snapshot."""
_MAX_INDEX: Final = 0xFFFFFF


@dataclass(slots=True)
class Listing:
    """One open directory, with a snapshot of its names from the first READDIR or the last rewind.

    entries: what the caller may see by the policy of *generation*, by position. INVARIANT: a name's position
    depends only on the name (docs/decisions/0050-positions-are-names.md). kept: True if the kernel may keep
    the names, and show them to other callers."""

    index: int
    node: Node
    caller: Caller
    holder: Holder
    kept: bool
    entries: DirectoryEntries | None = None
    charged: int = 0
    """The number of names that count in the app's share, also while the snapshot is being taken."""
    changes: int = 0
    """The sum of Node.changes and NodeTable.unlike at the beginning of the snapshot."""
    generation: int = 0
    is_new: bool = False
    """True if OPENDIR has taken the snapshot, and no READDIR has used it yet."""
    is_whole: bool = True
    """False if a name was not decided in time. Then the listing ends with EIO."""
    looked_up: bool = False
    """True if the last request was for nodes beyond the beginning: the kernel looks the names up."""
    is_raw: bool = False
    """True if the bridge answers for files in the directory (opening/raw_directories.py)."""


class OpenDirectories:
    """The table that finds the open directories of one mount by the number that the kernel sends back.
    INVARIANT: all parts use it, and it first takes over the bridge's (opening/bridge_handles.py)."""

    def __init__(self, bridge_handles: BridgeHandles) -> None:
        self._bridge_handles = bridge_handles
        self._listings: dict[int, Listing] = {}
        self._last_index = 0
        self.follows = False
        """True if this daemon has taken over from another one, so that the kernel may send lost numbers."""
        self.saved: SavedState | None = None
        """The state in which each open directory is saved for the next daemon; None if there will be none."""
        self.shares = Shares(_LISTED, "listed names")
        bridge_handles.directories = self

    def __len__(self) -> int:
        return len(self._listings)

    @property
    def has_plenty(self) -> bool:
        """True if at most a quarter of the limit of names is in use: every app's share has room for all that
        the bridge can open (kernel/answers/_opens.c). INVARIANT: it opens directories only then: it does
        not know the shares."""
        return self.shares.used <= self.shares.limit // 4

    def _keep_plenty(self) -> None:
        if not self.has_plenty:
            self._bridge_handles.end_directories()

    def add(self, node: Node, caller: Caller, *, kept: bool) -> Listing:
        """Add a directory that an app opens, after shares.check(). kept: see Listing."""
        index = self._last_index % _MAX_INDEX + 1
        while index in self._listings:
            index = index % _MAX_INDEX + 1
        self._last_index = index
        self._put(index, node, caller, kept=kept)
        self._keep_plenty()
        return self._listings[index]

    def adopt(self, fh: int, node: Node, caller: Caller) -> None:
        """Add a directory that the bridge has opened, with the number that the kernel knows."""
        self._put(vectors.number_of(fh), node, caller, kept=True)

    def _put(self, index: int, node: Node, caller: Caller, *, kept: bool) -> None:
        self._listings[index] = Listing(index, node, caller, caller.holder, kept)
        self.shares.take(caller.holder, _LISTING_COSTS)
        if self.saved is not None:
            self.saved.listing(index, node, caller, kept=kept)

    def restore(self, saved: SavedHandle, node: Node, caller: Caller) -> None:
        """Add an open directory of the daemon before, without a snapshot."""
        self._put(saved.fh, node, caller, kept=saved.kept)
        self._last_index = max(self._last_index, saved.fh % _MAX_INDEX)

    def find(self, fh: int) -> Listing:
        """Return the open directory with the number that the kernel sent. Raise KeyError if there is none,
        OSError (EIO) if a take-over has lost it."""
        if self.is_lost(fh):
            raise OSError(errno.EIO, "the daemon that opened the directory was killed")
        return self._listings[vectors.number_of(fh)]

    def is_lost(self, fh: int) -> bool:
        """Return True for an open directory that a take-over has lost."""
        index = vectors.number_of(fh)
        if index not in self._listings:
            self._bridge_handles.take(fh)
        return self.follows and index not in self._listings

    def remove(self, listing: Listing) -> None:
        """Remove an open directory and its weight. (take() removes its names.)"""
        del self._listings[listing.index]
        if self.saved is not None:
            self.saved.unlisted(listing.index)
        self.shares.give(listing.holder, _LISTING_COSTS)

    def charge(self, listing: Listing, names: int) -> None:
        """Count the names of a snapshot in the app's share until take(). Raise OSError (EMFILE) if its other
        listings have more names than are free, and than an eighth of the limit: one long listing may exceed
        it, but not many."""
        shares = self.shares
        shares.take(listing.holder, names - listing.charged)
        listing.charged = names
        if shares.held(listing.holder) - names > max(shares.limit - shares.used, shares.limit // 8):
            shares.check(listing.holder)
        self._keep_plenty()

    def keep(self, listing: Listing, entries: DirectoryEntries) -> None:
        """Store the snapshot of a directory's names. Raise OSError as charge() does."""
        self.charge(listing, len(entries))
        listing.entries = entries

    def take(self, listing: Listing) -> DirectoryEntries | None:
        """Remove and return an open directory's snapshot, or None, and its names from the app's share."""
        entries, listing.entries = listing.entries, None
        self.shares.give(listing.holder, listing.charged)
        listing.charged = 0
        return entries
