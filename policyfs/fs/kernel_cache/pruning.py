"""The limit of nodes that the kernel knows, each with a node in the daemon. The kernel forgets nodes when its
own memory is short, so without a limit an app could make the daemon grow without end."""

from __future__ import annotations

from typing import Final

from policyfs.fs.inodes.node_table import NodeTable
from policyfs.kernel.notify import Notifier

_MARGIN: Final = 256
"""The number of nodes to forget below the limit, so that new nodes find room until the next call."""
_AT_ONCE: Final = 2_048
"""The limit of nodes in one notification, which the kernel handles without a pause (milliseconds)."""
_LONGEST_PAUSE: Final = 64
"""The longest pause, as a number of calls of prune()."""


class Pruning:
    """The part of a mount that keeps the number of nodes near its limit, unless apps use too many.

    The kernel keeps a node that a process has open, maps, watches or works in, or that has names below
    (fs/fuse/dev.c, fuse_notify_prune). asked: the number of nodes that it was asked to forget."""

    def __init__(self, nodes: NodeTable, most: int) -> None:
        self._nodes = nodes
        self._most = most
        self._gone = 0
        self._pause = 0
        self._resting = 0
        self.asked = 0

    def prune(self, notify: Notifier) -> bool:
        """Ask the kernel to forget nodes beyond the limit. Return True if the next call is due in 50 ms."""
        excess = len(self._nodes) - self._most
        if excess <= 0 or self._rests():
            return excess > 0
        oldest = self._nodes.oldest(min(excess + _MARGIN, _AT_ONCE))
        # Except after moves, a child has a higher number than its directory. So the kernel forgets the child
        # first, and can then forget the directory, too.
        idle = sorted((node.nodeid for node in oldest if node.is_idle), reverse=True)
        if idle and notify.prune(idle):
            self.asked += len(idle)
        return True

    def _rests(self) -> bool:
        """Return True during a pause. Each pause without a freed node makes the next one longer."""
        if self._resting > 0:
            self._resting -= 1
            return True
        gone, self._gone = self._nodes.gone - self._gone, self._nodes.gone
        self._pause = 0 if gone else min(2 * self._pause + 1, _LONGEST_PAUSE)
        self._resting = self._pause
        return False
