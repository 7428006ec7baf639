"""Messages that make the kernel forget names, attributes and pages."""

from __future__ import annotations

import contextlib
from typing import Final

import trio

from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.invalidation import Invalidation
from policyfs.kernel.notify import Notifier

_FORGET_S: Final = 2.0


class KernelCache:
    """The kernel's memory of one mount, to be forgotten in parts. Nothing before the session runs.

    notifier: None until then.
    """

    def __init__(self, nodes: NodeTable, changes: Invalidation, resolver: Resolver) -> None:
        self._nodes = nodes
        self._changes = changes
        self._resolver = resolver
        self.notifier: Notifier | None = None

    def drop_pages(self, nodeid: int) -> None:
        """Have the kernel drop the pages of a node."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid, 0, 0)

    def forget_attributes(self, nodeid: int) -> None:
        """Have the kernel ask for a node's attributes, as soon as it hears of it."""
        if self.notifier is not None:
            self.notifier.inval_inode(nodeid)

    def forget_attributes_now(self, nodeid: int) -> None:
        """Have the kernel ask for the attributes of a node that is open; it does when this returns."""
        if self.notifier is not None:
            self.notifier.inval_attributes_now(nodeid)

    async def forget_size(self, nodeid: int) -> None:
        """Have the kernel ask for a node's attributes before it goes by them again."""
        await self.forget_seen(nodeid, pages=False)

    async def forget_seen(self, nodeid: int, *, pages: bool) -> None:
        """Have the kernel ask for a node's attributes, and pages if so told; it does when this returns."""
        forgotten, token = trio.Event(), trio.lowlevel.current_trio_token()

        def done() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(forgotten.set)

        if self.notifier is not None and self.notifier.inval_then(nodeid, done, pages=pages):
            with trio.move_on_after(_FORGET_S):  # a notifier that is being closed says nothing more
                await forgotten.wait()

    def forget_names(self, node: Node) -> None:
        """Have the kernel ask for a file's names, the listings they are in, and its attributes.

        For our own changes: the watch does not report them.
        """
        for known in self._nodes.same_inode(node.ino):
            for parent, name in known.all_names():
                if self.notifier is not None:
                    self.notifier.inval_entry(parent.nodeid, name, True)
                    self.notifier.inval_inode(parent.nodeid, 0, 0)
                    self.notifier.inval_inode(known.nodeid)

    async def forget_names_now(self, node: Node) -> None:
        """As forget_names; the kernel has forgotten them when this returns."""
        self.forget_names(node)
        await self.forget_size(node.nodeid)  # notifications go in the order in which they were asked for

    def forget_all_names(self) -> None:
        """Have the kernel ask for every name, also in requests that come before our next word to it.

        A kernel before FUSE 7.44 cannot be told at once: it forgets them a moment later.
        """
        if self.notifier is not None and not self.notifier.inc_epoch_now():
            self.reset()

    def reset(self) -> None:
        """Have the kernel forget everything that hangs on the policy or on names."""
        if self.notifier is not None:
            self._changes.reset(self.notifier, self._resolver)
