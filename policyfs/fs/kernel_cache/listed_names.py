"""Names that the kernel got with a listing, and may use later. INC_EPOCH does not expire them
(name_expiry.py), so the daemon remembers them until the kernel asks for more or closes the directory. Beyond
a limit, the oldest are looked up again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_MOST: Final = 16_384
"""The limit of remembered names in listings."""


class ListedNames:
    """A record of the names that the kernel got in the last reply to each open directory of one mount."""

    def __init__(self, expire: Callable[[Sequence[tuple[int, bytes]]], object], most: int = _MOST) -> None:
        """expire: makes the kernel look up names (directory, name) again."""
        self._replies: OrderedDict[int, list[tuple[int, bytes]]] = OrderedDict()
        self._count = 0
        self._expire = expire
        self._most = most

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for names in self._replies.values():
            yield from names

    def __len__(self) -> int:
        return self._count

    def add(self, index: int, parent: int, name: bytes) -> None:
        """Add a name to the last reply of an open directory. index: its number. parent: its node number."""
        self._replies.setdefault(index, []).append((parent, name))
        self._count += 1
        while self._count > self._most:
            oldest = next(iter(self._replies))
            self._expire(self._replies[oldest])
            self.used(oldest)

    def used(self, index: int) -> None:
        """Forget the names in an open directory's last reply, because the kernel has used them."""
        self._count -= len(self._replies.pop(index, ()))
