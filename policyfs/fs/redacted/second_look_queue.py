"""The queue of second looks: files that a second worker must check (second_looks.py). Apps take turns, and no
app can take all places.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

WAITING_MAX: Final = 16_384
"""The limit of waiting second looks, each about 500 bytes. A plan without a place in the queue serves only
the app whose worker made the plan.
"""

Look = TypeVar("Look")


class WaitingLooks(Generic[Look]):
    """A queue of second looks by lane and key. It returns the looks of one lane in the order of arrival.
    Event loop only.

    A lane gets another place while it has no more places than are free. So a single lane can have half
    of all places, and two lanes can have a third each. A lane without places always gets a place.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[Hashable, Look]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, lane: Hashable, key: Hashable) -> Look | None:
        """Return the second look that waits under this lane and key, or None."""
        looks = self._lanes.get(lane)
        return None if looks is None else looks.get(key)

    def has_room(self, lane: Hashable) -> bool:
        """Return True if the queue has room for another look of this lane."""
        return len(self._lanes.get(lane, ())) <= WAITING_MAX - self._count

    def put(self, lane: Hashable, key: Hashable, look: Look) -> None:
        """Add a second look to the queue. It replaces a look with the same lane and key."""
        looks = self._lanes.setdefault(lane, OrderedDict())
        self._count += key not in looks
        looks[key] = look

    def pop(self) -> Look:
        """Remove and return the oldest second look of the lane whose turn it is. Raise KeyError if none
        waits.
        """
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
        """Remove all waiting second looks."""
        self._lanes.clear()
        self._count = 0
