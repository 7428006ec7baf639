"""Nodes: the objects that the kernel knows by number, with all names by which each was reached. A node takes
a few hundred bytes and no descriptor: its file is found through the parent directory."""

from __future__ import annotations

import enum
import errno
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import FileType, Lane, View
from policyfs.fs.inodes.placement import PlacedNode, Placement
from policyfs.fs.path_bounds import KEPT_NAMES, MAX_LEVELS, PathTooLongError
from policyfs.policy.decide import PathState
from policyfs.store.names.aside_names import is_reserved

if TYPE_CHECKING:
    from policyfs.fs.inodes.open_state import OpenState
    from policyfs.store.frozen import Version

ROOT_ID: Final = 1
_UNKNOWN: Final = -1  # no hash is -1
_NEVER: Final = -math.inf  # one object for all nodes: otherwise each node would have a float of 32 bytes


_LOOKED_AT: Final = 8
"""The number of names among which pop() looks for one with a path that is not too long."""


class StaleNodeError(OSError):
    """The error (ESTALE) for a request to the wrong node: the kernel must look the name up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "look the name up again")


class BytePath(enum.Enum):
    """The way of a node's bytes to an app (opening/byte_paths.py). It never changes."""

    RAW = "raw"
    """The store's bytes: in passthrough, or mediated if passthrough is not possible."""
    LIVE = "live"
    """The store's file, mediated: nothing is hidden from the app now, or writes are checked."""
    COPY = "copy"
    """A frozen copy with its hidden parts made neutral: in passthrough, or mediated as for RAW."""
    LEASED = "leased"
    """A file too large to copy: mediated under a read lease, and patched while it is read."""

    @property
    def finds_kind(self) -> bool:
        """True if the kind is found in exactly the bytes that the app reads. The node is then read-only."""
        return self is BytePath.COPY or self is BytePath.LEASED


class CachedPages(NamedTuple):
    """The bytes of a file of which the kernel may have pages in its cache."""

    version: Version
    """The version of the file."""
    copy: int
    """The number of the copy that was shown (Copy.serial); 0 if no copy was shown."""


class Name(NamedTuple):
    """One name of a node: the directory, the name in it, and the policy's state for that path."""

    parent: Node
    name: bytes
    state: PathState


class HardLinks:
    """A node's names after the first, with their path states. A request by number is decided by the states,
    so very many names cost no more than a few: KEPT_NAMES are kept, the first included, of each further one
    only the state (*beyond*). A lost name only makes a decision stricter."""

    __slots__ = ("_counted", "_names", "_placement", "_seen", "_unlike", "beyond")

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._names: dict[tuple[int, bytes], Node] = {}
        self._counted: dict[PathState, int] = {}
        self._seen = placement.moved
        self._unlike = placement.unlike
        self.beyond: set[PathState] = set()

    def __len__(self) -> int:
        """Return the number of the node's names that are kept here, without the first one."""
        return len(self._names)

    def __iter__(self) -> Iterator[tuple[Node, bytes]]:
        """Yield directory and name of each kept name, first what was added or checked longest ago."""
        return iter([(parent, name) for (_, name), parent in self._names.items()])

    def has(self, parent: Node, name: bytes) -> bool:
        """Return True if this name of the node is kept."""
        return (parent.nodeid, name) in self._names

    @property
    def lost(self) -> bool:
        """True if the states in *beyond* may be wrong, because paths or the policy have changed."""
        return bool(self.beyond) and self._unlike != self._placement.unlike

    def add(self, parent: Node, name: bytes) -> bool:
        """Add a name. Return False if only the state of its path is kept (not if the path is too long)."""
        if len(self._names) < KEPT_NAMES - 1:
            self._names[parent.nodeid, name] = parent
            if self._seen == self._placement.moved and not parent.out_of_reach:
                self._count(self._state(parent, name))
            return True
        if not parent.out_of_reach:
            if not self.beyond:
                self._unlike = self._placement.unlike
            self.beyond.add(self._state(parent, name))
        return False

    def drop(self, parent: Node, name: bytes) -> bool:
        """Remove a name. Return False if the name is not kept."""
        if self._names.pop((parent.nodeid, name), None) is None:
            return False
        if self._seen == self._placement.moved and not parent.out_of_reach:
            state = self._state(parent, name)
            self._counted[state] -= 1
            if not self._counted[state]:
                del self._counted[state]
        return True

    def pop(self) -> tuple[Node, bytes] | None:
        """Remove and return one of the _LOOKED_AT oldest names, if possible with a path that is not too long;
        None if there is no name."""
        if not self._names:
            return None
        looked_at = list(itertools.islice(self, _LOOKED_AT))
        found = next((one for one in looked_at if not one[0].out_of_reach), looked_at[0])
        self.drop(*found)
        return found

    def turn(self, parent: Node, name: bytes) -> None:
        """Move a name to the end of the order in which names are checked, because it was just checked."""
        self._names[parent.nodeid, name] = self._names.pop((parent.nodeid, name))

    def states(self) -> Iterator[PathState]:
        """Yield the distinct path states of all names, without names whose path is too long."""
        if self._seen != self._placement.moved:
            self._seen = self._placement.moved
            self._counted.clear()
            for parent, name in self:
                if not parent.out_of_reach:
                    self._count(self._state(parent, name))
        yield from self._counted
        yield from self.beyond

    def _state(self, parent: Node, name: bytes) -> PathState:
        return self._placement.child(parent.state, name)

    def _count(self, state: PathState) -> None:
        self._counted[state] = self._counted.get(state, 0) + 1


