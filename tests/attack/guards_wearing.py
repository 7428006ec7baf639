"""Guards against being worn out (threats E), taken out: bounds of depth, of names, of looks at the store."""

from __future__ import annotations

from typing import Any, Final

import policyfs.fs.inodes.node as hard_links_module
import policyfs.fs.inodes.placement as placement_module
import policyfs.fs.inodes.resolver as places_module
import policyfs.fs.namespace.readdir as readdir_module
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.inodes.node import HardLinks
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.pruning import Pruning
from policyfs.fs.namespace.open_directories import Listing
from policyfs.fs.namespace.readdir import DirectoryListings
from tests.attack.guards import named, put

_NO_BOUND: Final = 1 << 30


def unbounded_paths() -> None:
    """Names are made however deep the directory is."""
    put(placement_module, "MAX_LEVELS", _NO_BOUND)
    put(placement_module, "MAX_PATH_BYTES", _NO_BOUND)
    put(places_module, "MAX_LEVELS", _NO_BOUND)


def never_asked_back() -> None:
    """The kernel knows files for as long as it likes."""
    put(Pruning, "prune", lambda self, notify: False)


def level_by_level() -> None:
    """A directory is reached by one look at the store for each one above."""
    walk = Resolver._walk

    def each(self: Resolver, fd: int, chain: list[Any], seen_s: float) -> int:
        for node in chain:
            node.linked = -1
        return walk(self, fd, chain, seen_s)

    put(Resolver, "_walk", each)


def owners_anew() -> None:
    """The owner of each directory above is read for each request."""
    hidden = HidingOwners.hidden

    def anew(self: HidingOwners, *arguments: Any) -> Any:
        self.changed_all()
        return hidden(self, *arguments)

    put(HidingOwners, "hidden", anew)


def all_names() -> None:
    """Every name of a file is kept, and looked at when the file is refused."""
    put(hard_links_module, "KEPT_NAMES", _NO_BOUND)
    put(places_module, "_NAMES_TRIED", _NO_BOUND)


def names_forgotten() -> None:
    """Of names beyond those that are kept nothing is known."""
    add = HardLinks.add

    def kept_only(self: HardLinks, parent: Any, name: bytes) -> bool:
        kept = add(self, parent, name)
        self.beyond.clear()
        return kept

    put(HardLinks, "add", kept_only)


def states_stay() -> None:
    """What is below a directory keeps its state when that is moved."""
    put(NodeTable, "_count_move", lambda self: None)


def replies_cut() -> None:
    """A reply after one with nodes is short, also if no name fits into it."""
    names = DirectoryListings._names

    def cut(listing: Listing, *asked: Any) -> bytes:
        is_short = listing.looked_up
        found = names(listing, *asked)
        return b"" if is_short and len(found) > readdir_module._FEW_BYTES else found

    put(DirectoryListings, "_names", staticmethod(cut))


WEARING: Final = named(
    unbounded_paths, level_by_level, never_asked_back, owners_anew, all_names, names_forgotten,
    states_stay, replies_cut,
)  # fmt: skip
