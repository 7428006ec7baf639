"""Files that nobody can change: what is moved to where content is required.

A descriptor or a mapping from where anything may be written would come along with a rename and
write on, past every check. So the file must be without writers: it is looked at under a read
lease (store/leases), which the kernel grants only while no writer and no writable mapping lives
anywhere, and which still has to hold when the name changes.
"""

from __future__ import annotations

import os
from collections.abc import Hashable

from policyfs.domain import KIND_EMPTY
from policyfs.fs.facts import KindSource
from policyfs.fs.nodes import Node, NodeTable
from policyfs.fs.places import Places
from policyfs.store.leases import Lease, LeaseKeeper
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree


class Settled:
    """One file under a lease, and its kind as it was sniffed under it (None: sniffing failed)."""

    __slots__ = ("_fd", "_lease", "kind")

    def __init__(self, fd: int, lease: Lease, kind: str | None) -> None:
        self._fd = fd
        self._lease = lease
        self.kind = kind

    def holds(self) -> bool:
        """True if nobody could change the file since it was looked at."""
        return self._lease.holds()

    def close(self) -> None:
        """Let writers come."""
        self._lease.release()
        os.close(self._fd)


class Settling:
    """Looks at files under leases. keeper is None where leases mean nothing on this store."""

    def __init__(
        self, tree: Tree, nodes: NodeTable, places: Places, kinds: KindSource, keeper: LeaseKeeper | None
    ) -> None:
        self._tree = tree
        self._nodes = nodes
        self._places = places
        self._kinds = kinds
        self._keeper = keeper

    async def settled(self, parent: Node, name: bytes, stat: Stat, lane: Hashable) -> Settled | None:
        """The file *name* in *parent*, if it is the one that *stat* tells of and has no writer.

        The kind is sniffed anew: stat does not change with each store to a mapping, so a kind
        that was found while the file had a writer says nothing.
        """
        if self._keeper is None:
            return None
        fd = self._tree.open_file(self._places.dirfd(parent), name, os.O_RDONLY)
        lease: Lease | None = None
        try:
            now = self._tree.fstat(fd)
            if self._nodes.key_of(now) == self._nodes.key_of(stat) and now.btime_ns == stat.btime_ns:
                lease = self._keeper.grant(fd)
            if lease is None:
                os.close(fd)
                return None
            kind = await self._kinds.kind_of_fd(fd, lane=lane) if now.size else KIND_EMPTY
        except BaseException:
            if lease is not None:
                lease.release()
            os.close(fd)
            raise
        return Settled(fd, lease, kind)
