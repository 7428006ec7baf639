"""Frozen copies of files, with hidden data located and patched. Apps share copies of the current version."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

import trio

from policyfs.content.cache import KindKey
from policyfs.domain import NO_RANGES, Decision, Patch, Principal, Ranges
from policyfs.fs.access.facts import version_key
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.redacted.copy_keys import CopyKey, version_of_key
from policyfs.fs.redacted.patching import apply_all, ranges_of
from policyfs.fs.redacted.plans import PLANS_MAX, Found, PlanFinder, Proof
from policyfs.fs.redacted.results import NoRoom, Redacted, Refused
from policyfs.fs.redacted.second_looks import Fingerprint, Said
from policyfs.fs.redacted.windows import FilmFrames
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


class _Unshared(NamedTuple):
    """A copy for one lane only, its kind, and the fingerprint of its plan. racy: True if bytes may have
    changed without new times."""

    key: CopyKey
    copy: Copy
    kind: str | None
    plan: Fingerprint
    racy: bool


class _Patched(NamedTuple):
    """A patched and sealed copy. found: the plan by which it was patched. located: the words of that plan."""

    found: Found
    hidden: frozenset[str]
    ranges: Ranges
    located: frozenset[str]
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
        self._no_room = Expiring[str | int, bool](_FULL_S)  # by _holder(), or by file (ino_key)
        self._apart = apart
        self._unshared: dict[tuple[KindKey, frozenset[str] | None, Hashable], list[_Unshared]] = {}
        self._in_doubt: set[Copy] = set()  # copies whose plan no second worker has found yet
        plans.on_confirmed = self._share
        plans.on_denied.append(self._take_back)

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
        """Return the app, or the stranger (with its uid), for which a copy counts in the cache. None if only
        one app uses the cache.
        """
        return _holder(who) if self._apart else None

    def _full(self, who: Principal) -> NoRoom:
        """Note that *who* has no room left, and return the error to raise. Other principals may have room."""
        self._no_room.put(_holder(who), True)
        return NoRoom()

    def is_final(self, copy: Copy) -> bool:
        """Return True if the file had no writer during the copy, the copy's plan needs no check by a second
        worker any more, and the cache still has the copy."""
        return self._made[copy].settled and copy not in self._in_doubt and self._copies.peek(copy.key) is copy

    async def redacted(
        self, fd: int, ino_key: int, what: frozenset[str], judge: Judge, who: Principal
    ) -> Redacted | Refused:
        """Return a copy that *who* may read, of the file behind *fd* (O_RDONLY), pinned once for payer().

        judge: decides by the kind found in the copy. Return Refused if *judge* denies, or if hidden data
        cannot be removed. Raise FrozenTooLarge or NoRoom if the file needs a lease instead, and OSError.
        """
        stat = self._tree.fstat(fd)
        shared = CopyKey.of(ino_key, stat, what, None)
        copy = self._copies.get(shared if self._copies.peek(shared) else shared._replace(lane=who.lane))
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
        key = CopyKey.of(ino_key, stat, what, None)
        return self._copies.peek(key) or self._copies.peek(key._replace(lane=who.lane))

    def _is_current(self, copy: Copy, ino_key: int, what: frozenset[str]) -> bool:
        """Return True if a copy can still serve the version that it was made of.

        If a file was copied while it had a writer, stat cannot prove that the copy has the latest bytes. In a
        view that hides nothing, the reader must see them. Other readers see them after _UNSETTLED_S."""
        made = self._made[copy]
        if self._keeper is None or made.settled or self._keeper.is_void(NodeTable.dev_in(ino_key)):
            return True
        return bool(what) and time.monotonic() < made.made_s + _UNSETTLED_S

    def again(self, copy: Copy, judge: Judge, who: Principal) -> Redacted | Refused:
        """Pin a finished copy once more for this caller, and return it. A pinned copy stays open.

        Return Refused if the decision for the caller denies, or hides other words than the copy, or if a
        second worker has found another plan. Raise NoRoom if the caller's share is used up."""
        made = self._made[copy]
        decision = judge(made.kind)
        if not decision.allowed or decision.redact != made.hidden:
            return Refused(decision, made.kind, "the copy hides other data than this decision")
        if copy.denied:
            return Refused(decision, made.kind, "a second worker has found other data to hide")
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
        (kind, plan, shared, _), hidden, ranges, located, film = patched_copy
        key = CopyKey(ino_key, stat.btime_ns, copy.version, what, None if shared else who.lane)
        kept = self._copies.put(key, copy, self.payer(who), beside=_RANGE_MEMORY * len(ranges.first))
        if kept is None:
            copy.close()
            raise self._full(who)
        made = Redacted(kept, kind, hidden, ranges, proof is not None, time.monotonic(), film)
        self._drop_others(key)
        self._made[kept] = made
        if not shared:  # of a film of which frames are left, no second worker finds the plan
            self._in_doubt.add(kept)
        proven = proof is not None and version_of_key(proof.version) == copy.version
        if proof is not None and proven and not shared and film is None:
            racy = proof.version.is_racy(time.time_ns())
            unshared = self._unshared.setdefault((proof.version, located, who.lane), [])
            unshared.append(_Unshared(key, kept, kind, Fingerprint.of(plan), racy))
        kept.pin(self.payer(who))
        return made

    async def _patched(
        self, copy: freezing.Frozen, proof: Proof | None, version: KindKey, what: frozenset[str],
        judge: Judge, who: Principal,
    ) -> _Patched | Refused:  # fmt: skip
        """Locate the hidden data in a copy, patch the copy and seal it.

        After Refused, the caller must close the copy. After an exception, the copy is closed already.

        INVARIANT: the second look at the plan is queued last, and no await comes before the copy is in
        `_unshared`. Otherwise the look could end before that, and a copy with a denied plan would stay.
        """
        found: Found | None = None
        try:
            read_only = freezing.open_readonly(copy)
            try:
                located, tries = what, PLANS_MAX
                while True:
                    tries -= 1
                    if found is not None:
                        self._plans.ask(found, proof)
                    found = await self._plans.find(
                        read_only, located, lane=who.lane, proof=proof, version=version,
                        frames_later=copy.how == "reflink",
                    )  # fmt: skip
                    decision = judge(found.kind)
                    # INVARIANT: the plan that patches a copy was made for exactly the words to hide.
                    if not decision.allowed or not decision.redact or decision.redact == located:
                        break
                    if not tries:
                        return Refused(decision, found.kind, "the workers do not agree on the data to hide")
                    located = decision.redact
            finally:
                os.close(read_only)
            if not decision.allowed:
                return Refused(decision, found.kind, "")
            patches: tuple[Patch, ...] = ()
            if decision.redact:
                if found.plan.outcome is Outcome.REFUSE:
                    return Refused(decision, found.kind, found.plan.reason)
                patches = found.plan.patches
            others_went_on = await apply_all(copy, patches)
            freezing.seal(copy)
            if others_went_on:  # and the policy may have changed
                now = judge(found.kind)
                if now.allowed and now.redact != decision.redact:
                    raise PolicyChangedError
                if not now.allowed:
                    return Refused(now, found.kind, "")
        except BaseException:
            copy.close()
            raise
        finally:
            if found is not None:
                self._plans.ask(found, proof)
        ranges = ranges_of(found.plan) if decision.redact else NO_RANGES
        film = self._plans.film(found.kind, found.plan, decision.redact)
        return _Patched(found, decision.redact, ranges, located, film)

    def _share(self, said: Said) -> None:
        """Share a copy with all apps, because a second worker has found the same plan.

        Perhaps the file has changed since the first worker read it, and stat does not show the change (racy).
        Then the copy is not shared, because it may show other bytes.

        INVARIANT: a copy is shared only if it was patched by the plan that both workers found. By now the
        copy's key can lead to another copy, made by a later plan of the same lane's worker."""
        name = said.version, said.what, said.lane
        unshared = self._unshared.pop(name, [])
        # The copies in *left* were made by another plan, which gets a second look of its own.
        left = [each for each in unshared if each.kind is None or not said.agrees(each.kind, each.plan)]
        if left:
            self._unshared[name] = left
        for held in unshared:
            if held not in left:
                self._share_one(held, racy=said.racy or held.racy)

    def _share_one(self, held: _Unshared, *, racy: bool) -> None:
        self._in_doubt.discard(held.copy)
        if not racy and self._copies.peek(held.key) is held.copy:
            shared = held.key._replace(lane=None)
            self._copies.rename(held.key, shared)
            latest = self._latest.setdefault(shared.file, set())
            latest.discard(held.key)
            latest.add(shared)

    def _take_back(self, said: Said) -> None:
        """Drop all copies by a plan, because a second worker has found another plan. Later opens get another
        copy. (One lane can have several copies: of two nodes of the file, opened at the same time.)
        """
        for held in self._unshared.pop((said.version, said.what, said.lane), ()):
            held.copy.denied = True
            if self._copies.peek(held.key) is held.copy:
                self._copies.drop(held.key)

    def _drop_others(self, key: CopyKey) -> None:
        """Drop the finished copies of other versions of a file. Handles keep theirs until their release."""
        if len(self._made) > 2 * self._copies.count:
            self._made = {copy: made for copy, made in self._made.items() if copy.frozen.fd >= 0}
            self._latest = {}
            for copy in self._made:
                if isinstance(copy.key, CopyKey):
                    self._latest.setdefault(copy.key.file, set()).add(copy.key)
            for name, unshared in list(self._unshared.items()):
                unshared[:] = [each for each in unshared if each.copy in self._made]
                if not unshared:
                    del self._unshared[name]
            self._in_doubt &= self._made.keys()
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
        return copy, Proof(before, lambda: True, fd) if proven else None

    async def _copied(self, fd: int, stat: Stat, *, clones: bool, unwritten: bool) -> freezing.Frozen:
        """Copy a file. unwritten: True if no process has the file open for writing. clones: True to clone
        the file. If this is impossible, raise FrozenTooLarge, and make no copy in memory.

        INVARIANT: a thread does this if it may wait for a lock of the file. In passthrough, the kernel holds
        such a lock during an app's read or write, even while it waits for a page of the app. A copy waits for
        writers. On xfs a clone also waits for readers. (Before a clone the kernel writes changes to disk.)
        """

        def make() -> freezing.Frozen:
            root = self._tree.root_fd if clones else None
            return freeze(fd, 0 if clones else self._size_cap, root, clones, self._places)

        quick = not self._reflink and unwritten and stat.size <= _INLINE_BYTES and in_memory(fd, stat.size)
        return make() if quick else await trio.to_thread.run_sync(make)


def _holder(who: Principal) -> str:
    """Return the name under which a caller's use of the cache counts: the app's name, or a text with a
    stranger's uid. (This text has a space, and no app's name has one.)
    """
    return f"stranger {who.uid}" if who.app is None else who.app


__all__ = ["FrozenTooLarge", "Judge", "NoRoom", "Redacted", "Redactor", "Refused"]
