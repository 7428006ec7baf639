"""Moves of files to a path with content requirements: nobody may change the files meanwhile.

A descriptor or a mapping that was made at a path without requirements stays valid after a rename. An app
could use it to write without any check. So the file must have no writers. The file is checked under a read
lease (store/leases), which the kernel grants only while no writer and no writable mapping exists anywhere.
The lease must still hold when the name changes.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from functools import partial
from typing import Self

from policyfs.content.sniffer import Sniffer
from policyfs.domain import KIND_EMPTY, TO_TELL, in_turn, only_forbidden, to_clean
from policyfs.fs.access.facts import version_key
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.node import Node
from policyfs.fs.redacted.plans import PlanFinder, Proof
from policyfs.fs.sharing.kernel_locks import is_urgent
from policyfs.linux.statx import Stat
from policyfs.redact.core.values import Outcome
from policyfs.store.locking.leases import Lease, LeaseKeeper


class Named:
    """A file that is to be moved, and its descriptor (O_PATH at least). close() closes the descriptor."""

    __slots__ = ("fd", "ino", "why")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.why = ""
        """The reason to refuse the file where rules forbid data, or ""."""
        self.ino = os.fstat(fd).st_ino

    @classmethod
    def taking(cls, fd: int) -> Self:
        """Return the file behind *fd*. If its attributes cannot be read, close *fd* and raise OSError."""
        try:
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def holds(self) -> bool:
        """Return True if the file has one name only: at another name, other rules would check a write."""
        return os.fstat(self.fd).st_nlink == 1

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class Unsettled(Named):
    """A file that is to be moved but cannot be checked now: it has a writer, or the store has no leases."""

    __slots__ = ()

    def holds(self) -> bool:
        """Return False, because no lease proves that the file stays unchanged."""
        return False


class Settled(Named):
    """A file that is to be moved, with a read lease on the file, and the facts found under this lease.

    kind: None if sniffing failed. free_of: the words of which the file holds no data. bare: True if the file
    must have no ``user.*`` attributes.
    """

    __slots__ = ("_bare", "_lease", "free_of", "kind")

    def __init__(self, fd: int, lease: Lease, *, bare: bool) -> None:
        super().__init__(fd)
        self._bare = bare
        self._lease = lease
        self.kind: str | None = None
        self.free_of = frozenset[str]()

    def holds(self) -> bool:
        """Return True if the file is unchanged since its check, and may still be moved.

        The file may be moved if it has no other name, and no forbidden extended attributes. (A lease does not
        prevent new attributes.)
        """
        return super().holds() and self._lease.holds() and not (self._bare and self._brings_attributes())

    def _brings_attributes(self) -> bool:
        return any(name.startswith("user.") for name in os.listxattr(self.fd))

    def close(self) -> None:
        """Release the lease, so that waiting writers go on, and close the descriptor."""
        self._lease.release()
        super().close()


class MovedFiles(FsPart):
    """A checker that checks moved files under leases. keeper: None if leases prove nothing on this store."""

    def __init__(
        self,
        fs: FsContext,
        kinds: Sniffer,
        plans: PlanFinder,
        keeper: LeaseKeeper | None,
    ) -> None:
        super().__init__(fs)
        self._kinds = kinds
        self._plans = plans
        self._keeper = keeper

    async def settled(
        self, parent: Node, name: bytes, stat: Stat, lane: Hashable, words: frozenset[str] | None
    ) -> Settled | None:
        """Take a lease on the file *name* in *parent*, check the file, and return it.

        Return None if the file has a writer, if *stat* is of another file, or if leases prove nothing on this
        store. words: the sorts of data that the file may not hold; None if its content does not matter. stat:
        the attributes of the file that is to be moved.

        The kind is sniffed anew. A kind that was found while the file had a writer proves nothing: a store
        into a mapping can change the kind, and leave the file's times unchanged.
        """
        if self._keeper is None:
            return None
        fd = self._tree.open_file(self._resolver.dirfd(parent), name, os.O_RDONLY)
        lease: Lease | None = None
        try:
            now = self._tree.fstat(fd)
            if self._nodes.key_of(now) == self._nodes.key_of(stat) and now.btime_ns == stat.btime_ns:
                lease = self._keeper.grant(fd)
            if lease is None:
                os.close(fd)
                return None
            found = Settled(fd, lease, bare=bool(words))
        except BaseException:
            os.close(fd)
            raise
        if words is not None and not now.size:
            found.kind, found.free_of = KIND_EMPTY, words
        elif words is not None:
            look = partial(self._look, found, now, words, lane, lease)
            await self._locks.apart(in_turn(lane), look, found.close)
        return found

    async def _look(
        self, found: Settled, stat: Stat, words: frozenset[str], lane: Hashable, lease: Lease
    ) -> None:
        fd = found.fd
        if not words:
            found.kind = await self._kinds.kind_of_fd(fd, lane=lane, first=is_urgent())
            return
        proof = Proof(version_key(stat), lease.holds)
        kind: str | None = None
        free, cleans = frozenset[str](), to_clean(words)
        if cleans:
            kind, plan = await self._plans.locate(fd, cleans, lane=lane, proof=proof)
            if plan.outcome is Outcome.CLEAN:
                free = words - only_forbidden(words, cleans)
        forbidden = only_forbidden(words, cleans if free else frozenset())
        if forbidden:
            kind, plan = await self._plans.locate(fd, forbidden | {TO_TELL}, lane=lane, proof=proof)
            if plan.outcome is Outcome.CLEAN:
                free |= forbidden
            else:
                found.why = plan.reason
        found.kind, found.free_of = kind, free
