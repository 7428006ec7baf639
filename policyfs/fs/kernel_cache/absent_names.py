"""Names that the kernel may keep as absent. (A name that is hidden from everyone counts as absent, too.)

They have no node. They are remembered here because a reload must make the kernel forget them. Their number is
limited: beyond the limit, the kernel is asked to forget the name that was looked up longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST: Final = 16_384
"""The limit of names. Each takes about 250 bytes."""


class AbsentNames:
    """The absent names of one mount that the kernel may keep, by directory.

    INVARIANT: a name is added before the reply that lets the kernel keep it as absent. Some of these names
    may exist by now, or their directories may be forgotten. It does no harm to expire such a name.

    lost: True if the kernel may keep absent names that are no longer in here.
    """

    def __init__(self, forget: Callable[[int, bytes], bool], most: int = _MOST) -> None:
        """forget: makes the kernel look a name up again; False if it cannot."""
        self._names: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._forget = forget
        self._most = most
        self.lost = False

    def __len__(self) -> int:
        return len(self._names)

    def add(self, parent: int, name: bytes) -> None:
        """Add a name in a directory, given by its node number."""
        self._names[parent, name] = None
        self._names.move_to_end((parent, name))
        if len(self._names) > self._most:
            (parent, name), _ = self._names.popitem(last=False)
            self.lost |= not self._forget(parent, name)

    def found(self, parent: int, name: bytes) -> None:
        """Remove a name: the next reply tells the kernel that it exists.

        So the names of new files do not displace names that are absent.
        """
        self._names.pop((parent, name), None)

    def take(self) -> list[tuple[int, bytes]]:
        """Remove and return all names. The caller then makes the kernel forget them."""
        names, self._names = list(self._names), OrderedDict()
        self.lost = False
        return names
