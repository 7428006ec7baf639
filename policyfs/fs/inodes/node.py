"""Nodes: inodes as the kernel knows them by number, and every name each was reached by.

A node costs a few hundred bytes and no descriptor: it is found again through its parent.
"""

from __future__ import annotations

import enum
import errno
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import FileType, View
from policyfs.fs.inodes.hard_links import HardLinks
from policyfs.fs.inodes.placement import PlacedNode, Placement
from policyfs.fs.path_bounds import PathTooLongError
from policyfs.policy.decide import PathState

if TYPE_CHECKING:
    from policyfs.fs.inodes.handles import OpenState
    from policyfs.store.frozen import Version

ROOT_ID: Final = 1
_NEVER: Final = -math.inf  # one object: a float of each node's own would be 32 bytes of each file's


class StaleNodeError(OSError):
    """The node is not the one for this open: the kernel is to look the name up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "look the name up again")


class BytePath(enum.Enum):
    """How an app gets the bytes of a node (opening/byte_paths.py); part of its identity, never changed."""

    RAW = "raw"
    """The store's bytes: in passthrough, or mediated where the kernel refuses."""
    LIVE = "live"
    """The file itself, mediated: an app's own under redaction, checked writes."""
    COPY = "copy"
    """A frozen copy with hidden parts neutral, in passthrough."""
    LEASED = "leased"
    """The file, patched while it is read, mediated under a read lease: too large to copy."""

    @property
    def finds_kind(self) -> bool:
        """Whether the kind is found in the very bytes that are shown. Such nodes are for reading only."""
        return self is BytePath.COPY or self is BytePath.LEASED


class Name(NamedTuple):
    """One name of a node: the directory, the name in it, and the policy's state for that path."""

    parent: Node
    name: bytes
    state: PathState


class Node(PlacedNode):
    """One inode as the kernel knows it."""

    __slots__ = (
        "_told", "btime_ns", "byte_path", "cached", "children", "ftype", "ino", "linked", "links", "lookups",
        "mediated", "named_s", "next", "nodeid", "open", "reached", "view", "whose",
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
        """The number that the kernel knows it by; never used twice."""
        self.ino = ino
        """Key of the backing inode (NodeTable.key_of)."""
        self.btime_ns = btime_ns
        """Birth time of the backing inode: a number that is used again has another."""
        self.ftype = ftype
        self.view = view
        """The obligations under which its bytes are shown."""
        self.byte_path = byte_path
        """The way of its bytes; part of its identity."""
        self.links: HardLinks | None = None
        """Names besides the first, if there are any."""
        self.lookups = 0
        """The kernel's references (FUSE lookup count)."""
        self.children = 0
        """Nodes that name this one as parent, or had their last name in it."""
        self.next: Node | None = None
        """The next node of the same backing inode."""
        self.open: OpenState | None = None
        """What its open handles share; None while it is not open."""
        self.mediated = False
        """Once served through the daemon, always: pages and mappings in the kernel may outlive the last
        close, and passthrough beside them is EIO."""
        self.cached: Version | None = None
        """The version whose pages the kernel may hold."""
        self._told: int | None = None
        """Hash of the version whose attributes the kernel was told last (a version would be 150 bytes)."""
        self.whose: str | int | None = None
        """The principal that alone may use the node (access/views.py), or None."""
        self.named_s = _NEVER
        """When the kernel was last told that a directory has its name, of time.monotonic()."""
        self.reached = False
        """True for a directory that had a descriptor once."""
        self.linked = -1
        """As of which loss of events the step from the directory above led to it (Resolver)."""

    def tell(self, version: Version) -> None:
        """The kernel is being told the attributes of this version."""
        self._told = hash(version)

    def was_told(self, version: Version) -> bool:
        """Whether the kernel was told this version's attributes last."""
        return self._told == hash(version)

    def was_told_another(self, version: Version) -> bool:
        """Whether the kernel was told attributes at all, and another version's last."""
        return self._told is not None and not self.was_told(version)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has it open, as far as is known here; the kernel knows who else uses it."""
        return self.lookups > 0 and self.open is None and self.nodeid != ROOT_ID

    # -- its names --------------------------------------------------------------------------

    def all_names(self) -> Iterator[tuple[Node, bytes]]:
        """Every name that is kept, the first first, in reach or not: directory and name."""
        if self.parent is not None:
            yield self.parent, self.name
        if self.links is not None:
            yield from self.links

    def names(self) -> Iterator[Name]:
        """Every name that is kept and in reach, the first first."""
        for parent, name in self.all_names():
            if not parent.out_of_reach and parent.has_room(name):
                yield Name(parent, name, self._placement.child(parent.state, name))

    def states(self) -> tuple[PathState, ...]:
        """The distinct states of all its names; what arrives by number must satisfy each.

        Raises StaleNodeError if what became of names that are not kept cannot be said any more,
        PathTooLongError if none is in reach.
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
        """True if every name it has is of this state, as far as can be said."""
        links = self.links
        if links is not None and (links.lost or any(one is not state for one in links.states())):
            return False
        return not self.out_of_reach and self.last_state is state

    def directories(self, state: PathState) -> list[Node]:
        """The directories in which it has a name of this state.

        Raises StaleNodeError if it may have one that is not kept.
        """
        if self.links is None:
            return [] if self.parent is None else [self.parent]
        if state in self.links.beyond:
            raise StaleNodeError
        return list(dict.fromkeys(name.parent for name in self.names() if name.state is state))

    @property
    def is_beyond(self) -> bool:
        """True if it may have names that are not kept."""
        return self.links is not None and bool(self.links.beyond)

    def is_named(self, parent: Node, name: bytes) -> bool:
        """True if it has a name, or may have it since not all are kept."""
        if self.parent is parent and self.name == name:
            return True
        return self.links is not None and (self.is_beyond or self.links.has(parent, name))


NamesForgotten = Callable[[Node], None]
"""Told a node whose names the kernel must ask for again: we changed what they answer."""


SizeForgotten = Callable[[int], Awaitable[None]]
"""Makes the kernel ask for a node's attributes again; returns when it will."""
