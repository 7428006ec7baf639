"""Facts for decisions: who owns a file, and what kind sniffing says it is. Only when asked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Hashable
from typing import Protocol

from policyfs.content.cache import KindCache, KindKey
from policyfs.domain import KIND_DIRECTORY, KIND_EMPTY, KIND_SYMLINK, NO_FACTS, Facts, FileType, Need
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree


class KindSource(Protocol):
    """The sniffer, as far as facts need it."""

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        """Content kind of the file behind *fd*, None if sniffing failed."""


class OwnerSource(Protocol):
    """The recorded owners."""

    def get(self, fd: int, stat: Stat) -> str:
        """The owning app, or OWNER_NONE."""

    def set(self, fd: int, stat: Stat, owner: str) -> None:
        """Record the owner."""


class FactFinder:
    """Finds the facts that an answer hangs on, and no others."""

    def __init__(self, tree: Tree, owners: OwnerSource, sniffer: KindSource, kinds: KindCache) -> None:
        self._tree = tree
        self._sniffer = sniffer
        self._kinds = kinds
        self.owners = owners

    async def find(self, need: Need, dirfd: int, name: bytes, stat: Stat, lane: Hashable = None) -> Facts:
        """Facts of *name* in *dirfd*, whose attributes are *stat*. Unknown ones are None.

        lane: for whom it is sniffed: lanes take turns, so that one app's bad files hold up another's
        by one file at most.

        All uses of *dirfd* come before the first await.
        """
        if not need:
            return NO_FACTS
        owner = self.owner_at(dirfd, name, stat) if need & Need.OWNER else None
        if not need & Need.KIND:
            return Facts(None, owner)
        known = self.easy_kind(stat)
        if known is not None:
            return Facts(known, owner)
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        try:
            return Facts(await self.kind_of(fd, lane), owner)
        finally:
            os.close(fd)

    def stat(self, fd: int) -> Stat:
        """Attributes of the file behind a descriptor."""
        return self._tree.fstat(fd)

    def owner_at(self, dirfd: int, name: bytes, stat: Stat) -> str:
        """The recorded owner of *name* in *dirfd*."""
        fd = self._tree.open_path(dirfd, name)
        try:
            return self.owners.get(fd, stat)
        finally:
            os.close(fd)

    def easy_kind(self, stat: Stat) -> str | None:
        """The kind where it can be told without reading: by type, emptiness, or the cache."""
        if stat.ftype is FileType.DIRECTORY:
            return KIND_DIRECTORY
        if stat.ftype is FileType.SYMLINK:
            return KIND_SYMLINK
        if stat.size == 0:
            return KIND_EMPTY
        return self._kinds.get(version_key(stat))

    async def kind_of(self, fd: int, lane: Hashable = None) -> str | None:
        """The kind of the open file *fd*, sniffed unless its stat is the one it was sniffed under."""
        before = self._tree.fstat(fd)
        kind = self.easy_kind(before)
        if kind is None:
            kind = await self._sniffed(fd, lane)
            if kind is not None and version_key(self._tree.fstat(fd)) == version_key(before):
                self._kinds.put(version_key(before), kind)
        return kind

    async def _sniffed(self, fd: int, lane: Hashable) -> str | None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return await self._sniffer.kind_of_fd(fd, lane=lane)
        reader = self._tree.reopen(fd, os.O_RDONLY)  # a writer's: no worker gets one that can write
        try:
            return await self._sniffer.kind_of_fd(reader, lane=lane)
        finally:
            os.close(reader)


def version_key(stat: Stat) -> KindKey:
    return KindKey(stat.dev, stat.ino, stat.btime_ns, stat.size, stat.mtime_ns, stat.ctime_ns)