class Node(PlacedNode):
    """A node: one inode, or one view of a file, as the kernel knows it."""

    __slots__ = (
        "_told", "asked", "btime_ns", "byte_path", "cached", "changes", "children", "ftype", "ino", "kept",
        "linked", "links", "listed", "lookups", "mediated", "named_s", "next", "nodeid", "open", "reached",
        "view", "whose",
    )  # fmt: skip

    def __init__(
        self,
        nodeid: int,
        ino: int,
        btime_ns: int,
        ftype: FileType,
        view: View,
        byte_path: BytePath,
        state: PathState,
        placement: Placement,
    ) -> None:
        super().__init__(state, placement)
        self.nodeid = nodeid
        """The number by which the kernel knows the node. No other node ever gets this number."""
        self.ino = ino
        """Key of the backing inode (NodeTable.key_of)."""
        self.btime_ns = btime_ns
        """Birth time of the backing inode. A new inode with the same number has another birth time."""
        self.ftype = ftype
        self.view = view
        """The obligations that apply to the bytes of this node."""
        self.byte_path = byte_path
        """The byte path. It never changes. An open by another byte path needs another node."""
        self.links: HardLinks | None = None
        """The node's names besides the first, if there are any."""
        self.lookups = 0
        """The number of references that the kernel has (FUSE lookup count)."""
        self.kept = False
        """True if the kernel may have kept one of the node's names since the policy in force began."""
        self.children = 0
        """The number of kept names in this directory, and of lost names still part of a node's path."""
        self.next: Node | None = None
        """The next node of the same backing inode."""
        self.open: OpenState | None = None
        """The state that the node's open handles share; None while the node is not open."""
        self.mediated = False
        """True for ever after a mediated open: the kernel's pages may outlive it, and passthrough then fails
        (EIO)."""
        self.cached: CachedPages | None = None
        """The bytes of which the kernel may have pages in its cache, or None if they are not known."""
        self._told: int | None = None
        """Hash of the version that the kernel knows; None before the first reply, _UNKNOWN if the bridge
        answers."""
        self.whose: Lane = None
        """The only lane that may use the node (access/views.py), or None."""
        self.listed: tuple[int, Version | None] | None = None
        """For the listing that the kernel may keep: NodeTable.unlike and, without a watch, the directory's
        version."""
        self.changes = 0
        """For a directory: the number of times that the kernel had to forget its listing."""
        self.named_s = _NEVER
        """For a directory: the time (time.monotonic()) at which the kernel last got its name in a reply."""
        self.reached = False
        """True for a directory for which the daemon has had a descriptor at least once."""
        self.asked = 0
        """Bits of the sorts of requests that were allowed at least once (kernel_cache/repeats.py)."""
        self.linked = -1
        """For a directory: Resolver's count of losses when its name was last checked; -1: check again."""

    def tell(self, version: Version) -> None:
        """Note that the daemon sends the attributes of this version to the kernel."""
        if self._told != _UNKNOWN:
            self._told = hash(version)

    def told_by_bridge(self) -> None:
        """Note that the daemon no longer knows which attributes the kernel got last: the bridge can send
        others while a reply is under way."""
        self._told = _UNKNOWN

    def was_told(self, version: Version) -> bool:
        """Return True if the attributes that the kernel got last were of this version."""
        return self._told == hash(version)

    def was_told_another(self, version: Version) -> bool:
        """Return True if the kernel has attributes, and they are of another or an unknown version."""
        return self.is_told and not self.was_told(version)

    @property
    def is_told(self) -> bool:
        """True if the kernel has got attributes of the node."""
        return self._told is not None

    @property
    def is_idle(self) -> bool:
        """True if the kernel knows the node, not the root, and nobody has it open. (It may be worked in.)"""
        return self.lookups > 0 and self.open is None and self.nodeid != ROOT_ID

    # -- its names --------------------------------------------------------------------------

    def all_names(self) -> Iterator[tuple[Node, bytes]]:
        """Yield directory and name of every kept name, also of names whose path is too long."""
        if self.parent is not None:
            yield self.parent, self.name
        if self.links is not None:
            yield from self.links

    def names(self) -> Iterator[Name]:
        """Yield every kept name whose path is not too long. The first name comes first."""
        for parent, name in self.all_names():
            if not parent.out_of_reach and parent.has_room(name):
                yield Name(parent, name, self._placement.child(parent.state, name))

    def states(self) -> tuple[PathState, ...]:
        """Return the distinct path states of all names: a request by number must be allowed for each. Raise
        StaleNodeError if names that are not kept may have others, PathTooLongError if all paths are too long.
        """
        if self.links is None:
            return (self.state,)
        if self.links.lost:
            raise StaleNodeError
        first = () if self.out_of_reach else (self.last_state,)
        found = tuple(dict.fromkeys((*first, *self.links.states())))
        if not found:
            raise PathTooLongError(self.name)
        return found

    def is_all(self, state: PathState) -> bool:
        """Return True if it is certain that all names of the node have this state."""
        links = self.links
        if links is not None and (links.lost or any(one is not state for one in links.states())):
            return False
        return not self.out_of_reach and self.last_state is state

    def directories(self, state: PathState) -> list[Node]:
        """Return the directories in which the node has a name of this state; without a name, that of its last
        one, or the next above with a name. Raise StaleNodeError if a name that is not kept may have this
        state."""
        if self.links is None:
            above = self.above
            for _ in range(MAX_LEVELS):
                if above is None or above.parent is not None or above.was_in is None:
                    break
                above = above.was_in
            return [] if above is None else [above]
        if state in self.links.beyond:
            raise StaleNodeError
        return list(dict.fromkeys(name.parent for name in self.names() if name.state is state))

    @property
    def is_beyond(self) -> bool:
        """True if the node may have names that are not kept."""
        return self.links is not None and bool(self.links.beyond)

    def is_named(self, parent: Node, name: bytes) -> bool:
        """Return True if the node has this name, or may have it, because not all of its names are kept."""
        if self.parent is parent and self.name == name:
            return True
        return self.links is not None and (self.is_beyond or self.links.has(parent, name))


def child_path(parent: Node, name: bytes) -> bytes:
    """Return the path within the mount of a name in a directory, for the trail."""
    return parent.path().rstrip(b"/") + b"/" + name


NamesForgotten = Callable[[Node], None]
"""Function that makes the kernel look up a node's names again, after the daemon has changed the answers."""


def check_room(parent: Node, name: bytes) -> None:
    """Raise PathTooLongError for a name whose path would be too long, OSError (EACCES) for policyfs's own
    (is_reserved())."""
    if is_reserved(name):
        raise OSError(errno.EACCES, "policyfs keeps such names for itself", name)
    if not parent.has_room(name):
        raise PathTooLongError(name)
