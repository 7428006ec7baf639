"""Names that the kernel may keep as absent or hidden, although they have no node.

They are kept here, since a reload must make the kernel forget them. Their number is bounded: if there are
more, the kernel is asked to forget the one that was looked up longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST: Final = 16_384
"""The limit of names; each takes some 250 bytes."""


class AbsentNames:
    """The absent names of one mount that the kernel may keep, by directory.

    INVARIANT: a name is added before the reply that lets the kernel keep it as absent. A name in here may
    exist by now, or its directory may be forgotten: to expire it then does no harm.

    lost: True if the kernel may keep absent names that are not in here.
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

    def take(self) -> list[tuple[int, bytes]]:
        """Remove and return all names: the kernel is about to be made to forget them."""
        names, self._names = list(self._names), OrderedDict()
        self.lost = False
        return names
