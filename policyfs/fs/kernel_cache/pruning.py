"""A bound on what the kernel knows by number: beyond it, the oldest that nothing uses is asked back.

Each file or directory that is looked up has a node here for as long as the kernel knows it, and the kernel
forgets when its own memory is short, never when the daemon's is. So one app that makes or looks up files
without end would have the daemon grow by as many nodes.
"""

from __future__ import annotations

from typing import Final, Protocol

from policyfs.fs.inodes.node_table import NodeTable

_MARGIN: Final = 256
"""So many more go than must, so that what comes until the next time finds room."""
_AT_ONCE: Final = 2_048
"""Nodes asked for in one notification, which the kernel works on in one go: some milliseconds."""
_LONGEST_PAUSE: Final = 64


class Notify(Protocol):
    """What tells the kernel to forget nodes that nothing uses; False where it cannot be told."""

    def prune(self, nodeids: list[int], /) -> bool: ...


class Pruning:
    """Keeps a table of nodes near its bound, as far as apps do not use more of them at the same time.

    The kernel gives back what no process has open, is in, maps or watches, and below which it knows nothing
    (fs/fuse/dev.c, fuse_notify_prune). asked: nodes that it was asked for, each time counted.
    """

    def __init__(self, nodes: NodeTable, most: int) -> None:
        self._nodes = nodes
        self._most = most
        self._gone = 0
        self._pause = 0
        self._resting = 0
        self.asked = 0

    def prune(self, notify: Notify) -> None:
        """Ask for what is beyond the bound; called several times a second."""
        excess = len(self._nodes) - self._most
        if excess <= 0 or self._rests():
            return
        oldest = self._nodes.oldest(min(excess + _MARGIN, _AT_ONCE))
        # A child has its number after its directory, but for moves: it goes first, and sets that free.
        idle = sorted((node.nodeid for node in oldest if node.is_idle), reverse=True)
        if idle and notify.prune(idle):
            self.asked += len(idle)

    def _rests(self) -> bool:
        """Whether to wait, longer each time that nothing came of it: everything is in use."""
        if self._resting > 0:
            self._resting -= 1
            return True
        gone, self._gone = self._nodes.gone - self._gone, self._nodes.gone
        self._pause = 0 if gone else min(2 * self._pause + 1, _LONGEST_PAUSE)
        self._resting = self._pause
        return False
