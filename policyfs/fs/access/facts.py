"""The fact finder reads a file's owner, and sniffs the file's kind, only if a decision needs these facts.

A remembered kind is used only while a read lease is held. A kind is remembered only if such a lease held
while the file was sniffed (docs/decisions/0017-a-kind-counts-under-a-lease.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Hashable

from policyfs.content.cache import KindCache, KindKey
from policyfs.content.failures import NoAnswerError
from policyfs.content.sniffer import Sniffer
from policyfs.domain import (
    FIXED_KINDS,
    KIND_EMPTY,
    NO_FACTS,
    OWNER_NONE,
    Facts,
    Need,
    in_turn,
)
from policyfs.fs.access.kind_proof import KindEvidence, UnprovenKindError
from policyfs.fs.sharing.kernel_locks import KernelLocks, LateError, is_urgent
from policyfs.linux.statx import Stat
from policyfs.store.locking.leases import Lease, LeaseKeeper
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree


class SteadyOwner:
    """The owner of a file while its bytes are copied: OWNER_NONE if it changes, since copied bytes can be
    another app's.

    INVARIANT: made before the copy, and asked (now()) after it. An app's open of another's file for writing
    first makes the owner OWNER_NONE (write_access.py)."""

    def __init__(self, find: Callable[[], str | None]) -> None:
        """find: finds the owner; None if no decision depends on the owner."""
        self._find = find
        self._first = find()

    def now(self) -> str | None:
        """Return the owner, if the owner has not changed since the object was made, else OWNER_NONE."""
        return self._first if self._find() == self._first else OWNER_NONE


class FactFinder:
    """A finder that reads the facts on which a decision depends, and no other facts.

    keeper: grants read leases; None if they prove nothing on the store. times_tell: True if a closed file's
    times show each write (StoreFacts). If not, remembered kinds count only for `see`."""

    def __init__(
        self,
        tree: Tree,
        owners: Owners,
        sniffer: Sniffer,
        kinds: KindCache,
        keeper: LeaseKeeper | None = None,
        *,
        times_tell: bool = True,
        locks: KernelLocks | None = None,
    ) -> None:
        self._locks = locks or KernelLocks()
        self._tree = tree
        self._sniffer = sniffer
        self._kinds = kinds
        self._keeper = keeper
        self._remembers = keeper is not None and times_tell
        self.failed = 0
        """The number of files whose kind was not found, because sniffing failed."""
        self.owners = owners

    async def find(
        self, need: Need, dirfd: int, name: bytes, stat: Stat, lane: Hashable = None,
        *, evidence: KindEvidence | None = None, seeing: bool = False,
    ) -> Facts:  # fmt: skip
        """Return the facts of *name* in *dirfd* (used before the first await only); an unknown fact is None.

        lane: the callers for which the file is sniffed. Lanes take turns, so that one app's slow files do not
        stop others. evidence: keeps the lease that proves the kind. seeing: True if the kind decides only on
        `see`."""
        if not need:
            return NO_FACTS
        exactly = evidence is not None and evidence.expected is not None
        owner = self.owner_at(dirfd, name, stat, exactly=exactly) if need & Need.OWNER else None
        if evidence is not None:
            evidence.owner = owner
        if not need & Need.KIND:
            return Facts(None, owner)
        known = FIXED_KINDS.get(stat.ftype) or (self._by_stat(stat, lane) if seeing else None)
        if known is not None:
            return Facts(known, owner)
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        return Facts(await self._kind_of_own(fd, lane, evidence, seeing=seeing), owner)

    async def behind(
        self, fd: int, need: Need, lane: Hashable = None,
        *, evidence: KindEvidence | None = None, seeing: bool = False,
    ) -> Facts:  # fmt: skip
        """Return the facts of the object behind a descriptor (O_PATH is enough). evidence, seeing: as in
        find()."""
        owner = self.owner_of(fd) if need & Need.OWNER else None
        if evidence is not None:
            evidence.owner = owner
        if not need & Need.KIND:
            return Facts(None, owner)
        stat = self._tree.fstat(fd)
        known = FIXED_KINDS.get(stat.ftype) or (self._by_stat(stat, lane) if seeing else None)
        if known is not None:
            return Facts(known, owner)
        return Facts(await self.kind_of(fd, lane, evidence=evidence, seeing=seeing), owner)

    def stat(self, fd: int) -> Stat:
        """Return the attributes of the file behind a descriptor."""
        return self._tree.fstat(fd)

    def owner_of(self, fd: int, below: int = -1) -> str:
        """Return the recorded owner of the file behind a descriptor, or OWNER_NONE. below: the branch's file,
        if this is read in place of a pool's: its record counts; -1 for none."""
        return self.owners.get(fd if below < 0 else below, self.stat(fd))

    def owner_at(self, dirfd: int, name: bytes, stat: Stat, *, exactly: bool = False) -> str:
        """Return the recorded owner of the object with these attributes that had *name* in *dirfd*. If
        another object has the name, return OWNER_NONE (with a database the right owner), or with *exactly*
        raise OSError(ESTALE): the kernel looks again, and the app gets no wrong EACCES."""
        fd = self._tree.open_path(dirfd, name)
        try:
            owner = self.owners.get(fd, stat)
            if exactly and owner == OWNER_NONE and not self._tree.fstat(fd).same_inode(stat):
                raise OSError(errno.ESTALE, "another file has this name now")
            return owner
        finally:
            os.close(fd)

    async def kind_of(
        self, fd: int, lane: Hashable = None, *, evidence: KindEvidence | None = None, seeing: bool = False
    ) -> str | None:
        """Return the kind of the file behind *fd* (O_PATH is enough): remembered, if a lease proves it, or
        sniffed. None if sniffing failed. evidence: keeps the lease until the request takes effect. seeing:
        for `see`, where an unchanged stat is enough on a store without useful leases.

        Raise OSError(ESTALE) if *evidence* expects another file, UnprovenKindError if it gets no lease."""
        is_open = not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
        if self._keeper is None and is_open:  # a store without leases may take long to open a file anew
            return await self._kind_of_own(os.dup(fd), lane, evidence, seeing=seeing)
        return await self._kind_of_own(self._tree.reopen(fd, os.O_RDONLY), lane, evidence, seeing=seeing)

    async def _kind_of_own(
        self, fd: int, lane: Hashable, evidence: KindEvidence | None, *, seeing: bool
    ) -> str | None:
        """Return the kind behind *fd*, which *evidence* owns afterwards; without it, close *fd*."""
        lease: Lease | None = None
        try:
            lease = None if self._keeper is None else self._keeper.grant(fd)
            # INVARIANT: stat is read after the lease is granted. So its times show all earlier writes.
            stat = self._tree.fstat(fd)
            expected = None if evidence is None else evidence.expected
            if expected is not None and not stat.same_inode(expected):
                raise OSError(errno.ESTALE, "another file has this name now")
            if lease is None and evidence is not None and evidence.proven_only:
                raise UnprovenKindError
            kind = self._known(stat, lease, lane, seeing=seeing)
        except BaseException:
            _give_up(fd, lease)
            raise
        if kind is None:
            kind = await self._locks.apart(
                in_turn(lane),
                lambda: self._found(fd, stat, lease, lane, seeing=seeing),
                lambda: _give_up(fd, lease),
            )
        if evidence is None:
            _give_up(fd, lease)
        else:
            evidence.asked = True
            evidence.keep(fd, lease)
        return kind

    def _known(self, stat: Stat, lease: Lease | None, lane: Hashable, *, seeing: bool) -> str | None:
        """Return the kind of the file version in *stat* if no worker is needed, else None."""
        if stat.size == 0:
            return KIND_EMPTY
        return self._proven(stat, lease, lane) or (self._by_stat(stat, lane) if seeing else None)

    async def _found(
        self, fd: int, stat: Stat, lease: Lease | None, lane: Hashable, *, seeing: bool
    ) -> str | None:
        if self._may_keep(stat, fd, lease, seeing=seeing):
            known = await self._kinds.recall(version_key(stat), lane)
            if known is not None and self._may_keep(stat, fd, lease, seeing=seeing):
                return known
        kind = await self._sniffed(fd, lane, must=seeing or is_urgent())
        self.failed += kind is None
        if kind is not None and self._may_keep(stat, fd, lease, seeing=seeing):
            self._kinds.put(version_key(stat), kind, lane, lasting=not self._tells_only_stat(stat))
        return kind

    async def _sniffed(self, fd: int, lane: Hashable, *, must: bool) -> str | None:
        """Return the kind that a worker finds, or None. must: raise LateError if no worker has answered in
        time: a name must not seem absent because a disk is slow, since programs that copy directories would
        delete the copy.

        INVARIANT: a worker gets no descriptor with a lease. It may live longer than the daemon."""
        is_reader = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        reader = fd if self._keeper is None and is_reader else self._tree.reopen(fd, os.O_RDONLY)
        try:
            return await self._sniffer.kind_of_fd(reader, lane=lane, first=is_urgent(), must=must)
        except NoAnswerError:
            raise LateError from None
        finally:
            if reader != fd:
                os.close(reader)

    def _proven(self, stat: Stat, lease: Lease | None, lane: Hashable) -> str | None:
        if lease is None or self._tells_only_stat(stat):
            return None
        return self._kinds.get(version_key(stat), lane)

    def _by_stat(self, stat: Stat, lane: Hashable) -> str | None:
        """Return the remembered kind of this file version for `see` if no lease can prove a kind here."""
        return self._kinds.get(version_key(stat), lane) if self._tells_only_stat(stat) else None

    def _tells_only_stat(self, stat: Stat) -> bool:
        if self._keeper is None or not self._remembers:
            return True
        return self._keeper.is_void(stat.dev) or self._keeper.is_silent(stat.dev)

    def _may_keep(self, stat: Stat, fd: int, lease: Lease | None, *, seeing: bool) -> bool:
        """Return True if the kind may be remembered: under a lease, or for `see` of an unchanged file."""
        if self._tells_only_stat(stat):
            return seeing and version_key(self._tree.fstat(fd)) == version_key(stat)
        return lease is not None and lease.holds()


def _give_up(fd: int, lease: Lease | None) -> None:
    if lease is not None:
        lease.release()
    os.close(fd)


def version_key(stat: Stat) -> KindKey:
    return KindKey(stat.dev, stat.ino, stat.btime_ns, stat.size, stat.mtime_ns, stat.ctime_ns)
