"""The names of a node besides its first: hard links.

A request by number is decided by the path states of the names, not by the names. So a file with very many
names costs no more than a file with a few names. KEPT_NAMES names are kept, the first one included. For each
further name only the state is kept, until the node is forgotten. If the file has lost a further name
meanwhile, the kept state can only make the decision stricter.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from policyfs.fs.path_bounds import KEPT_NAMES, PathTooLongError
from policyfs.store.aside_names import is_aside

if TYPE_CHECKING:
    from policyfs.fs.inodes.node import Node
    from policyfs.fs.inodes.placement import Placement
    from policyfs.policy.decide import PathState

_LOOKED_AT: Final = 8
"""The number of names among which pop() searches for a name with a path that is not too long. The search
begins with the name that was added or checked longest ago.
"""


class HardLinks:
    """A collection of a node's names after the first name, with the path states of these names.

    beyond: the path states of names that are not kept. Each state is from the time when the name was found.
    """

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
        """Yield directory and name of each kept name. The name that was added or checked longest ago is the
        first.
        """
        return iter([(parent, name) for (_, name), parent in self._names.items()])

    def has(self, parent: Node, name: bytes) -> bool:
        """Return True if this name of the node is kept."""
        return (parent.nodeid, name) in self._names

    @property
    def lost(self) -> bool:
        """True if the states in *beyond* (of names that are not kept) may be wrong, because paths or the
        policy have changed.
        """
        return bool(self.beyond) and self._unlike != self._placement.unlike

    def add(self, parent: Node, name: bytes) -> bool:
        """Add a name. Return False if the name is not kept. Then the state of its path is kept, except if the
        path is too long.
        """
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
        """Remove one name whose path is not too long, and return this name. Return None if there is no name.

        The search looks at the _LOOKED_AT names that were added or checked longest ago, and takes the first
        match. If the paths of all these names are too long, it takes the first of these names.
        """
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


def check_room(parent: Node, name: bytes) -> None:
    """Raise PathTooLongError if the path of a name in this directory would be too long.

    Raise OSError (EACCES) for a name that the daemon keeps for itself (is_aside()).
    """
    if is_aside(name):
        raise OSError(errno.EACCES, "policyfs keeps such names for itself", name)
    if not parent.has_room(name):
        raise PathTooLongError(name)
