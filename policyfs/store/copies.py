"""The cache of finished frozen copies. It evicts the least used copy first, and never a copy in use.

INVARIANT: event-loop thread only, and no ``await`` between get() or put() and pin(): the next put() may
close a copy that is not pinned.

A copy is in use while a handle has it open (the handle has pinned the copy), and also while an app has it
mapped. (In passthrough a mapping outlives the descriptor.) A copy in use is charged to each principal with a
pin. **A principal gets one more copy only if its copies in use and the new copy together are not larger than
the room that all copies in use leave free.** So one principal gets at most half of the cache, and leaves room
for others.

A clone shares the disk blocks of its source. While the clone exists, these blocks do not become free, even if
the source is deleted or rewritten. So expire_clones() closes clones that have not been used for a while.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Final, Self

from policyfs.store.admission import Victims
from policyfs.store.frozen import Frozen, is_alone

_LEAST_COST: Final = 4096
"""The least cost of a copy, in bytes. A clone, which shares the blocks of its source, costs only this."""

_SERIALS: Final = count(1)


@dataclass(frozen=True, slots=True)
class CopyStats:
    """The counts of a copy cache. bytes, copies: size and number of the copies that the cache has now.

    pinned: copies that handles have open. mapped: copies in use only by a mapping. hits, misses: of get().
    refused: copies for which the cache had no room. shares: copies for which the cache had room, but the
    principal's share had none."""

    bytes: int
    copies: int
    pinned: int
    hits: int
    misses: int
    evicted: int
    refused: int
    mapped: int
    shares: int


class Copy:
    """One finished copy in a cache. The copy's bytes cannot change (sealed). frozen.fd is open while the copy
    is in use or cached. serial: a number that no other copy of this process has.

    backing_id: the kernel's id of the copy, or 0. When the cache closes the copy, it gives the id back."""

    __slots__ = (
        "_beside", "_cache", "_holders", "_pins", "_since", "backing_id", "frozen", "key", "mapped_by",
        "serial", "used",
    )  # fmt: skip

    def __init__(self, cache: CopyCache, key: Hashable, frozen: Frozen, beside: int = 0) -> None:
        self._beside: Final = beside
        self._cache = cache
        self._pins = 0
        self._holders: Counter[Hashable] = Counter()
        self._since: set[Hashable] = set()  # principals that pinned the copy since it came into use
        self.used = 0.0
        self.backing_id = 0
        self.mapped_by: Hashable = None
        self.key = key
        self.serial: Final = next(_SERIALS)
        self.frozen: Final = frozen

    @property
    def cost(self) -> int:
        """Return the number of bytes that the copy takes of the cache's limit."""
        return max(_LEAST_COST, self.frozen.memory) + self._beside

    @property
    def pinned(self) -> bool:
        """True if a handle has the copy open."""
        return self._pins > 0

    @property
    def in_use(self) -> bool:
        """True if a handle has the copy open or an app has it mapped."""
        return self._pins > 0 or self.mapped_by is not None

    def pin(self, who: Hashable = None) -> None:
        """Keep the copy open until the matching unpin(). Charge the copy to the principal *who* (None: to
        nobody). ValueError if the copy is closed already."""
        if self.frozen.fd < 0:
            raise ValueError("this copy is closed already")
        self._cache._free_mapped(self)  # noqa: SLF001 - Copy and CopyCache are one unit
        if not self.in_use:
            self._cache._count(self, 1)  # noqa: SLF001 - one unit
        self._pins += 1
        if who is not None:
            if not self._holders[who]:
                self._cache._charge(who, self, 1)  # noqa: SLF001 - one unit
            self._holders[who] += 1
            self._since.add(who)

    def unpin(self, who: Hashable = None) -> None:
        """Undo one pin() for the same *who*. ValueError if there was no such pin()."""
        if self._pins == 0 or (who is not None and not self._holders[who]):
            raise ValueError("unpin without pin")
        self._pins -= 1
        if who is not None:
            self._holders[who] -= 1
            if not self._holders[who]:
                del self._holders[who]
                self._cache._charge(who, self, -1)  # noqa: SLF001 - one unit
        if self._pins == 0:
            self._cache._unpinned(self)  # noqa: SLF001 - one unit

    def held_by(self, who: Hashable) -> bool:
        """Return True if the principal *who* has pinned the copy."""
        return self._holders[who] > 0


