"""Frozen copies of files, with hidden data located and patched. A lane's opens share copies of the current
version."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import trio

from policyfs.content.cache import KindKey
from policyfs.domain import NO_RANGES, Decision, Patch, Principal, Ranges
from policyfs.fs.access.facts import version_key
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.redacted.patching import apply_all, ranges_of
from policyfs.fs.redacted.plans import PLANS_MAX, PlanFinder, Proof
from policyfs.fs.redacted.results import CopyKey, NoRoom, Redacted, Refused, version_of_key
from policyfs.fs.redacted.windows import FilmFrames
from policyfs.fs.saved.saved_copies import SavedCopies
from policyfs.linux.statx import Stat
from policyfs.redact.core.values import Outcome
from policyfs.store import frozen as freezing
from policyfs.store.copies import Copy, CopyCache
from policyfs.store.frozen import FrozenTooLarge, freeze
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.memory import MemoryPlaces
from policyfs.store.page_cache import in_memory
from policyfs.store.tree import Tree

_FULL_S = 2.0
"""The time in seconds for which files count as too large to copy: all files of a principal if a copy found no
room, or one file if it could not be cloned. The look-up and the open after such a failure must give the same
answer, even if other requests come in between."""
_NO_SPACE = frozenset({errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
_INLINE_BYTES = 256 * 1024
"""The largest file, in bytes, that the event loop copies itself. The file must be in memory. For such a small
copy a thread would take longer."""
_RANGE_MEMORY = 136
"""The memory of a patched range in Redacted.ranges, in bytes, rounded up."""
_UNSETTLED_S = 1.0
"""The longest use, in seconds, of a copy that was made while the file had a writer."""


class _Patched(NamedTuple):
    """The kind of a patched and sealed copy, the hidden words, and the hidden byte ranges."""

    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    film: FilmFrames | None


Judge = Callable[[str | None], Decision]
"""A function that decides the current request by a kind (None: sniffing failed). It finds the owner
itself, at each call.

