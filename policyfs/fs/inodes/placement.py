"""The place of a node in the tree: its directory, and the policy state, depth and length of its path.

A move of a directory is counted, and each node below updates its place at its next request, so a rename or a
reload costs the same for any number of nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from policyfs.fs.path_bounds import MAX_LEVELS, MAX_PATH_BYTES, PathTooLongError
from policyfs.policy.decide import PathState

_TOO_DEEP: Final = MAX_LEVELS + 1
_CUT: Final = b"..."
"""The start of a shortened path. (Every whole path begins with a slash.)"""


class Placement:
    """The data by which the nodes of a table compute their paths. child: returns the path state of a name.
    moved: the number of changes of known paths. unlike: of reloads, and of moves in the store to other rules.
    """

    __slots__ = ("child", "moved", "unlike")

    def __init__(self, child: Callable[[PathState, bytes], PathState]) -> None:
        self.child = child
        self.moved = 0
        self.unlike = 0


class PlacedNode:
    """A node that knows its place in the tree. It computes its path state again after a move above."""

    __slots__ = ("_placement", "last_state", "levels", "name", "parent", "seen", "size_bytes", "was_in")

    def __init__(self, state: PathState, placement: Placement) -> None:
        self._placement = placement
        self.last_state = state
        """The policy's state of the path at the last update (*seen*)."""
        self.levels = 0
        """The number of names in the path at the last update (*seen*)."""
        self.size_bytes = 0
        """The length of the path in bytes at the last update (*seen*)."""
        self.seen = placement.moved
        """The number of moves (Placement.moved) at the last update of last_state, levels and size_bytes."""
        self.parent: Self | None = None
        """The directory of the first name; None for the root, and for a node that has lost all names."""
        self.was_in: Self | None = None
        """If the node has no name any more: the directory that had its last name (*name*)."""
        self.name = b""
        """The node's name in *parent*, or in *was_in*."""

    @property
    def state(self) -> PathState:
        """The policy's state of the path by the first name. Raises PathTooLongError."""
        if self.out_of_reach:
            raise PathTooLongError(self.name)
        return self.last_state

    @property
    def out_of_reach(self) -> bool:
        """True if the node's path is longer than the limits: a directory above was moved to a long path."""
        if self.seen != self._placement.moved:
            self.find_out()
        return self.levels > MAX_LEVELS

    def has_room(self, name: bytes) -> bool:
        """Return True if the path of a name in this directory is within the limits."""
        return not self.out_of_reach and self.levels < MAX_LEVELS and self.has_bytes(name)

    def has_bytes(self, name: bytes) -> bool:
        return self.size_bytes + 1 + len(name) <= MAX_PATH_BYTES

    @property
    def above(self) -> Self | None:
        """The directory of the node's first name, or of the last name that it has lost; None for the root."""
        return self.was_in if self.parent is None else self.parent

    def find_out(self, *, elsewhere: bool = False) -> None:
        """Update state and length of the path, and of the directories above. elsewhere: True after a change
        of directory or name."""
        now, chain = self._placement.moved, [self]
        if elsewhere:
            self.seen = -1
        at = self.above
        while at is not None and at.seen != now and len(chain) <= MAX_LEVELS:
            chain.append(at)
            at = at.above
        if len(chain) > MAX_LEVELS:  # too deep, also without the directories further up
            self.levels, self.seen = _TOO_DEEP, now
            return
        before, as_it_was = now, False
        for node in reversed(chain):
            # The place of the node above has not changed, and both nodes had the same *seen* before. So this
            # node's place is still right.
            if as_it_was and node.seen == before:
                node.seen = now
                continue
            state, levels, size_bytes = node.last_state, node.levels, node.size_bytes
            before = node.seen
            node.place()
            as_it_was = node.last_state is state and node.levels == levels and node.size_bytes == size_bytes

    def place(self) -> None:
        """Compute state and length of the path from the directory above, which must be up to date."""
        self.seen = self._placement.moved
        above = self.above
        if above is None:
            return
        if above.levels >= MAX_LEVELS or not above.has_bytes(self.name):
            self.levels = _TOO_DEEP
            return
        self.levels = above.levels + 1
        self.size_bytes = above.size_bytes + 1 + len(self.name)
        self.last_state = self._placement.child(above.last_state, self.name)

    def path(self) -> bytes:
        """Return the path by the first or last name, for the trail; ``/`` for the root. Of a path that is too
        long, three dots and the end."""
        parts: list[bytes] = []
        size = 0
        node = self
        while (above := node.above) is not None:
            size += 1 + len(node.name)
            if len(parts) >= MAX_LEVELS or size > MAX_PATH_BYTES:
                return b"/".join([_CUT, *reversed(parts)])
            parts.append(node.name)
            node = above
        return b"/".join([b"", *reversed(parts)]) or b"/"