class Booking:
    """Room in a cache that is reserved until cancel(), for a copy that is being made."""

    __slots__ = ("_cache", "_cost", "_who")

    def __init__(self, cache: CopyCache, cost: int, who: Hashable) -> None:
        self._cache: CopyCache | None = cache
        self._cost = cost
        self._who = who
        cache._book(who, cost, 1)  # noqa: SLF001 - one unit

    def cancel(self) -> None:
        """Give the room back. A second call does nothing."""
        cache, self._cache = self._cache, None
        if cache is not None:
            cache._book(self._who, -self._cost, -1)  # noqa: SLF001 - one unit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class CopyCache:
    """A cache of frozen copies by key. *max_bytes* and *max_copies* also limit copies in use.

    Copies that are used often stay during a scan of more files than there is room for (store/admission.py).

    The cache owns its copies: it closes each copy, and passes the copy's backing id to *give_back*.
    *clock* returns seconds and never goes back.
    """

    __slots__ = (
        "_booked", "_bytes", "_clock", "_copies", "_evicted", "_give_back", "_has_clones", "_hits", "_mapped",
        "_misses", "_orphans", "_own", "_refused", "_shares", "_used", "_victims", "limits", "on_close",
        "on_shortage",
    )  # fmt: skip

    def __init__(
        self,
        max_bytes: int,
        max_copies: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        give_back: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.limits: Final = (max_bytes, max_copies)
        self._give_back = give_back
        self._clock = clock
        self.on_shortage: Callable[[], bool] = lambda: False
        """Called if a copy has no room. Unpins a copy that no app needs; returns False if there is none."""
        self.on_close: Callable[[Copy], object] = lambda _: None
        """Called with each copy right before the cache closes it."""
        self._copies: dict[Hashable, Copy] = {}
        self._victims: Final = Victims(max_bytes, max_copies)
        self._orphans: set[Copy] = set()  # copies that were dropped or replaced, but are in use
        self._mapped: OrderedDict[Copy, None] = OrderedDict()  # copies in use only by a mapping of an app
        # Pairs [bytes, copies]. _used: copies in use and bookings. _booked: bookings. _own: by principal.
        self._used, self._booked = [0, 0], [0, 0]
        self._own: dict[Hashable, list[int]] = {}
        self._has_clones = False
        self._bytes = self._hits = self._misses = self._evicted = self._refused = self._shares = 0

    @property
    def count(self) -> int:
        """Return the number of copies, including copies that were dropped and are still in use."""
        return len(self._copies) + len(self._orphans)

    def get(self, key: Hashable) -> Copy | None:
        """Return the copy under *key*, or None. The copy becomes the most recently used one."""
        self._victims.ask(key)
        copy = self._copies.get(key)
        if copy is None:
            self._misses += 1
            return None
        self._hits += 1
        copy.used = self._clock()
        return copy

    def peek(self, key: Hashable) -> Copy | None:
        """Return the copy under *key* or None, as get() does, but without counting a look-up."""
        return self._copies.get(key)

    def book(self, size: int, who: Hashable = None) -> Booking | None:
        """Reserve room for a new copy of *size* bytes for *who*. Return None if there is no room. Evicts
        copies that are not in use, if needed."""
        cost = max(_LEAST_COST, size)
        if not self._fits(cost, who):
            return None
        self._make_room(cost)
        return Booking(self, cost, who)

    def put(self, key: Hashable, frozen: Frozen, who: Hashable = None, *, beside: int = 0) -> Copy | None:
        """Add a sealed copy under *key*, in place of an older copy. beside: the memory in bytes that the
        caller uses for data about the copy; it counts, too.

        Return None if the copies in use leave no room, or if the share of *who* is used up. Then the caller
        still owns *frozen*. ValueError if *frozen* is not sealed.
        """
        if not frozen.sealed:
            raise ValueError("only a sealed copy may be cached")
        copy = Copy(self, key, frozen, beside)
        if not self._fits(copy.cost, who):
            return None
        self.drop(key)
        self._make_room(copy.cost)
        copy.used = self._clock()
        self._copies[key] = copy
        self._has_clones |= frozen.how == "reflink"
        self._victims.add(key, copy.cost)
        self._bytes += copy.cost
        return copy

    def admits(self, copy: Copy, who: Hashable) -> bool:
        """Return True if the principal *who* may pin this copy in addition to its other copies."""
        return copy.held_by(who) or self._fits(copy.cost, who, copy)

    def has_room(self, what: Copy | int, who: Hashable) -> bool:
        """Return True if *who* may pin *what*: a copy, or the size of a new one. Count no refusal."""
        copy = what if isinstance(what, Copy) else None
        cost = max(_LEAST_COST, what) if isinstance(what, int) else what.cost
        if copy is not None and copy.held_by(who):
            return True
        return all(self._room(cost, who, copy)) or all(self._room_made(cost, who, copy))

    def drop(self, key: Hashable) -> None:
        """Drop the copy under *key*. A copy in use is closed once no handle has it open and no app has it
        mapped."""
        copy = self._copies.pop(key, None)
        if copy is None:
            return
        self._victims.remove(key)
        if copy.in_use:
            self._orphans.add(copy)
        else:
            self._close(copy)

    def expire_clones(self, idle_s: float) -> None:
        """Close clones (copies that share their source's blocks) that were not used for *idle_s* seconds."""
        oldest = self._clock() - idle_s
        for key, copy in list(self._copies.items()) if self._has_clones else ():
            if copy.frozen.how == "reflink" and not copy.in_use and copy.used < oldest:
                self.drop(key)

    def sweep(self, most: int = 64) -> None:
        """Check the next *most* mapped copies, in turn. Free each copy that no app has mapped any more."""
        for _ in range(min(most, len(self._mapped))):
            copy = next(iter(self._mapped))
            self._mapped.move_to_end(copy)
            if is_alone(copy.frozen):
                self._free_mapped(copy)
                self._free(copy)

    def clear(self) -> None:
        """Drop all copies. A copy in use is closed once no handle has it open and no app has it mapped."""
        for key in list(self._copies):
            self.drop(key)

    def close(self) -> None:
        """Close every copy, in use or not, at the end of the mount."""
        self.clear()
        for copy in list(self._orphans):
            self._orphans.discard(copy)
            self._close(copy)
        self._mapped.clear()

    def stats(self) -> CopyStats:
        """Return the present contents and the counts so far."""
        return CopyStats(
            bytes=self._bytes, copies=self.count, hits=self._hits, misses=self._misses, evicted=self._evicted,
            pinned=len(self._orphans) + sum(copy.pinned for copy in self._copies.values()),
            refused=self._refused, mapped=len(self._mapped), shares=self._shares,
        )  # fmt: skip

    def _fits(self, cost: int, who: Hashable, copy: Copy | None = None) -> bool:
        """Return True if *cost* bytes have room beside the copies in use, and in the share of *who*."""
        room, fair = self._room(cost, who, copy)
        if not (room and fair):
            self.sweep(len(self._mapped))
            room, fair = self._room_made(cost, who, copy)
        self._refused += not room
        self._shares += room and not fair
        return room and fair

    def _room_made(self, cost: int, who: Hashable, copy: Copy | None) -> tuple[bool, bool]:
        """Return the booleans of _room(). If one boolean is False, first unpin copies that no app needs."""
        room = self._room(cost, who, copy)
        while cost <= self.limits[0] and not all(room) and self.on_shortage():
            room = self._room(cost, who, copy)
        return room

    def _room(self, cost: int, who: Hashable, copy: Copy | None) -> tuple[bool, bool]:
        """Return two booleans: the cache has room, and the share of *who* has room. copy: None if new."""
        counted = copy is not None and copy.in_use  # the counts contain it already
        (max_bytes, max_copies), (used_bytes, used_copies) = self.limits, self._used
        more_bytes, more_copies = (0, 0) if counted else (cost, 1)
        room = used_bytes + more_bytes <= max_bytes and used_copies + more_copies <= max_copies
        if who is None:
            return room, True
        own_bytes, own_copies = self._own.get(who, (0, 0))
        return room, own_bytes + cost <= max_bytes - used_bytes and own_copies < max_copies - used_copies

    def _make_room(self, cost: int) -> None:
        max_bytes, max_copies = self.limits
        held = self._bytes + self._booked[0]
        count = self.count + self._booked[1]
        going: list[Hashable] = []
        victims = self._victims.next_ones(lambda key: not self._copies[key].in_use)
        while held + cost > max_bytes or count >= max_copies:
            key = next(victims, None)
            if key is None:
                break
            going.append(key)
            held -= self._copies[key].cost
            count -= 1
        self._evicted += len(going)
        for key in going:
            self.drop(key)

    def _charge(self, who: Hashable, copy: Copy, sign: int) -> None:
        self._own_of(who, sign * copy.cost, sign)

    def _own_of(self, who: Hashable, size: int, count: int) -> None:
        own = self._own.setdefault(who, [0, 0])
        own[0] += size
        own[1] += count
        if not own[1]:
            del self._own[who]

    def _count(self, copy: Copy, sign: int) -> None:
        self._used[0] += sign * copy.cost
        self._used[1] += sign

    def _book(self, who: Hashable, cost: int, count: int) -> None:
        for totals in (self._used, self._booked):
            totals[0] += cost
            totals[1] += count
        if who is not None:
            self._own_of(who, cost, count)

    def _unpinned(self, copy: Copy) -> None:
        """Update the counts after the last unpin() of a copy.

        If an app still has the copy mapped, the copy stays in use. The kernel does not tell which app has the
        mapping. So, of the principals that pinned the copy, the one with the most bytes in use is charged."""
        copy.used = self._clock()
        held = copy._since  # noqa: SLF001 - Copy and CopyCache are one unit
        if held and copy.frozen.fd >= 0 and not is_alone(copy.frozen):
            copy.mapped_by = max(held, key=lambda who: self._own.get(who, [0, 0])[0])
            self._charge(copy.mapped_by, copy, 1)
            self._mapped[copy] = None
        else:
            self._count(copy, -1)
            self._free(copy)

    def _free_mapped(self, copy: Copy) -> None:
        """Stop counting a copy as mapped by an app. Charge it no longer to the principal of the mapping."""
        who, copy.mapped_by = copy.mapped_by, None
        if who is not None:
            self._charge(who, copy, -1)
            del self._mapped[copy]
            self._count(copy, -1)

    def _free(self, copy: Copy) -> None:
        copy._since.clear()  # noqa: SLF001 - one unit
        if copy in self._orphans:
            self._orphans.discard(copy)
            self._close(copy)

    def _close(self, copy: Copy) -> None:
        self._bytes -= copy.cost
        self.on_close(copy)
        backing_id, copy.backing_id = copy.backing_id, 0
        if backing_id:
            self._give_back(backing_id)
        copy.frozen.close()
