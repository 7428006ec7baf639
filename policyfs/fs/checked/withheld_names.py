"""Withheld names: if a close of a new file was refused, no app sees its name until its content is accepted.

FLUSH comes whenever a duplicate of a descriptor is closed. So a refused FLUSH is not the end: the file keeps
its name in the store, and the writer can still correct the file. But close() has failed, and the daemon must
not show the name of a file without its bytes. After an accepted FLUSH or fsync the daemon shows the name
again. If no FLUSH or fsync is accepted, the daemon removes the name at the last release.

No other file can take a withheld name, since the writer may still correct its file: requests for the name
fail with EBUSY or EEXIST. close() answers before the kernel releases the file, so requests wait a moment
before that error.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from policyfs.fs.inodes.node import NamesForgotten, Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.linux.statx import Stat

_WAIT_S: Final = 0.5
"""The longest wait for a withheld name whose file is about to be released."""
_NUMBER: Final = (1 << 64) - 1


class WithheldNames:
    """The files in one mount whose names are withheld: no app sees the names until the content is accepted.
    Event loop only. forget_names, forget_now: make the kernel forget a node's names, a moment later, or
    before the return."""

    def __init__(
        self, nodes: NodeTable, forget_names: NamesForgotten, forget_now: Callable[[Node], Awaitable[None]]
    ) -> None:
        self._nodes = nodes
        self._forget_names = forget_names
        self._forget_now = forget_now
        self._files: dict[int, tuple[int, trio.Event]] = {}
        self._numbers: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._files)

    async def hide(self, node: Node) -> None:
        """Withhold a file's names. Return once the kernel has forgotten them, or after a time limit
        (KernelCache.forget_seen)."""
        if node.ino not in self._files:
            self.withhold(node)
            await self._forget_now(node)

    def withhold(self, node: Node) -> None:
        """Withhold a file's names. The kernel may still know them."""
        if node.open is not None:
            node.open.withheld = True
        self._files[node.ino] = node.btime_ns, trio.Event()
        self._nodes.vectors.drop_nodes(self._nodes.same_inode(node.ino))
        number = node.ino & _NUMBER
        self._numbers[number] = self._numbers.get(number, 0) + 1

    def show(self, node: Node) -> None:
        """Show a file's names again, if it still has any. The kernel forgets listings without them a moment
        later; a program that lists such a directory before that gets a new one."""
        found = self._files.pop(node.ino, None)
        if found is None:
            return
        number = node.ino & _NUMBER
        self._numbers[number] -= 1
        if not self._numbers[number]:
            del self._numbers[number]
        found[1].set()
        for known in self._nodes.same_inode(node.ino):
            for parent, _ in known.all_names():
                parent.listed = None
                self._nodes.vectors.drop(parent)  # so the kernel no longer uses the listing that it keeps
        self._forget_names(node)

    def has(self, stat: Stat) -> bool:
        """Return True if this file's names are withheld (hidden until its content is accepted)."""
        if not self._files:
            return False
        found = self._files.get(self._nodes.key_of(stat))
        return found is not None and found[0] == stat.btime_ns

    @property
    def numbers(self) -> Collection[int]:
        """The inode numbers of all files with withheld (hidden) names, on any file system."""
        return self._numbers

    def may_have(self, number: int) -> bool:
        """Return True if a file with this inode number, on any file system, may have withheld names."""
        return number in self._numbers

    async def free(self, stat: Stat) -> None:
        """Wait a moment until a file's names are no longer withheld. Raise OSError(EBUSY) if they are after
        _WAIT_S."""
        if not self.has(stat):
            return
        _, ended = self._files[self._nodes.key_of(stat)]
        with trio.move_on_after(_WAIT_S):
            await ended.wait()
            return
        raise OSError(
            errno.EBUSY,
            "a program still has a file with this name open, and the content of the file was refused",
        )
