"""The limit of nodes that the kernel knows. Beyond the limit, the kernel must forget the oldest unused nodes.

Each file or directory that was looked up has a node in the daemon as long as the kernel knows the node. The
kernel forgets nodes when its own memory is short, never when the daemon's memory is short. So without this
limit, an app that makes or looks up files without end would make the daemon grow without end.
"""

from __future__ import annotations

from typing import Final, Protocol

from policyfs.fs.inodes.node_table import NodeTable

_MARGIN: Final = 256
"""The number of nodes to forget below the limit, so that new nodes find room until the next call."""
_AT_ONCE: Final = 2_048
"""The limit of nodes in one notification, which the kernel handles without a pause (milliseconds)."""
_LONGEST_PAUSE: Final = 64
"""The longest pause, as a number of calls of prune()."""


class Notify(Protocol):
    """A notifier that can ask the kernel to forget unused nodes. prune() returns False if the kernel does not
    know this notification.
    """

    def prune(self, nodeids: list[int], /) -> bool: ...


class Pruning:
    """The part of a mount that keeps the number of nodes near its limit. The number stays above the limit
    only while apps use too many nodes.

    The kernel forgets a node if no process has the node open, maps it, watches it or works in it, and if the
    kernel knows no name below the node (fs/fuse/dev.c, fuse_notify_prune). asked: the number of nodes that
    the kernel was asked to forget so far.
    """

    def __init__(self, nodes: NodeTable, most: int) -> None:
        self._nodes = nodes
        self._most = most
        self._gone = 0
        self._pause = 0
        self._resting = 0
        self.asked = 0

    def prune(self, notify: Notify) -> bool:
        """Ask the kernel to forget nodes beyond the limit. Return False if there are none. Else the caller
        calls again within 50 ms.
        """
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
        """Return True during a pause. Each pause without a freed node (all are in use) makes the next one
        longer."""
        if self._resting > 0:
            self._resting -= 1
            return True
        gone, self._gone = self._nodes.gone - self._gone, self._nodes.gone
        self._pause = 0 if gone else min(2 * self._pause + 1, _LONGEST_PAUSE)
        self._resting = self._pause
        return False
