"""Notifications that make the kernel forget names, attributes and pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

import trio

from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.fs.kernel_cache.name_expiry import AbsentNames, ListedNames, NameExpiry, Stays
from policyfs.fs.kernel_cache.pruning import Pruning
from policyfs.kernel.notify import Notifier

_FORGET_S: Final = 2.0


class KernelCache:
    """The part of a mount that makes the kernel empty its caches. notifier: None until the session runs;
    until then the methods do nothing."""

    def __init__(self, nodes: NodeTable, changes: Invalidation, resolver: Resolver) -> None:
        self._nodes = nodes
        self._changes = changes
        self._resolver = resolver
        self.absent_names = AbsentNames(self.forget_absent)
        self.listed_names = changes.listed = ListedNames(self.expire_entries)
        self.expiry = NameExpiry(nodes, self.absent_names, self.listed_names)
        self.notifier: Notifier | None = None
        nodes.found_elsewhere = self.forget_all_names

    def tend(self, pruning: Pruning) -> bool:
        """Keep the number of nodes near its limit, and replace a notifying thread that hangs in the kernel.
        Return True if the next call is due in 50 ms."""
        if self.notifier is None:
            return False
        has_excess = pruning.prune(self.notifier)
        return self.notifier.tend() or has_excess

    def is_over(self) -> bool:
        """Return True if the mount has ended: no caller waits for an answer any more."""
        return self.notifier is not None and self.notifier.is_over()

    def drop_pages(self, nodeid: int, offset: int = 0, length: int = 0) -> None:
        """Make the kernel drop the pages of a node: *length* bytes from *offset* on (0, 0: all pages)."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid, offset, length)

    def forget_attributes(self, nodeid: int) -> None:
        """Queue a notification that makes the kernel forget a node's attributes."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid)

    def forget_attributes_now(self, nodeid: int) -> None:
        """Make the kernel forget the attributes of an open node before this call returns."""
        if self.notifier is not None:
            self.notifier.inval_attributes_now(nodeid)

    async def forget_seen(self, nodeid: int, *, pages: bool) -> None:
        """Make the kernel forget a node's attributes, with *pages* its pages, too. Return after that, or
        after _FORGET_S.

        INVARIANT: the kernel holds no directory's lock, for which an earlier notification may wait."""
        forgotten, token = trio.Event(), trio.lowlevel.current_trio_token()

        def done() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(forgotten.set)

        if self.notifier is not None and self.notifier.inval_then(nodeid, done, pages=pages):
            with trio.move_on_after(_FORGET_S):  # a notifier that is being closed never calls done()
                await forgotten.wait()

    def forget_entries(self, node: Node) -> None:
        """Make the kernel forget a file's names, and listings with them, after the daemon's own changes,
        which the watch does not report."""
        for known in self._nodes.same_inode(node.ino):
            for parent, name in known.all_names():
                parent.changes += 1
                if self.notifier is not None:
                    self.notifier.inval_entry(parent.nodeid, name, True)
                    self.notifier.inval_inode(parent.nodeid, 0, 0)

    def forget_names(self, node: Node) -> None:
        """Make the kernel forget a file's attributes, its names, and the listings that contain them."""
        self.forget_entries(node)
        for known in self._nodes.same_inode(node.ino):
            self.forget_attributes(known.nodeid)

    async def forget_names_now(self, node: Node) -> None:
        """Make the kernel forget a file's names (forget_names()), and wait for that, at most _FORGET_S."""
        self.forget_names(node)
        await self.forget_seen(node.nodeid, pages=False)  # notifications are sent in order

    def forget_attributes_of_all(self, lost: Iterable[int] = ()) -> None:
        """Make the kernel forget all attributes, pages and listings. lost: numbers of nodes that only the
        kernel knows."""
        if self.notifier is not None:
            self._changes.forget_attributes(self.notifier, self._resolver, lost)

    async def expire_all_names(self, stays: Stays | None = None) -> bool:
        """Make the kernel look up every name again after a reload, or a take-over (stays: all_stay). Return
        False if it drops all at once: then working directories have no path for a moment."""
        return self.notifier is None or await self.expiry.expire(self.notifier, stays)

    def forget_absent(self, parent: int, name: bytes) -> bool:
        """Make the kernel forget that a name is absent. Return False if the notification cannot be sent."""
        return self.notifier is None or self.notifier.inval_entry(parent, name, True)

    def forget_name(self, parent: int, name: bytes) -> None:
        """Make the kernel drop a name, and the path of what is below."""
        if self.notifier is not None:
            self.notifier.inval_entry(parent, name, False)

    def expire_entries(self, names: Iterable[tuple[int, bytes]]) -> None:
        """Make the kernel look up these names again. names: pairs (directory node, name)."""
        if self.notifier is not None:
            self.notifier.expire_entries(names)

    def forget_all_names(self) -> None:
        """Make the kernel look up every name again, from the return on (before FUSE 7.44 a moment later)."""
        if self.notifier is not None and not self.expiry.expire_at_once(self.notifier):
            self.reset()

    def reset(self) -> None:
        """Make the kernel forget everything that depends on names."""
        if self.notifier is not None:
            self._changes.reset(self.notifier, self._resolver)
