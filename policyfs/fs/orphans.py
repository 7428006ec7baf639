"""Files whose name another file has just taken: they can be opened for a moment longer.

Natively an open that has found a file opens it, also if a rename takes its name before the open is
done. Here LOOKUP and OPEN are two requests, and the kernel's second try may meet the next rename:
the app would see ESTALE. So the file that is replaced stays within reach for _KEPT_S.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from typing import Final

from policyfs.fs.nodes import Node

_KEPT_S: Final = 0.25
_MOST: Final = 64


class Orphans:
    """Descriptors of replaced files, by node; few and short-lived, for they hold disk space."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, node: Node, fd: int) -> None:
        """Take over an O_RDONLY descriptor of a node that is losing its last name."""
        self._let_go(node.nodeid)
        self._kept[node.nodeid] = (fd, time.monotonic() + _KEPT_S)
        while len(self._kept) > _MOST:
            self._let_go(next(iter(self._kept)))

    def find(self, node: Node) -> int:
        """The descriptor kept for a node, still ours; -1 if there is none."""
        kept = self._kept.get(node.nodeid)
        return -1 if kept is None or kept[1] < time.monotonic() else kept[0]

    def expire(self) -> None:
        """Close what was kept long enough; called from time to time."""
        while self._kept:
            nodeid, (_, until) = next(iter(self._kept.items()))
            if until >= time.monotonic():
                return
            self._let_go(nodeid)

    def close(self) -> None:
        """Close all."""
        while self._kept:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, nodeid: int) -> None:
        kept = self._kept.pop(nodeid, None)
        if kept is not None:
            os.close(kept[0])
