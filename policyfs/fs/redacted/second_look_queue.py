"""Second looks that wait: apps take turns, and none can take all places from the others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

WAITING_MAX: Final = 16_384
"""Looks that wait, some 500 bytes each; what comes beyond that stays with its app."""

Look = TypeVar("Look")


class WaitingLooks(Generic[Look]):
    """Looks by lane and key. A lane's own go in the order of coming. Event loop only.

    A lane gets another place while it has no more than are free. So one alone can have half of all, two a
    third each, and a lane that has none is let in always.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[Hashable, Look]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, lane: Hashable, key: Hashable) -> Look | None:
        """The look that waits under a lane's key."""
        looks = self._lanes.get(lane)
        return None if looks is None else looks.get(key)

    def has_room(self, lane: Hashable) -> bool:
        """May one more look of a lane wait."""
        return len(self._lanes.get(lane, ())) <= WAITING_MAX - self._count

    def put(self, lane: Hashable, key: Hashable, look: Look) -> None:
        """Let a look wait, in the place of the one under that key."""
        looks = self._lanes.setdefault(lane, OrderedDict())
        self._count += key not in looks
        looks[key] = look

    def pop(self) -> Look:
        """Take out the oldest look of the lane whose turn it is. KeyError if none waits."""
        lane, looks = next(iter(self._lanes.items()), (None, None))
        if looks is None:
            raise KeyError("no look waits")
        _, look = looks.popitem(last=False)
        self._count -= 1
        if looks:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]
        return look

    def clear(self) -> None:
        """Give up all that wait."""
        self._lanes.clear()
        self._count = 0
