"""Names that the kernel may keep as absent (or hidden from everyone), for a reload to make it forget them.
Beyond a limit it forgets the name that was looked up longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from policyfs.fs.inodes.saved_state import SavedState

_MOST: Final = 16_384
"""The limit of remembered absent names. Each takes about 250 bytes."""


class AbsentNames:
    """A record of the absent names that the kernel of one mount may keep, by directory.

    INVARIANT: a name is added before the reply that lets the kernel keep it. Names that exist by now, or of
    forgotten directories, do no harm. lost: True if the kernel may keep names that are no longer here."""

    def __init__(self, forget: Callable[[int, bytes], bool], most: int = _MOST) -> None:
        """forget: makes the kernel look up a name again. It returns False if this is not possible."""
        self._names: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._forget = forget
        self._most = most
        self.lost = False
        self.saved: SavedState | None = None
        """The state in which the names are saved for the next daemon; None if there will be none."""

    def __len__(self) -> int:
        return len(self._names)

    def add(self, parent: int, name: bytes) -> None:
        """Add an absent name. parent: the node number of its directory."""
        if self.saved is not None:
            self.saved.absent(parent, name)
        self._names[parent, name] = None
        self._names.move_to_end((parent, name))
        if len(self._names) > self._most:
            (parent, name), _ = self._names.popitem(last=False)
            if self.saved is not None:
                self.saved.present(parent, name)
            self.lost |= not self._forget(parent, name)

    def found(self, parent: int, name: bytes) -> None:
        """Remove a name that the next reply tells as present, so that new files take no room."""
        self._names.pop((parent, name), None)
        if self.saved is not None:
            self.saved.present(parent, name)

    def take(self) -> list[tuple[int, bytes]]:
        """Remove and return all names (directory node, name). The caller makes the kernel forget them."""
        names, self._names = list(self._names), OrderedDict()
        if self.saved is not None:
            for one in names:
                self.saved.present(*one)
        self.lost = False
        return names
