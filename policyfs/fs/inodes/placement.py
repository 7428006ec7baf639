"""Where a node is: the directory above, the state of its path for the policy, its depth and length.

A move of a directory touches nothing below it: it is counted, and each node below finds out when it is
next asked for. So a rename costs the same whatever is below, and so does a reload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from policyfs.fs.path_bounds import MAX_LEVELS, MAX_PATH_BYTES, PathTooLongError
from policyfs.policy.decide import PathState

_TOO_DEEP: Final = MAX_LEVELS + 1
_CUT: Final = b"..."
"""In the place of what is above, in a path too long to be told whole. (A whole one begins with a slash.)"""


class Placement:
    """What all nodes of a table go by to know where they are.

    child: the policy's step from a directory's state to that of a name in it. moved: counts what changes
    the path of nodes that are known. unlike: counts what may have changed the decisions on a path that
    is known no more (a reload; a directory that was moved in the store).
    """

    __slots__ = ("child", "moved", "unlike")

    def __init__(self, child: Callable[[PathState, bytes], PathState]) -> None:
        self.child = child
        self.moved = 0
        self.unlike = 0


class PlacedNode:
    """One node of a tree in which directories are moved."""

    __slots__ = ("_placement", "last_state", "levels", "name", "parent", "seen", "size_bytes", "was_in")

    def __init__(self, state: PathState, placement: Placement) -> None:
        self._placement = placement
        self.last_state = state
        """The policy's state for the path, as of *seen*."""
        self.levels = 0
        """Names in the path, as of *seen*."""
        self.size_bytes = 0
        """Bytes of the path, as of *seen*."""
        self.seen = placement.moved
        """The count of Placement.moved that these three are of."""
        self.parent: Self | None = None
        """The directory that it is in; None: in none by now."""
        self.was_in: Self | None = None
        """The directory of its last name (as *name*), of one that has none."""
        self.name = b""
        """Its name in that directory."""

    @property
    def state(self) -> PathState:
        """The policy's state for the path by its first name. PathTooLongError if it is out of reach."""
        if self.out_of_reach:
            raise PathTooLongError(self.name)
        return self.last_state

    @property
    def out_of_reach(self) -> bool:
        """True if its path is longer than any may be: a directory above was moved there."""
        if self.seen != self._placement.moved:
            self.find_out()
        return self.levels > MAX_LEVELS

    def has_room(self, name: bytes) -> bool:
        """True if a name in this directory is not beyond what a path may be."""
        return not self.out_of_reach and self.levels < MAX_LEVELS and self.has_bytes(name)

    def has_bytes(self, name: bytes) -> bool:
        return self.size_bytes + 1 + len(name) <= MAX_PATH_BYTES

    @property
    def above(self) -> Self | None:
        """The directory that it is in, or had its last name in. None for the root."""
        return self.was_in if self.parent is None else self.parent

    def find_out(self, *, elsewhere: bool = False) -> None:
        """Bring state and length of the path up to date, with those of the directories above.

        elsewhere: it is in another directory, or has another name, than when that was done last.
        """
        now, chain = self._placement.moved, [self]
        if elsewhere:
            self.seen = -1
        at = self.above
        while at is not None and at.seen != now and len(chain) <= MAX_LEVELS:
            chain.append(at)
            at = at.above
        if len(chain) > MAX_LEVELS:  # whatever is above
            self.levels, self.seen = _TOO_DEEP, now
            return
        before, as_it_was = now, False
        for node in reversed(chain):
            # What was counted together with the one above stays as it was if that one has.
            if as_it_was and node.seen == before:
                node.seen = now
                continue
            state, levels, size_bytes = node.last_state, node.levels, node.size_bytes
            before = node.seen
            node.place()
            as_it_was = node.last_state is state and node.levels == levels and node.size_bytes == size_bytes

    def place(self) -> None:
        """Take state and length of the path from those of the directory above, which are current."""
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
        """The path within the mount by its first name, for the trail; ``/`` for the root.

        Of what lost its last name, the path it had. Of what is out of reach, the end of it, behind
        three dots in place of the rest.
        """
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