INVARIANT: the Redactor calls it with the kind of a copy that is already made. So no owner that was found
before the copy decides on bytes that another app has written since.
"""


class Redactor:
    """The redactor of one mount: it makes redacted copies of files, and keeps finished copies in a cache.

    keeper: None if leases prove nothing on the store. size_cap: the largest copy in memory, in bytes. apart:
    True if several apps use the cache, each with a share of its own.
    """

    def __init__(
        self,
        tree: Tree,
        plans: PlanFinder,
        keeper: LeaseKeeper | None,
        copies: CopyCache,
        *,
        reflink: bool,
        size_cap: int,
        places: MemoryPlaces | None,
        apart: bool = True,
    ) -> None:
        self._tree = tree
        self._plans = plans
        self._keeper = keeper
        self._copies = copies
        self._reflink = reflink
        self._size_cap = size_cap
        self._places = places
        self._made: dict[Copy, Redacted] = {}
        self._latest: dict[CopyKey, set[CopyKey]] = {}  # copies of a file's latest version, by CopyKey.file
        self._no_room: Expiring[str | int, bool] = Expiring(_FULL_S)  # by _holder(), or by file (ino_key)
        self._apart = apart
        self._saved: SavedCopies | None = None

    def save_to(self, saved: SavedCopies) -> None:
        """Save each copy for the next daemon from now on."""
        self._saved = saved
        self._copies.on_close = lambda copy: saved.closing(copy.serial)

    def adopt(self, key: CopyKey, made: Redacted) -> None:
        """Add a copy that is in the cache, of the daemon before."""
        self._latest.setdefault(key.file, set()).add(key)
        self._made[made.copy] = made

    def copyable(self, stat: Stat, ino_key: int, what: frozenset[str], who: Principal) -> bool:
        """Return True if *who* gets a frozen copy of the file now, False if the file needs a lease instead.

        INVARIANT: if an open gets ESTALE because of this answer, the kernel's second try of the open finds
        room. There is no third try."""
        large = stat.size > self._size_cap
        if self._no_room and (self._no_room.get(_holder(who)) or (large and self._no_room.get(ino_key))):
            return False
        if large and not self._reflink:
            return False
        copy = self._peek(ino_key, stat, what, who)
        size = 0 if self._reflink else stat.size
        has_room = self._copies.has_room(size if copy is None else copy, self.payer(who))
        if not has_room:  # and look-ups of the next seconds get the same answer
            self._no_room.put(_holder(who), True)
        return has_room

    def payer(self, who: Principal) -> str | None:
        """Return the app, or stranger (uid), for which a copy counts; None if one app uses the cache."""
        return _holder(who) if self._apart else None

    def _full(self, who: Principal) -> NoRoom:
        """Note that *who* has no room left, and return the error to raise. Other principals may have room."""
        self._no_room.put(_holder(who), True)
        return NoRoom()

    def is_final(self, copy: Copy) -> bool:
        """Return True if the cache has the copy, and it can serve while the file's size and times stay."""
        return self._made[copy].final and self._copies.peek(copy.key) is copy

    async def redacted(
        self, fd: int, ino_key: int, what: frozenset[str], judge: Judge, who: Principal
    ) -> Redacted | Refused:
        """Return a copy that *who* may read, of the file behind *fd* (O_RDONLY), pinned once for payer().

        judge: decides by the kind found in the copy. Return Refused if *judge* denies, or if hidden data
        cannot be removed. Raise FrozenTooLarge or NoRoom if the file needs a lease instead, and OSError.
        """
        stat = self._tree.fstat(fd)
        copy = self._copies.get(CopyKey.of(ino_key, stat, what, who.lane))
        if copy is not None and self._is_current(copy, ino_key, what):
            made = self.again(copy, judge, who)
            if isinstance(made, Redacted):
                return made
        return await self._make(fd, ino_key, stat, what, judge, who)

    def known(self, ino_key: int, stat: Stat, what: frozenset[str], who: Principal) -> Copy | None:
        """Return the finished copy of a file in the version of *stat*, if *who* may see it, else None."""
        copy = self._peek(ino_key, stat, what, who)
        is_current = copy is not None and self._is_current(copy, ino_key, what)
        return self._copies.get(copy.key) if copy is not None and is_current else None

    def _peek(self, ino_key: int, stat: Stat, what: frozenset[str], who: Principal) -> Copy | None:
        return self._copies.peek(CopyKey.of(ino_key, stat, what, who.lane))

    def _is_current(self, copy: Copy, ino_key: int, what: frozenset[str]) -> bool:
        """Return True if a copy can still serve its version. If the file had a writer, stat proves nothing: a
        reader in a view that hides nothing must see the latest bytes, others after _UNSETTLED_S."""
        made = self._made[copy]
        if self._keeper is None or made.settled or self._keeper.is_void(NodeTable.dev_in(ino_key)):
            return True
        return bool(what) and time.monotonic() < made.made_s + _UNSETTLED_S

    def again(self, copy: Copy, judge: Judge, who: Principal) -> Redacted | Refused:
        """Pin a finished copy once more for this caller, and return it. A pinned copy stays open.

        Return Refused if the decision for the caller denies, or hides other words than the copy. Raise NoRoom
        if the caller's share is used up."""
        made = self._made[copy]
        decision = judge(made.kind)
        if not decision.allowed or decision.redact != made.hidden:
            return Refused(decision, made.kind, "the copy hides other data than this decision")
        if not self._copies.admits(copy, self.payer(who)):
            raise self._full(who)
        copy.pin(self.payer(who))
        return made

    async def _make(
        self, fd: int, ino_key: int, stat: Stat, what: frozenset[str], judge: Judge, who: Principal
    ) -> Redacted | Refused:
        if self._reflink:
            with contextlib.suppress(FrozenTooLarge):  # the store can clone, but not this file, or not now
                return await self._make_so(fd, ino_key, stat, what, judge, who, clones=True)
            stat = self._tree.fstat(fd)
            if stat.size > self._size_cap:  # checked before room is booked, which may drop other copies
                raise FrozenTooLarge(stat.size, self._size_cap)
        return await self._make_so(fd, ino_key, stat, what, judge, who, clones=False)

    async def _make_so(
        self, fd: int, ino_key: int, stat: Stat, what: frozenset[str], judge: Judge, who: Principal,
        *, clones: bool,
    ) -> Redacted | Refused:  # fmt: skip
        """Make a copy: a clone, or a copy in memory, which needs room for all its bytes."""
        room = self._copies.book(0 if clones else stat.size, self.payer(who))
        if room is None:
            raise self._full(who)
        with room:
            try:
                copy, proof = await self._freeze(fd, stat, clones=clones)
                patched_copy = await self._patched(copy, proof, version_key(stat), what, judge, who)
            except FrozenTooLarge:
                self._no_room.put(ino_key, True)
                raise
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    raise
                # The machine has no memory for the copy, or the store has no room for a clone's own blocks.
                raise self._full(who) from None
        if isinstance(patched_copy, Refused):
            copy.close()
            return patched_copy
        kind, hidden, ranges, film = patched_copy
        key = CopyKey.of(ino_key, stat, what, who.lane)._replace(version=copy.version)
        kept = self._copies.put(key, copy, self.payer(who), beside=_RANGE_MEMORY * len(ranges.first))
        if kept is None:
            copy.close()
            raise self._full(who)
        final = film is None and proof is not None and self._plans.settles(proof)
        final = final and proof is not None and version_of_key(proof.version) == copy.version
        made = Redacted(kept, kind, hidden, ranges, proof is not None, time.monotonic(), film, final)
        self._drop_others(key)
        self._made[kept] = made
        if self._saved is not None:
            self._saved.put(kept.serial, made.record(key, stat))
        kept.pin(self.payer(who))
        return made

    async def _patched(
        self, copy: freezing.Frozen, proof: Proof | None, version: KindKey, what: frozenset[str],
        judge: Judge, who: Principal,
    ) -> _Patched | Refused:  # fmt: skip
        """Locate the hidden data in a copy, patch the copy and seal it. After Refused, the caller must close
        the copy. After an exception, the copy is closed already."""
        try:
            read_only = freezing.open_readonly(copy)
            try:
                located, tries = what, PLANS_MAX
                while True:
                    tries -= 1
                    kind, plan = await self._plans.locate(
                        read_only, located, lane=who.lane, proof=proof, version=version,
                        frames_later=copy.how == "reflink",
                    )  # fmt: skip
                    decision = judge(kind)
                    # INVARIANT: the plan that patches a copy was made for exactly the words to hide.
                    if not decision.allowed or not decision.redact or decision.redact == located:
                        break
                    if not tries:
                        return Refused(decision, kind, "the workers do not agree on the data to hide")
                    located = decision.redact
            finally:
                os.close(read_only)
            if not decision.allowed:
                return Refused(decision, kind, "")
            patches: tuple[Patch, ...] = ()
            if decision.redact:
                if plan.outcome is Outcome.REFUSE:
                    return Refused(decision, kind, plan.reason)
                patches = plan.patches
            others_went_on = await apply_all(copy, patches)
            freezing.seal(copy)
            if others_went_on:  # and the policy may have changed
                now = judge(kind)
                if now.allowed and now.redact != decision.redact:
                    raise PolicyChangedError
                if not now.allowed:
                    return Refused(now, kind, "")
        except BaseException:
            copy.close()
            raise
        ranges = ranges_of(plan) if decision.redact else NO_RANGES
        return _Patched(kind, decision.redact, ranges, self._plans.film(kind, plan, decision.redact))

    def _drop_others(self, key: CopyKey) -> None:
        """Drop the finished copies of other versions of a file. Handles keep theirs until their release."""
        if len(self._made) > 2 * self._copies.count:
            self._made = {copy: made for copy, made in self._made.items() if copy.frozen.fd >= 0}
            self._latest = {}
            for copy in self._made:
                if isinstance(copy.key, CopyKey):
                    self._latest.setdefault(copy.key.file, set()).add(copy.key)
        latest = self._latest.setdefault(key.file, set())
        for other in [of for of in latest if of.version != key.version]:
            latest.remove(other)
            self._copies.drop(other)
        latest.add(key)

    async def _freeze(self, fd: int, stat: Stat, *, clones: bool) -> tuple[freezing.Frozen, Proof | None]:
        """Return a copy, and a proof of its version. The proof is None if the file had a writer."""
        lease = None if self._keeper is None else self._keeper.grant(fd)
        try:
            before = version_key(self._tree.fstat(fd))
            copy = await self._copied(fd, stat, clones=clones, unwritten=lease is not None)
            proven = lease is not None and lease.holds()
        finally:
            if lease is not None:
                lease.release()
        return copy, Proof(before, lambda: True) if proven else None

    async def _copied(self, fd: int, stat: Stat, *, clones: bool, unwritten: bool) -> freezing.Frozen:
        """Copy a file. unwritten: True if no process has it open for writing. clones: True to clone it, or
        raise FrozenTooLarge.

        INVARIANT: on a thread if it may wait for a lock of the file, which the kernel holds during an app's
        passthrough read or write, even while that waits for a page of the app. A copy waits for writers, a
        clone on xfs also for readers."""

        def make() -> freezing.Frozen:
            root = self._tree.making_fd if clones else None
            return freeze(fd, 0 if clones else self._size_cap, root, clones, self._places)

        quick = not self._reflink and unwritten and stat.size <= _INLINE_BYTES and in_memory(fd, stat.size)
        return make() if quick else await trio.to_thread.run_sync(make)


def _holder(who: Principal) -> str:
    """Return the name under which a caller's use of the cache counts: the app's name, or a text with a
    stranger's uid. (This text has a space, and no app's name has one.)"""
    return f"stranger {who.uid}" if who.app is None else who.app


__all__ = ["FrozenTooLarge", "Judge", "NoRoom", "Redacted", "Redactor", "Refused"]
