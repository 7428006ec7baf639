"""Replaced files: files that have just lost their name to another file. An app can still open them briefly.

Natively, an open gets the file that it has found, whatever a rename does then. Here LOOKUP and OPEN are two
requests, and the second try (after ESTALE) may meet the next rename. So a replaced file can be opened for
_KEPT_S longer. After a rename elsewhere (in the store, in another mount) the first OPEN fails, and the daemon
keeps the file that the thread's next LOOKUP finds for the thread's next open, or stat (a LOOKUP and a
GETATTR). A later open without a LOOKUP gets the file with the name."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.node import Node, child_path
from policyfs.store import freeing

_KEPT_S: Final = 0.25
_MOST: Final = 64
_THREADS: Final = 256
"""The limit of threads for each name (of those that will try again) and each node (that is kept for them)."""
_MISSED_S: Final = 5.0
"""The longest time for which the daemon expects another try after an open or a stat that missed its file."""


class ReplacedFiles:
    """A collection of descriptors of replaced files, by node: small and short, since they use disk space."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._threads: dict[int, set[int]] = {}  # by node; without an entry any open may use the file
        self._missed: Expiring[bytes, set[int]] = Expiring(_MISSED_S, most=_MOST)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, node: Node, fd: int, thread: int | None = None) -> None:
        """Take over a descriptor (O_RDONLY or O_PATH) of a node that loses its last name now (*thread* is
        None: for any open), or maybe before the next open of *thread*."""
        threads = self._threads.get(node.nodeid) or set()
        self._let_go(node.nodeid)
        if thread is not None:
            if len(threads) >= _THREADS:  # most of these threads did not open the node
                threads.clear()
            threads.add(thread)
            self._threads[node.nodeid] = threads
        self._kept[node.nodeid] = (fd, time.monotonic() + _KEPT_S)
        while len(self._kept) > _MOST:
            self._let_go(next(iter(self._kept)))

    def find(self, node: Node) -> int:
        """Return the descriptor that is kept for a node; -1 if there is none. Callers must not close it."""
        kept = self._kept.get(node.nodeid)
        return -1 if kept is None or kept[1] < time.monotonic() else kept[0]

    def opened(self, node: Node, thread: int) -> None:
        """Note a thread's open of a node. The last thread for which it was kept closes the descriptor."""
        waiting = self._threads.get(node.nodeid)
        if waiting is not None:
            waiting.discard(thread)
            if not waiting:
                self._let_go(node.nodeid)
        if self._missed:
            threads = self._missed.get(path := node.path())
            if threads is not None:
                threads.discard(thread)
                if not threads:
                    self._missed.pop(path)

    def missed(self, node: Node, thread: int) -> None:
        """Note that an open or a stat did not find the file of its LOOKUP: another has that name now."""
        threads = self._missed.get(path := node.path()) or set()
        if len(threads) >= _THREADS:  # most of these threads did not try again
            threads.clear()
        threads.add(thread)
        self._missed.put(path, threads)

    @property
    def expects_tries(self) -> bool:
        """True if some open or stat has just missed its file, and another try is expected."""
        return bool(self._missed)

    def is_wanted(self, node: Node) -> bool:
        """Return True if an open or a stat by this path has just missed its file: the caller keeps the file
        with the name. For some seconds, or until each such thread has opened the path."""
        return bool(self._missed and self._missed.get(node.path()))

    def is_path_wanted(self, parent: Node, name: bytes) -> bool:
        """Return True for a name for which is_wanted() would return True."""
        return bool(self._missed and self._missed.get(child_path(parent, name)))

    def expire(self) -> bool:
        """Close descriptors that were kept long enough. Return True if the next call is due in 50 ms."""
        while self._kept:
            nodeid, (_, until) = next(iter(self._kept.items()))
            if until >= time.monotonic():
                return True
            self._let_go(nodeid)
        return False

    def close(self) -> None:
        """Close all kept descriptors."""
        while self._kept:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, nodeid: int) -> None:
        self._threads.pop(nodeid, None)
        kept = self._kept.pop(nodeid, None)
        if kept is not None:
            freeing.close(kept[0])
