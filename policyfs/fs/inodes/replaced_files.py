"""Replaced files, whose name another file has just taken. They can be opened for a moment longer.

Natively an open that has found a file opens it, also if a rename takes its name before the open is
done. Here LOOKUP and OPEN are two requests, and the kernel's second try may meet the next rename:
the app would see ESTALE. So a replaced file stays within reach for _KEPT_S.

A replacement elsewhere (in the store, through another mount) is not known in time, and the first OPEN
fails. Then the file that the kernel's second LOOKUP finds by that name is kept within reach, for one
open. A later open that comes without a LOOKUP must find the file that has the name by then.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.node import Node
from policyfs.store import freeing

_KEPT_S: Final = 0.25
_MOST: Final = 64
_MISSED_S: Final = 5.0
"""The longest time until the kernel's second try."""


class ReplacedFiles:
    """Descriptors of replaced files, by node; few and short-lived, since they hold disk space."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._once: set[int] = set()
        self._missed = Expiring[bytes, bool](_MISSED_S, most=_MOST)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, node: Node, fd: int, *, once: bool = False) -> None:
        """Take over a descriptor (O_RDONLY or O_PATH) of a node that is losing its last name.

        once: keep it for one open only, since the node may lose its name before that open.
        """
        self._let_go(node.nodeid)
        if once:
            self._once.add(node.nodeid)
        self._kept[node.nodeid] = (fd, time.monotonic() + _KEPT_S)
        while len(self._kept) > _MOST:
            self._let_go(next(iter(self._kept)))

    def find(self, node: Node) -> int:
        """Return the descriptor kept for a node, which stays ours; -1 if there is none."""
        kept = self._kept.get(node.nodeid)
        return -1 if kept is None or kept[1] < time.monotonic() else kept[0]

    def opened(self, node: Node) -> None:
        """Note the open for which a node was kept."""
        if node.nodeid in self._once:
            self._let_go(node.nodeid)
        if self._missed:
            self._missed.pop(node.path())

    def missed(self, node: Node) -> None:
        """Note that an open did not find the file of its LOOKUP: the node's name leads elsewhere."""
        self._missed.put(node.path(), True)

    def is_wanted(self, node: Node) -> bool:
        """True if a node that was just found by its name must be kept: an open missed that name before.

        (The kernel may look twice before it tries again.)
        """
        return bool(self._missed and self._missed.get(node.path()))

    def expire(self) -> None:
        """Close descriptors that were kept long enough; called from time to time."""
        while self._kept:
            nodeid, (_, until) = next(iter(self._kept.items()))
            if until >= time.monotonic():
                return
            self._let_go(nodeid)

    def close(self) -> None:
        """Close all kept descriptors."""
        while self._kept:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, nodeid: int) -> None:
        self._once.discard(nodeid)
        kept = self._kept.pop(nodeid, None)
        if kept is not None:
            freeing.close(kept[0])
