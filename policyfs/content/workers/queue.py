"""A bounded queue of requests to the workers. No lane keeps other lanes waiting for ever."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from itertools import takewhile
from typing import Final

import trio

_PER_LANE: Final = 2
"""The limit of one lane's waiting tasks is the queue's limit divided by this number."""


class _Waiter:
    __slots__ = ("admitted", "event", "first")

    def __init__(self, *, first: bool) -> None:
        self.event = trio.Event()
        self.admitted = False
        self.first = first


class Line:
    """A queue that admits up to *places* tasks at a time, but of one lane at most *places* - 1 (at least 1).

    The other tasks wait. The queue serves one lane after the other (round robin), and the tasks of one lane
    in their order. A lane is an app or one uid. If the parsers hang at all files of an app, only this app
    waits for the parsers. One app's files do not keep all processors busy, either: if there are as many
    places as processors, one processor stays free for other processes.
    """

    def __init__(self, places: int, limit: int) -> None:
        """Make an empty queue. limit: the number of tasks that may wait, in all lanes together."""
        self._free = places
        self._most = max(1, places - 1)
        self._admitted: Counter[Hashable] = Counter()
        self._limit = limit
        self._lanes: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()
        self._waiting = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """The number of waiting tasks."""
        return self._waiting

    async def enter(self, lane: Hashable, *, first: bool = False) -> bool:
        """Wait until this task is admitted. Return False if the queue is full or closed; then the task is not
        admitted.

        first: True for a task that goes before the lane's other tasks, because a lock of the kernel is held
        until its end.
        """
        if self._closed:
            return False
        if self._free and self._admitted[lane] < self._most:
            self._free -= 1
            self._admitted[lane] += 1
            return True
        queue = self._lanes.setdefault(lane, deque())
        is_full = not first and len(queue) >= max(1, self._limit // _PER_LANE)
        if self._waiting >= self._limit or is_full:
            if not queue:
                del self._lanes[lane]
            return False
        waiter = _Waiter(first=first)
        before = sum(1 for _ in takewhile(lambda one: one.first, queue)) if first else len(queue)
        queue.insert(before, waiter)
        self._waiting += 1
        try:
            await waiter.event.wait()
        except BaseException:
            self._abandon(lane, waiter)
            raise
        return waiter.admitted

    def leave(self, lane: Hashable) -> None:
        """End a task that was admitted for this lane. The next waiting task is admitted."""
        self._admitted[lane] -= 1
        if not self._admitted[lane]:
            del self._admitted[lane]
        self._free += 1
        for following, queue in self._lanes.items():
            if self._admitted[following] < self._most:
                self._admit(following, queue)
                return

    def _admit(self, lane: Hashable, queue: deque[_Waiter]) -> None:
        waiter = queue.popleft()
        if queue:
            self._lanes.move_to_end(lane)  # behind all other lanes
        else:
            del self._lanes[lane]
        self._waiting -= 1
        self._free -= 1
        self._admitted[lane] += 1
        waiter.admitted = True
        waiter.event.set()

    def close(self) -> None:
        """End the wait of all tasks with a refusal, and refuse all later tasks."""
        self._closed = True
        for queue in self._lanes.values():
            for waiter in queue:
                waiter.event.set()
        self._lanes.clear()
        self._waiting = 0

    def _abandon(self, lane: Hashable, waiter: _Waiter) -> None:
        if waiter.admitted:
            self.leave(lane)
            return
        queue = self._lanes.get(lane)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        self._waiting -= 1
        if not queue:
            del self._lanes[lane]
